"""Stands before the store: slow, or telling its clients what is not so."""

import asyncio
import re
from collections import Counter
from typing import Literal

from tidegate_infra.stack import ports

Mood = Literal[
    "honest", "slow", "too many parts", "failed", "failed after all", "silent", "200", "200 in body"
]

MOODS: dict[Mood, str] = {
    "slow": "every answer takes two seconds longer",
    "too many parts": "an insert is refused with 500 and code 252",
    "failed": "nothing is done, and 500 with code 209 says so",
    "failed after all": "it is done, and 500 with code 209 says that it is not",
    "silent": "it is done, and instead of an answer the connection ends two seconds later",
    "200": "an insert is not done; its answer begins with 200 and ends with the exception's header",
    "200 in body": "an insert is not done; its answer begins with 200, and the exception stands in its body",
}
_PAUSE_S = 2.0
_TOO_MANY_PARTS = b"Code: 252. DB::Exception: Too many parts (3001) in all data parts. (TOO_MANY_PARTS)\n"
_TIMED_OUT = b"Code: 209. DB::Exception: Timeout exceeded while reading from socket. (SOCKET_TIMEOUT)\n"


class Liar:
    """A proxy that knows requests and answers.

    Parameters
    ----------
    target
        Port of the store.

    Attributes
    ----------
    lies
        How many requests met each mood but honesty.
    """

    def __init__(self, target: int) -> None:
        self.port = ports.free_port()
        self.mood: Mood = "honest"
        self.lies: Counter[Mood] = Counter()
        self._target = target

    async def serve(self) -> None:
        """Begin to listen."""
        await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            head, body = await _request(client)
            to_client.write(await self._answer(head, body))
            await to_client.drain()
            to_client.close()
        except (OSError, asyncio.IncompleteReadError):
            return  # The store is away, or the client has given up: both learn it below.
        finally:
            if not to_client.is_closing():
                to_client.transport.abort()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        mood, inserts = self.mood, b"insert" in (head.partition(b"\r\n")[0] + body[:64]).lower()
        if mood in ("too many parts", "200", "200 in body") and not inserts:
            mood = "honest"
        if mood != "honest":
            self.lies[mood] += 1
        match mood:
            case "too many parts":
                return _failure(b"500 Internal Server Error", b"252", _TOO_MANY_PARTS)
            case "failed":
                return _failure(b"500 Internal Server Error", b"209", _TIMED_OUT)
            case "200":
                return _failure(b"200 OK", b"252", _TOO_MANY_PARTS)
            case "200 in body":
                return _failure(b"200 OK", b"", _TOO_MANY_PARTS)
            case "slow":
                await asyncio.sleep(_PAUSE_S)
        answer = await self._ask(head, body)
        match mood:
            case "failed after all":
                return _failure(b"500 Internal Server Error", b"209", _TIMED_OUT)
            case "silent":
                await asyncio.sleep(_PAUSE_S)
                raise ConnectionAbortedError
        return answer

    async def _ask(self, head: bytes, body: bytes) -> bytes:
        """Return the store's own answer, which ends with its connection."""
        store, to_store = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            lines = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).removesuffix(b"\r\n")
            to_store.write(lines + b"Connection: close\r\n\r\n" + body)
            await to_store.drain()
            if not (answer := await store.read()):
                raise ConnectionAbortedError
            return answer
        finally:
            to_store.transport.abort()


async def _request(client: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a request: its head with the empty line, and its body as it came."""
    head = await client.readuntil(b"\r\n\r\n")
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        return head, await client.readexactly(int(length[1]))
    if not re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return head, b""
    pieces = []
    size = 1
    while size:
        line = await client.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        pieces += [line, await client.readexactly(size + 2)]
    return head, b"".join(pieces)


def _failure(status: bytes, code: bytes, words: bytes) -> bytes:
    coded = b"X-ClickHouse-Exception-Code: " + code + b"\r\n" if code else b""
    length = b"Content-Length: " + str(len(words)).encode() + b"\r\n"
    return b"HTTP/1.1 " + status + b"\r\n" + coded + length + b"Connection: close\r\n\r\n" + words
