"""ClickHouse's HTTP interface over an `Engine`, as an ASGI application.

The event loop only moves bytes. Every statement runs on a thread of its own, so that no query, however long,
delays another or ``/ping``.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from email.parser import BytesParser
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message as Event
from starlette.types import Receive

from tidegate_infra.store import ask as asks
from tidegate_infra.store import codings
from tidegate_infra.store.accounts import Account, authenticate
from tidegate_infra.store.answer import LONGEST_STATEMENT_BYTES, Answer, Work, answer
from tidegate_infra.store.engine import Engine
from tidegate_infra.store.errors import Code, StatementError
from tidegate_infra.store.stream import KILL_AGAIN_SECONDS, Stream, packed

MOST_STATEMENTS = 64
_SMALLEST_PACKED_BYTES = 1024
_MOST_DRAINED_BYTES = 64 << 20


class Server:
    """The application and its threads.

    Parameters
    ----------
    engine
        Open for as long as the server runs.
    accounts
        Who may ask.
    is_local
        Whether it listens on loopback; then it answers only requests that say so, for a page in a browser can
        send requests to loopback under a name of its own.
    """

    def __init__(self, engine: Engine, accounts: tuple[Account, ...], *, is_local: bool) -> None:
        self._engine = engine
        self._accounts = accounts
        self._is_local = is_local
        self._threads = ThreadPoolExecutor(MOST_STATEMENTS, thread_name_prefix="statement")
        self._running = 0
        self.application = Starlette(
            routes=[
                Route("/ping", _ping, methods=["GET", "HEAD"]),
                Route("/replicas_status", _ping, methods=["GET", "HEAD"]),
                Route("/", self._statement, methods=["GET", "HEAD", "POST"]),
            ]
        )

    def cancel(self) -> None:
        """Cancel what runs now."""
        self._engine.kill()

    def close(self) -> None:
        """Cancel what runs and wait for its threads."""
        self.cancel()
        self._threads.shutdown(cancel_futures=True)

    async def _statement(self, request: Request) -> Response:
        body = _Body(request.receive, asyncio.get_running_loop())
        try:
            return await self._answer(request, body)
        except StatementError as error:
            # Most clients listen only after they have sent all.
            await body.drain()
            return self._refusal(error)

    async def _answer(self, request: Request, body: "_Body") -> Response:
        headers = dict(request.headers)
        if self._is_local:
            _refuse_foreign_pages(headers)
        url = dict(request.query_params)
        if headers.get("content-type", "").startswith("multipart/form-data"):
            url |= _form(headers["content-type"], await body.whole())
        account = authenticate(self._accounts, headers, url)
        if not url.get("query") and request.method != "POST":
            return PlainTextResponse("Ok.\n")
        asked = asks.read(request.method, url, headers, account)
        if self._running >= MOST_STATEMENTS:
            raise StatementError(
                Code.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"{MOST_STATEMENTS} statements run already: try again later",
            )
        work = Work()

        def run() -> Answer:
            return answer(self._engine, asked, codings.unpack(body, asked.request_coding), work)

        done = None
        self._running += 1
        try:
            done = await self._until_gone(run, body, work, asked.mark)
        finally:
            self._running -= done is None or done.open is None
        if done.open is None:
            return _complete(done, asked.answer_coding)
        return Stream(done, asked, self._engine, self._threads, self._end)

    def _end(self) -> None:
        self._running -= 1

    async def _until_gone(self, run: Callable[[], Answer], body: "_Body", work: Work, mark: str) -> Answer:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, run)
        gone = asyncio.create_task(body.until_client_is_gone())
        try:
            await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
            while not running.done():
                if work.only_reads:
                    await loop.run_in_executor(None, self._engine.kill, mark)
                await asyncio.wait((running,), timeout=KILL_AGAIN_SECONDS)
            return await running
        except asyncio.CancelledError:
            body.abandon()
            raise
        finally:
            gone.cancel()

    def _refusal(self, error: StatementError) -> Response:
        headers = {
            "X-ClickHouse-Exception-Code": str(int(error.code)),
            "X-ClickHouse-Server-Display-Name": "tidegate",
            # What is left of the body would be taken for the next request.
            "Connection": "close",
        }
        if error.code == Code.REQUIRED_PASSWORD:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        return PlainTextResponse(error.text(self._engine.version), error.status, headers)


class _Body:
    """Body of a request: taken from the event loop by the thread that works on it."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._loop = loop
        self._ended = asyncio.Event()
        self._awaited: Future[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        while not self._ended.is_set():
            self._awaited = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            yield self._awaited.result()

    def abandon(self) -> None:
        """Let the thread go that waits for more, with an exception."""
        self._ended.set()
        if self._awaited is not None:
            self._awaited.cancel()

    async def whole(self) -> bytes:
        body = bytearray()
        while not self._ended.is_set():
            body += await self._next()
            if len(body) > LONGEST_STATEMENT_BYTES:
                raise StatementError(Code.QUERY_IS_TOO_LARGE, "the form is too large")
        return bytes(body)

    async def drain(self) -> None:
        size = 0
        with suppress(StatementError):
            while not self._ended.is_set() and size < _MOST_DRAINED_BYTES:
                size += len(await self._next())

    async def until_client_is_gone(self) -> None:
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        event: Event = await self._receive()
        if event["type"] == "http.disconnect":
            self._ended.set()
            raise StatementError(Code.ABORTED, "the client went away in the middle of the body")
        if not event.get("more_body", False):
            self._ended.set()
        piece: bytes = event.get("body", b"")
        return piece


def _complete(done: Answer, coding: str) -> Response:
    body = b"".join(done.body)
    headers = dict(done.headers)
    if coding and len(body) >= _SMALLEST_PACKED_BYTES:
        body = b"".join(packed(iter([body]), codings.packer(coding)))
        headers["Content-Encoding"] = coding
    return Response(body, headers=headers)


def _form(content_type: str, body: bytes) -> dict[str, str]:
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            continue
        if part.get_filename() is not None:
            raise StatementError(
                Code.NOT_IMPLEMENTED, f"external data ({name}) is not supported by the embedded store"
            )
        content = part.get_payload(decode=True)
        fields[name] = content.decode(errors="replace") if isinstance(content, bytes) else ""
    return fields


def _refuse_foreign_pages(headers: Mapping[str, str]) -> None:
    origin = headers.get("origin")
    hosts = [f"//{headers.get('host', '')}"] if origin is None else [f"//{headers.get('host', '')}", origin]
    if not all(is_loopback(_host(url)) for url in hosts) or headers.get("sec-fetch-site") == "cross-site":
        raise StatementError(
            Code.ACCESS_DENIED,
            "this store serves its own machine only: no other host names, no pages of other sites",
        )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def _ping(_request: Request) -> Response:
    return PlainTextResponse("Ok.\n")
