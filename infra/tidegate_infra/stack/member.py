"""One supervised child of a stack: when it is started, and when it is started again."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from subprocess import Popen
from typing import Literal, Protocol

from tidegate.errors import ConfigError, DependencyUnavailable, TidegateError
from tidegate_infra.health import STALLED
from tidegate_infra.stack.group import ending

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
# Whoever was ready for so long starts again after the shortest pause.
_SETTLED_SECONDS = 30.0
_PROBE_SECONDS = 1.0


class Child(Protocol):
    """What a member needs of a running child."""

    @property
    def process(self) -> Popen[bytes]:
        """The process itself."""

    def health(self) -> tuple[bool, str]:
        """Whether it does its work, and in its own words why not."""

    def last_words(self) -> str:
        """Return what it said last."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a member of the stack fares.

    Parameters
    ----------
    name
        ``kafka``, ``store``, or as in ``tidegate run NAME``.
    state
        ``starting``, ``ready``, ``waiting`` (lives and cannot do its work), ``restarting`` or ``stopped``.
    detail
        Why it is not ready.
    pid
        Of its process, while there is one.
    restarts
        How often it died.
    """

    name: str
    state: Literal["starting", "ready", "waiting", "restarting", "stopped"] = "stopped"
    detail: str = ""
    pid: int | None = None
    restarts: int = 0


class Member:
    """Keeps one child running.

    Parameters
    ----------
    name
        Of the child.
    launch
        Starts it and returns at once.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, name: str, launch: Callable[[], Child], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.status = Status(name)
        self.child: Child | None = None
        self.error: TidegateError | None = None
        self._launch = launch
        self._clock = clock
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        self._due = self._probe_at = clock()
        self._ready_since: float | None = None

    def turn(self) -> bool:
        """Start the child when it is due, look at it otherwise; return whether the status changed."""
        before = self.status
        now = self._clock()
        if self.child is None:
            if now >= self._due:
                self._start()
        elif (code := self.child.process.poll()) is not None:
            self._died(_error(before.name, code, self.child))
        elif now >= self._probe_at:
            self._probe(self.child)
        return self.status != before

    def stopped(self) -> None:
        """Note that the child was stopped on purpose."""
        self.status = Status(self.status.name, restarts=self.status.restarts)

    def _start(self) -> None:
        try:
            self.child = self._launch()
        except TidegateError as error:
            self._died(error)
            return
        self.status = replace(self.status, state="starting", detail="", pid=self.child.process.pid)
        self._ready_since = None
        self._probe_at = self._clock()

    def _probe(self, child: Child) -> None:
        is_ready, words = child.health()
        now = self._clock()
        if is_ready:
            self._probe_at = now + _PROBE_SECONDS
            self._ready_since = self._ready_since or now
            self.error = None
            self.status = replace(self.status, state="ready", detail="")
        elif words.startswith(STALLED):
            # As an orchestrator does by /livez; the next turn finds it dead.
            child.process.kill()
            self.status = replace(self.status, state="waiting", detail=words)
        elif self._ready_since is None:
            self.status = replace(self.status, detail="" if words == "starting" else words)
        else:
            self.status = replace(self.status, state="waiting", detail=words)

    def _died(self, error: TidegateError) -> None:
        now = self._clock()
        if self._ready_since is not None and now - self._ready_since >= _SETTLED_SECONDS:
            self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        self.child, self.error, self._ready_since = None, error, None
        self._due = now + self._pause_seconds
        self.status = replace(
            self.status,
            state="restarting",
            detail=f"{error}; again in {self._pause_seconds:g} s",
            pid=None,
            restarts=self.status.restarts + 1,
        )
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)


def _error(name: str, code: int, child: Child) -> TidegateError:
    if code < 0:
        return DependencyUnavailable(f"{name} {ending(code)}")
    kind = ConfigError if code in (2, ConfigError.exit_code) else DependencyUnavailable
    return kind(f"{name} {ending(code)}: {child.last_words()}")
