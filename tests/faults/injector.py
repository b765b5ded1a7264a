"""Does what a schedule says to a running stack, and to nothing else."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.history import History
from tests.faults.receiver import MoodyReceiver
from tests.faults.schedule import Fault
from tests.faults.traffic import App, Stranger

from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup, ending
from tidegate_infra.stack.supervisor import Stack

_REACHED_SECONDS = 30.0
"""How long a process may take to start and to get to its point."""


class Injector:
    """Injects faults.

    Parameters
    ----------
    stack
        Whose processes are struck.
    app, stranger
        Who else does harm.
    receiver
        Of webhooks.
    history
        Gets what was done.
    directory
        For logs of second processes.
    """

    def __init__(
        self,
        stack: Stack,
        app: App,
        stranger: Stranger,
        receiver: MoodyReceiver,
        history: History,
        directory: Path,
    ) -> None:
        self.ends: list[tuple[str, int]] = []
        self.markers: dict[str, Path] = {}
        self._stack = stack
        self._app = app
        self._stranger = stranger
        self._receiver = receiver
        self._history = history
        self._directory = directory
        self._group = ProcessGroup()
        self._frozen: set[int] = set()
        self._failures: list[Exception] = []

    def play(self, faults: list[Fault]) -> None:
        """Inject every fault at its time; returns when the last one is over."""
        began_s = time.monotonic()
        threads = []
        for number, fault in enumerate(faults):
            time.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
            threads.append(threading.Thread(target=self._inject, args=(number, fault), name=str(fault)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def heal(self) -> None:
        """Let everything run again."""
        for pid in list(self._frozen):
            self._signal(pid, signal.SIGCONT)
        self._receiver.be("fine")
        os.environ.pop("TIDEGATE_CRASH_AT", None)
        self._group.close()
        if self._failures:
            raise self._failures[0]

    def _inject(self, number: int, fault: Fault) -> None:
        self._history.note("fault", **fault.plain())
        do: dict[str, Callable[[], object]] = {
            "kill": lambda: self._signal(self._pid(fault.target), signal.SIGKILL),
            "crash": lambda: self._crash(number, fault.target),
            "freeze": lambda: self._freeze(fault),
            "outlast": lambda: self._freeze(fault),
            "join": lambda: self._join(number, fault),
            "replay": lambda: self._stranger.replay(fault.target),
            "poison": lambda: self._stranger.poisoned(fault.target),
            "hot": lambda: self._hot(fault.seconds),
            "skew": lambda: self._app.skewed(fault.target),
            "webhook": lambda: self._moody(fault),
        }
        try:
            do[fault.kind]()
        except Exception as error:  # noqa: BLE001 - raised again by `heal`
            self._history.note("harness failed", fault=str(fault), error=repr(error))
            self._failures.append(error)
        self._history.note("over", fault=str(fault))

    def _pid(self, name: str) -> int | None:
        return next(status.pid for status in self._stack.statuses if status.name == name)

    def _signal(self, pid: int | None, number: signal.Signals) -> None:
        """Signal a process that may have ended a moment ago."""
        if pid is None:
            self._history.note("was down already")
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self._history.note("was gone already", pid=pid)

    def _crash(self, number: int, point: str) -> None:
        """Start the process again with the point set; it kills itself when it gets there, once."""
        self.markers[point] = marker = self._directory / f"crashed-{number}"
        os.environ |= {"TIDEGATE_CRASH_AT": point, "TIDEGATE_CRASH_ONCE": str(marker)}
        self._signal(self._pid(point.partition(".")[0]), signal.SIGKILL)
        deadline_s = time.monotonic() + _REACHED_SECONDS
        while not marker.exists() and time.monotonic() < deadline_s:
            time.sleep(0.1)

    def _freeze(self, fault: Fault) -> None:
        pid = self._pid(fault.target)
        self._signal(pid, signal.SIGSTOP)
        if pid is not None:
            self._frozen.add(pid)
            time.sleep(fault.seconds)
            self._frozen.discard(pid)
            self._signal(pid, signal.SIGCONT)

    def _join(self, number: int, fault: Fault) -> None:
        settings = self._stack.settings.model_copy(update={"health_port": ports.free_port()})
        log = self._directory / f"{fault.target}-second-{number}.log"
        second = program.start(fault.target, settings, group=self._group, log=log, wait_seconds=60)
        time.sleep(fault.seconds)
        if number % 2:
            second.kill()
        else:
            second.stop(15)
            # On a busy machine it may be asked before Python runs: then there is nothing to put in order.
            if second.process.returncode != -signal.SIGTERM:
                self.ends.append((fault.target, second.process.returncode))
        self._history.note("second left", name=fault.target, how=ending(second.process.returncode))

    def _hot(self, seconds: float) -> None:
        self._app.hot_until_s = time.monotonic() + seconds
        time.sleep(seconds)

    def _moody(self, fault: Fault) -> None:
        self._receiver.be(fault.target)  # type: ignore[arg-type]
        time.sleep(fault.seconds)
        self._receiver.be("fine")
