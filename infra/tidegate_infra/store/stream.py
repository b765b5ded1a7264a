"""Answers that are sent while their statement still runs."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tidegate_infra.store import codings
from tidegate_infra.store.answer import Answer
from tidegate_infra.store.ask import Ask
from tidegate_infra.store.engine import Engine
from tidegate_infra.store.errors import StatementError

# The engine may just have missed it: between two of its steps a statement is in no list.
KILL_AGAIN_SECONDS = 1.0


class BrokenStreamError(Exception):
    """An answer that had begun could not be finished; the connection is cut so that the client knows."""


class Stream(StreamingResponse):
    """An answer whose pieces are fetched on a thread, one after the other.

    Parameters
    ----------
    done
        The answer, whose statement is open.
    asked
        What was asked for.
    engine
        Where the statement runs.
    threads
        On which pieces are fetched.
    end
        Called once, after everything is closed.
    """

    def __init__(
        self,
        done: Answer,
        asked: Ask,
        engine: Engine,
        threads: ThreadPoolExecutor,
        end: Callable[[], None],
    ) -> None:
        tag = secrets.token_hex(8)
        self._done = done
        self._threads = threads
        self._cancel = partial(engine.kill, asked.mark)
        self._end = end
        self._pieces = _with_exception(done.body, tag, engine.version)
        self._fetching: Future[bytes | None] | None = None
        headers = {**done.headers, "X-ClickHouse-Exception-Tag": tag}
        if asked.answer_coding:
            headers["Content-Encoding"] = asked.answer_coding
            self._pieces = packed(self._pieces, codings.packer(asked.answer_coding))
        super().__init__(self._fetch(), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and close what is open however that ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._close))
            self._end()

    async def _fetch(self) -> AsyncIterator[bytes]:
        while True:
            self._fetching = self._threads.submit(next, self._pieces, None)
            piece = await asyncio.wrap_future(self._fetching)
            if piece is None:
                return
            yield piece

    def _close(self) -> None:
        while self._fetching is not None and not self._fetching.done():
            self._cancel()
            wait([self._fetching], timeout=KILL_AGAIN_SECONDS)
        if self._done.open is not None:
            self._done.open.close()


def packed(pieces: Iterator[bytes], packer: codings.Packer) -> Iterator[bytes]:
    """Pack an answer piece by piece."""
    try:
        for piece in pieces:
            if ready := packer.compress(piece):
                yield ready
    except BrokenStreamError:
        yield packer.flush()
        raise
    yield packer.flush()


def _with_exception(pieces: Iterator[bytes], tag: str, version: str) -> Iterator[bytes]:
    try:
        yield from pieces
    except StatementError as error:
        # The status is long sent: a server then puts the error between marks that no data can contain.
        text = error.text(version).encode()
        length = str(len(text)).encode()
        mark = tag.encode()
        yield b"\r\n__exception__\r\n%b\r\n%b%b %b\r\n__exception__\r\n" % (mark, text, length, mark)
        raise BrokenStreamError(error.message) from error
