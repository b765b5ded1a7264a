"""One long-running process: settings, logs, health, signals and exit codes around a ``main``."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import FrameType

import structlog
from prometheus_client import CollectorRegistry

from tidegate.errors import ConfigError, DependencyUnavailable, InvariantBroken, TidegateError
from tidegate_infra import logs
from tidegate_infra.health import Health, HealthServer
from tidegate_infra.settings import Settings

ENTRY_POINTS = "tidegate.processes"
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Process:
    """What a ``main`` is handed: it works until `stopping` is set, and says how it fares.

    Parameters
    ----------
    name
        As in ``tidegate run NAME``.
    settings
        Of this process.
    stopping
        Set by SIGTERM and Ctrl-C: finish the work in hand, settle it, return.
    health
        Behind ``/livez``, ``/readyz`` and ``/metrics``.
    """

    name: str
    settings: Settings
    stopping: threading.Event = field(default_factory=threading.Event)
    health: Health = field(default_factory=Health)

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """Logger of this process."""
        logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(f"tidegate.{self.name}")
        return logger

    @property
    def metrics(self) -> CollectorRegistry:
        """Where the process registers what ``/metrics`` shows."""
        return self.health.metrics

    def beat(self) -> None:
        """Note that the loop turned; call it in every turn, at least each half minute."""
        self.health.beat()

    def ready(self) -> None:
        """Note that the process does its work; the first time is logged."""
        if not self.health.is_ready:
            self.log.info("ready")
        self.health.ready()

    def not_ready(self, why: str) -> None:
        """Note that the process cannot do its work now, and why."""
        self.health.not_ready(why)


Main = Callable[[Process], None]


def names() -> list[str]:
    """Names of the processes that are installed."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def find(name: str) -> Main:
    """Return the ``main`` of a process.

    Raises
    ------
    ConfigError
        There is no process of that name.
    """
    points = entry_points(group=ENTRY_POINTS, name=name)
    if not points:
        raise ConfigError(f"no process is called {name!r}: there are {', '.join(names())}")
    main: Main = next(iter(points)).load()
    return main


def run(name: str, main: Main, settings: Settings, wait_seconds: float = 0) -> int:
    """Run `main` until it returns or fails, and return the exit code.

    Parameters
    ----------
    name
        Of the process, for logs.
    main
        Gets a `Process`. While it has not been ready it may raise `DependencyUnavailable`, after giving back
        what it had opened, and is then called again with a new `Process`.
    settings
        Of the process.
    wait_seconds
        How long a dependency may be away before the process is ready for the first time.
    """
    logs.configure(settings, name)
    health = Health()
    server = None
    with _stopping_signals() as stopping:
        try:
            server = HealthServer(health, settings.health_port, settings.health_host)
            structlog.stdlib.get_logger().info("started", health_port=server.port)
            _run(name, main, settings, stopping, server, time.monotonic() + wait_seconds)
        except TidegateError as error:
            _say(settings.hide(f"{name}: {error}"))
            return error.exit_code
        except Exception:  # noqa: BLE001  # the last stop: logged with its traceback, ended with a code
            structlog.stdlib.get_logger().exception("crashed")
            return InvariantBroken.exit_code
        finally:
            if server is not None:
                server.close()
    return 0


def _run(
    name: str,
    main: Main,
    settings: Settings,
    stopping: threading.Event,
    server: HealthServer,
    deadline: float,
) -> None:
    pause_seconds = 0.25
    while not stopping.is_set():
        process = Process(name, settings, stopping, server.health)
        try:
            main(process)
        except DependencyUnavailable as error:
            if process.health.is_ready or time.monotonic() + pause_seconds > deadline:
                raise
            process.log.warning("waiting", reason=str(error), again_in_seconds=pause_seconds)
        else:
            return
        stopping.wait(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
        server.health = Health()
        server.health.not_ready("waiting for a dependency")


@contextmanager
def _stopping_signals() -> Iterator[threading.Event]:
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(arguments: Sequence[str]) -> int:
    """Run a process, ``NAME [--wait SECONDS]``, with settings from the environment."""
    match arguments:
        case [name]:
            wait_seconds = 0.0
        case [name, "--wait", seconds]:
            wait_seconds = float(seconds)
        case _:
            _say("usage: python -m tidegate_infra.process NAME [--wait SECONDS]")
            return 2
    try:
        settings = Settings.load()
        main = find(name)
    except TidegateError as error:
        _say(f"{name}: {error}")
        return error.exit_code
    return run(name, main, settings, wait_seconds)


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    # Not this module's own functions: `main` is given a Process of the module that others import.
    from tidegate_infra import process

    sys.exit(process.start(sys.argv[1:]))
