"""Links between processes, through proxies of loopback that can be made slow, cut, or half open."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

from tidegate_infra.stack import ports

Way = Literal["there", "back"]

_PIECE_BYTES = 1 << 16


class Link:
    """One proxy: whoever connects to `port` reaches `target` of loopback, as well as the link lets him.

    Parameters
    ----------
    name
        Of its client's side, such as ``sink``.
    target
        Port of the server.
    """

    def __init__(self, name: str, target: int) -> None:
        self.name = name
        self.port = ports.free_port()
        self.delay_s = 0.0
        self._target = target
        self._is_cut = False
        self._open = {"there": asyncio.Event(), "back": asyncio.Event()}
        self._writers: set[asyncio.StreamWriter] = set()
        for way in self._open.values():
            way.set()

    async def serve(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    def close(self) -> None:
        """Listen no more."""
        self._server.close()

    async def cut(self) -> None:
        """Reset every connection, and each new one at once."""
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    async def hold(self, *ways: Way) -> None:
        """Take bytes and pass none on: they come late, after whoever waited for them has given up."""
        for way in ways:
            self._open[way].clear()

    async def heal(self) -> None:
        """Be a good link again."""
        self._is_cut, self.delay_s = False, 0.0
        for way in self._open.values():
            way.set()

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._writers.add(to_client)
        try:
            if self._is_cut:
                return
            server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(to_server)
            try:
                # Whichever side ends first, the other still gets what is on its way.
                await asyncio.gather(
                    self._pass("there", client, to_server), self._pass("back", server, to_client)
                )
            finally:
                self._writers.discard(to_server)
                to_server.transport.abort()
        except OSError:
            return  # The server is away, or somebody reset the connection: the client learns it below.
        finally:
            self._writers.discard(to_client)
            to_client.transport.abort()

    async def _pass(self, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(_PIECE_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._open[way].wait()
            sink.write(piece)
            await sink.drain()
        await self._open[way].wait()
        with suppress(OSError):
            sink.write_eof()


class Network:
    """Runs proxies in a thread of its own; closing it ends them all."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def add(self, name: str, target: int) -> Link:
        """Open a link to a port."""
        link = self.links[name] = Link(name, target)
        self.do(link.serve())
        return link

    def do(self, what: Coroutine[Any, Any, None]) -> None:
        """Have something done in the proxies' own thread, and wait for it."""
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for link in self.links.values():
            link.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
