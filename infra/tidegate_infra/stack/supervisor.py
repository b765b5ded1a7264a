"""The local stack: starts everything in order of readiness, restarts what dies, leaves nothing behind."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidegate.errors import DependencyUnavailable, InvariantBroken
from tidegate_infra import process
from tidegate_infra.clickhouse import client, migrations
from tidegate_infra.kafka import topics
from tidegate_infra.settings import Settings
from tidegate_infra.stack import jars, kafka, ports, program
from tidegate_infra.stack.directory import DataDirectory
from tidegate_infra.stack.group import ProcessGroup, stop
from tidegate_infra.stack.member import Member, Status

_TURN_SECONDS = 0.1
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
# How long what was started may wait for what it depends on.
_DEPENDENCY_SECONDS = 60.0
_LOG_BYTES = 16 << 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stack:
    """Kafka, the store and our processes on this machine, in one data directory.

    Nothing that it starts outlives this process, even when this process is killed. Used in a ``with`` of the
    main thread, Ctrl-C, SIGTERM and a closed terminal stop everything in order.

    Parameters
    ----------
    data_dir
        Holds everything; made on first use. One stack runs in it at a time, and several directories may
        have stacks at the same time.
    processes
        Names as in ``tidegate run NAME``; all that are installed unless given.
    kafka_port, store_port
        Of 127.0.0.1; 0 takes any free one. stack.json tells the chosen ones.
    settings
        Settings that differ from the environment's, such as ``{"watermark": "data"}``.
    demo
        Whether a demo is played: the directory begins empty, without what an earlier demo left there.
    on_status
        Called with each new status, also from the supervising thread.

    Examples
    --------
    ::

        with Stack(Path(".tidegate"), on_status=print) as stack:
            stack.run_until_stopped()
    """

    def __init__(
        self,
        data_dir: Path,
        processes: Sequence[str] | None = None,
        *,
        kafka_port: int = 0,
        store_port: int = 0,
        settings: Mapping[str, object] | None = None,
        demo: bool = False,
        on_status: Callable[[Status], object] = lambda _: None,
    ) -> None:
        names = process.names() if processes is None else processes
        self._directory = DataDirectory(data_dir, demo=demo)
        self._kafka_port = kafka_port
        self._store_port = store_port
        self._overrides = dict(settings or {})
        self._on_status = on_status
        self._base = [Member("kafka", self._launch_kafka), Member("store", partial(self._launch, "store"))]
        self._processes = [Member(name, partial(self._launch, name)) for name in names if name != "store"]
        self._started: list[Member] = []
        self._is_up = False
        self._health_ports: dict[str, int] = {}
        self._signals: dict[int, Any] = {}
        self._resources = ExitStack()
        self._ending = threading.Event()
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    @property
    def settings(self) -> Settings:
        """Settings that lead to this stack, once it has started."""
        return self._settings

    @property
    def statuses(self) -> list[Status]:
        """How every member fares, in the order of their start."""
        return [member.status for member in self._members]

    def start(self) -> None:
        """Start everything and return when all of it is ready; on failure nothing stays behind.

        Raises
        ------
        Refused
            A stack already runs in the data directory, or a demo would stand among other data.
        ConfigError
            A setting is wrong, a port is taken, Java or Maven is missing, or the directory is half deleted.
        DependencyUnavailable
            A member ended or was not ready in time; the message quotes its last words.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def run_until_stopped(self) -> None:
        """Return on Ctrl-C or SIGTERM.

        Raises
        ------
        InvariantBroken
            As `check`.
        """
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            return
        self.check()

    def check(self) -> None:
        """Return while the stack is supervised.

        Raises
        ------
        InvariantBroken
            It cannot go on, such as when its directory was deleted.
        """
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop everything: first what works, then what it works on."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        for members in (self._processes, self._base):
            _stop(members)
            for member in members:
                member.stopped()
                self._on_status(member.status)
        self._resources.close()

    def __enter__(self) -> Self:
        # Everything, also the work inside the `with`, is left by the one way that Ctrl-C takes.
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._signals[number] = signal.signal(number, signal.default_int_handler)
        try:
            self.start()
        except BaseException:
            self._restore_signals()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Stopping ends by itself within seconds; a second Ctrl-C must not leave it half done.
        for number in self._signals:
            signal.signal(number, signal.SIG_IGN)
        try:
            self.stop()
        finally:
            self._restore_signals()

    def _restore_signals(self) -> None:
        for number, handler in self._signals.items():
            signal.signal(number, handler)

    @property
    def _members(self) -> list[Member]:
        return [*self._base, *self._processes]

    def _start(self) -> None:
        self._resources.enter_context(self._directory)
        self._group = self._resources.enter_context(ProcessGroup())
        self._settings = self._load()
        if not jars.are_present():
            self._on_status(Status("kafka", "starting", "fetching its jars with Maven, this once"))
        deadline = time.monotonic() + _START_SECONDS
        self._bring_up(self._base, deadline, is_patient=False)
        topics.apply(self._settings)
        with closing(client.connect(self._settings)) as connection:
            migrations.up(connection)
        self._directory.mark_complete()
        self._bring_up(self._processes, deadline, is_patient=True)
        self._is_up = True
        self._write()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    def _load(self) -> Settings:
        kafka_port = kafka.choose_port(self._directory.path / "kafka", self._kafka_port)
        store_port = ports.choose(self._store_port, "the store", flag="--store-port")
        local = {
            "data_dir": self._directory.path,
            "kafka": f"127.0.0.1:{kafka_port}",
            "kafka_security_protocol": "plaintext",
            "clickhouse": f"http://127.0.0.1:{store_port}/tidegate",
            "clickhouse_user": "default",
            "clickhouse_password": "",
            "health_host": "127.0.0.1",
        }
        return Settings.load(**self._overrides, **local)

    def _launch_kafka(self) -> kafka.RunningKafka:
        port = int(self._settings.kafka.rpartition(":")[2])
        return kafka.launch(
            self._directory.path / "kafka", port, log=self._fresh_log("kafka"), group=self._group
        )

    def _launch(self, name: str) -> program.Program:
        port = self._health_ports[name] = ports.choose(0, name, self._health_ports.get(name))
        settings = self._settings.model_copy(update={"health_port": port})
        return program.start(
            name,
            settings,
            group=self._group,
            log=self._fresh_log(name),
            wait_seconds=_DEPENDENCY_SECONDS,
        )

    def _log_of(self, name: str) -> Path:
        return self._directory.path / "logs" / f"{name}.log"

    def _fresh_log(self, name: str) -> Path:
        log = self._log_of(name)
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return log

    def _bring_up(self, members: Sequence[Member], deadline: float, *, is_patient: bool) -> None:
        self._started += members
        while True:
            self._turn()
            errors = [member.error for member in members if member.error is not None]
            for error in errors:
                if not (is_patient and isinstance(error, DependencyUnavailable)):
                    raise error
            late = [member.status for member in members if member.status.state != "ready"]
            if not late:
                return
            if time.monotonic() > deadline:
                who = "; ".join(f"{status.name} ({status.detail or status.state})" for status in late)
                logs = self._directory.path / "logs"
                raise DependencyUnavailable(f"not ready after {_START_SECONDS:.0f} s: {who}; see {logs}")
            time.sleep(_TURN_SECONDS)

    def _supervise(self) -> None:
        try:
            while not self._ending.wait(_TURN_SECONDS):
                self._turn()
        except Exception as error:  # noqa: BLE001  # raised again where somebody waits for it
            self._failure = error
        finally:
            self._ended.set()

    def _turn(self) -> None:
        if not self._group.is_guarded:
            raise InvariantBroken("the guardian of the stack's processes was killed: start the stack again")
        if not self._directory.is_ours:
            raise InvariantBroken(
                f"{self._directory.path} was deleted under the running stack: start it again"
            )
        changed = [member for member in self._started if member.turn()]
        for member in changed:
            self._on_status(member.status)
        if changed:
            self._write()

    def _write(self) -> None:
        self._directory.write(
            {
                "pid": os.getpid(),
                "ready": self._is_up and all(member.status.state == "ready" for member in self._members),
                "settings": self._settings.public(),
                "processes": {
                    status.name: asdict(status)
                    | {
                        "health_port": self._health_ports.get(status.name),
                        "log": str(self._log_of(status.name)),
                    }
                    for status in self.statuses
                },
            }
        )


def _stop(members: Sequence[Member]) -> None:
    children = [member.child for member in members if member.child is not None]
    for child in children:
        child.process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for child in children:
        stop(child.process, max(0.0, deadline - time.monotonic()))
