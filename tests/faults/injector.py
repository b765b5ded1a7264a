"""Does what a schedule says to a running system, and to nothing else."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

from tests.faults.history import History
from tests.faults.liar import Mood
from tests.faults.links import Way
from tests.faults.newcomer import Change, Registry
from tests.faults.operator import Operator
from tests.faults.receiver import Mood as ReceiversMood
from tests.faults.receiver import MoodyReceiver
from tests.faults.schedule import Fault
from tests.faults.stranger import Stranger
from tests.faults.system import LinkedStack
from tests.faults.traffic import App

from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup, ending

_REACHED_SECONDS = 30.0
"""How long a process may take to start and to get to its point."""

_WAYS: tuple[tuple[Way, ...], ...] = (*((way,) for way in get_args(Way)), get_args(Way))
_ROLLOUTS = ("good-change", "bad-change")


class Injector:
    """Injects faults.

    Parameters
    ----------
    stack
        Whose processes, links and disks are struck.
    app, stranger, operator
        Who else does harm.
    receiver
        Of webhooks.
    registry
        Of schemas.
    history
        Gets what was done.
    directory
        For logs of second processes.
    """

    def __init__(
        self,
        stack: LinkedStack,
        app: App,
        stranger: Stranger,
        operator: Operator,
        receiver: MoodyReceiver,
        registry: Registry,
        history: History,
        directory: Path,
    ) -> None:
        self.ends: list[tuple[str, int]] = []
        self.markers: dict[str, Path] = {}
        self.doomed: list[Path] = []
        self._stack = stack
        self._app = app
        self._stranger = stranger
        self._operator = operator
        self._receiver = receiver
        self._registry = registry
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
        for link in self._stack.network.links.values():
            self._stack.network.do(link.heal())
        for disk in self._stack.disks.values():
            disk.free()
        self._stack.liar.mood = "honest"
        self._registry.is_away = False
        self._receiver.be("fine")
        os.environ.pop("TIDEGATE_CRASH_AT", None)
        self._group.close()
        if self._failures:
            raise self._failures[0]

    def _inject(self, number: int, fault: Fault) -> None:
        if fault.kind == "disk" and not self._stack.disks:
            self._history.note("not possible here", fault=str(fault))
            return
        self._history.note("fault", **fault.plain())
        target = fault.target
        do: dict[str, Callable[[], object]] = {
            "kill": lambda: self._signal(self._pid(target), signal.SIGKILL),
            "restart": lambda: self._signal(self._pid(target), signal.SIGTERM),
            "crash": lambda: self._crash(number, target),
            "freeze": lambda: self._freeze(fault),
            "outlast": lambda: self._freeze(fault),
            "join": lambda: self._join(number, fault),
            "storm": lambda: self._storm(number, fault),
            "delay": lambda: self._delay(number, fault),
            "cut": lambda: self._cut(fault),
            "hold": lambda: self._hold(number, fault),
            "store": lambda: self._lie(fault),
            "disk": lambda: self._fill(fault),
            "die": lambda: self._die(number, fault.seconds),
            "replay": lambda: self._stranger.replay(target),
            "rewind": lambda: self._stranger.replay(target, most=None),
            "poison": lambda: self._stranger.poisoned(target, self._app.event_us()),
            "schema": lambda: self._newcomer(cast("Change", target)),
            "registry": lambda: self._unregistered(fault),
            "hot": lambda: self._app.prefer("one", fault.seconds),
            "idle": lambda: self._app.prefer("all but one", fault.seconds),
            "skew": lambda: self._app.skewed(target),
            "webhook": lambda: self._moody(fault),
            "act": lambda: self._act(number, target),
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
        second = self._start_beside(fault.target, f"second-{number}")
        time.sleep(fault.seconds)
        self._leave(second, in_order=number % 2 == 0)

    def _storm(self, number: int, fault: Fault) -> None:
        others = []
        for which in ("second", "third"):
            others.append(self._start_beside(fault.target, f"{which}-{number}"))
            time.sleep(1)
        time.sleep(fault.seconds)
        for other in others:
            self._leave(other, in_order=other is others[0])
            time.sleep(1)

    def _start_beside(self, name: str, log: str) -> program.Program:
        settings = self._stack.settings_of(name).model_copy(update={"health_port": ports.free_port()})
        path = self._directory / f"{name}-{log}.log"
        return program.start(name, settings, group=self._group, log=path, wait_seconds=60)

    def _leave(self, other: program.Program, *, in_order: bool) -> None:
        if in_order:
            other.stop(15)
            # On a busy machine it may be asked before Python runs: then there is nothing to put in order.
            if other.process.returncode != -signal.SIGTERM:
                self.ends.append((other.name, other.process.returncode))
        else:
            other.kill()
        self._history.note("left", name=other.name, how=ending(other.process.returncode))

    def _delay(self, number: int, fault: Fault) -> None:
        link = self._stack.network.links[fault.target]
        link.delay_s = 0.1 * (1 + number % 4)
        time.sleep(fault.seconds)
        link.delay_s = 0.0

    def _cut(self, fault: Fault) -> None:
        network = self._stack.network
        network.do(network.links[fault.target].cut())
        time.sleep(fault.seconds)
        network.do(network.links[fault.target].heal())

    def _hold(self, number: int, fault: Fault) -> None:
        network = self._stack.network
        network.do(network.links[fault.target].hold(*_WAYS[number % len(_WAYS)]))
        time.sleep(fault.seconds)
        network.do(network.links[fault.target].heal())

    def _lie(self, fault: Fault) -> None:
        self._stack.liar.mood = cast("Mood", fault.target)
        time.sleep(fault.seconds)
        self._stack.liar.mood = "honest"

    def _fill(self, fault: Fault) -> None:
        disk = self._stack.disks[fault.target]
        disk.fill()
        time.sleep(fault.seconds)
        disk.free()

    def _die(self, number: int, seconds: float) -> None:
        told = self._directory / f"doomed-{number}"
        command = [sys.executable, "-m", "tests.faults.doomed", told, self._stack.settings_of("app").kafka]
        command += [self._stack.settings.topic_prefix, self._app.event_us()]
        app = self._group.spawn([str(word) for word in command], log=self._directory / f"doomed-{number}.log")
        deadline_s = time.monotonic() + _REACHED_SECONDS
        while not told.exists() and app.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.05)
        time.sleep(seconds)
        app.kill()
        app.wait()
        if told.exists():
            self.doomed.append(told)

    def _newcomer(self, how: Change) -> None:
        self._stranger.joins(how, self._registry.register(how), self._app.event_us())

    def _unregistered(self, fault: Fault) -> None:
        self._registry.is_away = True
        self._newcomer(cast("Change", fault.target))
        time.sleep(fault.seconds)
        self._registry.is_away = False

    def _moody(self, fault: Fault) -> None:
        self._receiver.be(cast("ReceiversMood", fault.target))
        time.sleep(fault.seconds)
        self._receiver.be("fine")

    def _act(self, number: int, action: str) -> None:
        asked = self._operator.act(action, _ROLLOUTS[number % len(_ROLLOUTS)])
        self._history.note("acted", action=action, rollout=asked.rollout, code=asked.code)
