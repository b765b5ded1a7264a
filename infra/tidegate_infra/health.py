"""``/livez``, ``/readyz`` and ``/metrics`` of a process, on a thread of their own."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tidegate.errors import ConfigError

STALLED = "the loop stands still"
"""How the words of a process begin that only a restart can help."""


class Health:
    """What a process knows about itself.

    Live means that its loop turned lately: restart it when not. Ready means that it does its work: assigned,
    caught up enough, its store reachable.

    Parameters
    ----------
    stalled_after_seconds
        A loop that has not turned for so long is dead. Longer than the longest single step of any loop.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, stalled_after_seconds: float = 60, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics = CollectorRegistry()
        self._stalled_after_seconds = stalled_after_seconds
        self._clock = clock
        self._last_beat = clock()
        self._not_ready_because = "starting"

    def beat(self) -> None:
        """Note that the loop turned."""
        self._last_beat = self._clock()

    def ready(self) -> None:
        """Note that the process does its work."""
        self._not_ready_because = ""

    def not_ready(self, why: str) -> None:
        """Note that the process cannot do its work now, and why."""
        self._not_ready_because = why

    @property
    def is_ready(self) -> bool:
        """Whether the process does its work."""
        return not self._not_ready_because

    def livez(self) -> tuple[int, str]:
        """HTTP status and words for ``/livez``."""
        silent_seconds = self._clock() - self._last_beat
        if silent_seconds > self._stalled_after_seconds:
            return 503, f"{STALLED}: no turn for over {self._stalled_after_seconds:.0f} s"
        return 200, "live"

    def readyz(self) -> tuple[int, str]:
        """HTTP status and words for ``/readyz``."""
        status, words = self.livez()
        if status != 200 or self.is_ready:
            return (status, words) if status != 200 else (200, "ready")
        return 503, self._not_ready_because


class HealthServer:
    """Serves a `Health` over HTTP until closed.

    Parameters
    ----------
    health
        What to tell.
    port
        0 takes a free one; see `port`.
    host
        Loopback unless a container's probes and scrapers have to reach it.

    Raises
    ------
    ConfigError
        The port is in use.
    """

    def __init__(self, health: Health, port: int, host: str = "127.0.0.1") -> None:
        self.health = health
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise ConfigError(
                f"health port {port} cannot be opened ({error.strerror}): TIDEGATE_HEALTH_PORT=0 takes any"
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="health", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/livez":
                        self._say(*server.health.livez())
                    case "/readyz":
                        self._say(*server.health.readyz())
                    case "/metrics":
                        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                        self._answer(200, encode(server.health.metrics), content_type)
                    case _:
                        self._say(404, "try /livez, /readyz or /metrics")

            def _say(self, status: int, words: str) -> None:
                self._answer(status, f"{words}\n".encode(), "text/plain; charset=utf-8")

            def _answer(self, status: int, body: bytes, content_type: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Probes are not news."""

        return Handler
