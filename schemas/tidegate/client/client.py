"""What stands behind `tidegate.emit`: checks an event on the app's thread and queues it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.assignment import Assignment
from tidegate.client import bodies, screen
from tidegate.client.clock import SYSTEM, Clock
from tidegate.client.completion import complete
from tidegate.client.configuration import Configuration
from tidegate.client.encoding import Encoder
from tidegate.client.handle import HandleError, attach, point_at, seal
from tidegate.client.notices import Notices
from tidegate.client.queue import BoundedQueue
from tidegate.client.reports import Account
from tidegate.client.rules import EVENTS, Event, Problem, problems
from tidegate.client.transport import Transport, kafka_transport
from tidegate.client.worker import Flush, Item, Queued, Worker
from tidegate.records import Evaluation, Feedback, LLMCall

_WAIT_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a producer's events so far."""

    producer_id: str
    accepted: int
    delivered: int
    failed: int
    dropped: dict[str, int]


class Client:
    """Sends events to Kafka from a thread of its own. `tidegate.configure` makes one.

    Parameters
    ----------
    configuration
        Its settings.
    make_transport
        Makes what events are handed to, in the worker's thread; Kafka unless given.
    clock
        The machine's clocks unless given.
    """

    def __init__(
        self,
        configuration: Configuration,
        make_transport: Callable[[], Transport] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.configuration = configuration
        self.clock = clock
        self.notices = Notices(clock)
        self._encoder = Encoder(configuration, self.notices)
        self._make_transport = make_transport or kafka_transport(configuration, self.notices)
        from importlib import metadata  # slow, like all that the encoder loads: not when the app is imported

        screen.prepare()
        self._sdk_version = metadata.version("tidegate")
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Begin as a new producer with nothing queued; what a forked child does first."""
        self._account = Account(self.configuration, self._sdk_version)
        self._queue: BoundedQueue[Item] = BoundedQueue(
            self.configuration.queue_events, self.configuration.queue_bytes
        )
        self._worker: Worker | None = None
        self._starting = threading.RLock()

    @property
    def counts(self) -> Counts:
        """What became of the events so far."""
        account = self._account
        return Counts(
            account.producer_id, account.last_seq, account.delivered, account.failed, account.dropped
        )

    def emit(
        self, event: Event, assignment: Assignment | None = None, target: str | LLMCall | None = None
    ) -> str | None:
        """See `tidegate.emit`."""
        try:
            return self._emit(event, assignment, target)
        except Exception as error:  # noqa: BLE001 - a fault of ours must never reach the app
            self._account.drop("internal")
            self.notices.warn("internal", "an event was dropped: %s: %s", type(error).__name__, error)
            return None

    def _emit(self, event: Event, assignment: Assignment | None, target: str | LLMCall | None) -> str | None:
        if type(event) not in EVENTS:
            self.refuse(event, Problem("type", "wrong_type", "no LLMCall, Feedback or Evaluation"))
            return None
        if assignment is not None and isinstance(event, LLMCall):
            if not isinstance(assignment, Assignment):
                words = f"{type(assignment).__name__} where what Router.assign returned belongs"
                self.refuse(event, Problem("assignment", "wrong_type", words))
                return None
            assignment.mark(event)
        if target is not None and not isinstance(event, LLMCall):
            try:
                self._point(event, target)
            except HandleError as error:
                self.refuse(event, Problem("target", "handle", str(error)))
                return None
        complete(event, self.configuration, self.clock.now_us())
        if not self.configuration.content:
            bodies.withhold(event)
        if not screen.holds(event):
            self.refuse(event, *problems(event))
            return None
        return self._queue_up(event)

    def _point(self, event: Feedback | Evaluation, target: str | LLMCall) -> None:
        """Make an event be about a call, or about the call of a handle."""
        if isinstance(target, LLMCall):
            complete(target, self.configuration, self.clock.now_us())
            point_at(event, target)
        else:
            attach(event, target, self.configuration.handle_key, self.configuration.tenant)

    def refuse(self, event: object, *found: Problem) -> None:
        """Count an event that breaks a rule, and tell why."""
        self._account.drop(found[0].reason)
        for problem in found[:5]:
            self.notices.warn(
                f"{problem.reason} {problem.field}", "%s refused: %s", type(event).__name__, problem
            )

    def _queue_up(self, event: Event) -> str | None:
        # Read first: the worker owns the event from the moment it is queued.
        event_id, size = event.event_id, bodies.size_bytes(event)
        if self._closed or (self._worker is None and not self._start()):
            self._account.drop("closed")
            return None
        while not self._queue.put(Queued(event, size), size):
            if self.configuration.when_full == "drop" or self._closed:
                self._account.drop("queue_full")
                self.notices.warn(
                    "queue_full", "%d events wait for Kafka; new ones are dropped", self._queue.unsettled
                )
                return None
            time.sleep(_WAIT_SECONDS)
        return event_id

    def _start(self) -> bool:
        with self._starting:
            if self._worker is not None:
                return True
            worker = Worker(
                self.configuration,
                self._encoder,
                self._queue,
                self._account,
                self.notices,
                self.clock,
                self._make_transport,
            )
            try:
                worker.start()
            except RuntimeError:  # the interpreter is shutting down
                return False
            self._worker = worker
            return True

    def handle(self, call: LLMCall) -> str:
        """See `tidegate.handle`."""
        complete(call, self.configuration, self.clock.now_us())
        return seal(call, self.configuration.handle_key)

    def flush(self, timeout_seconds: float) -> bool:
        """See `tidegate.flush`."""
        worker = self._worker
        if worker is None:
            return True
        if worker.is_current_thread:
            return False
        marker = Flush()
        self._queue.put_signal(marker)
        return marker.done.wait(timeout_seconds) and marker.complete

    def shutdown(self, timeout_seconds: float) -> int:
        """Deliver what is queued, send the last report and end; return how many events were lost."""
        self._closed = True
        worker = self._worker
        if worker is None or worker.is_current_thread:
            return 0
        self._worker = None
        worker.stop(timeout_seconds)
        return max(worker.lost, self._queue.unsettled)
