"""The thread that encodes events and hands them to Kafka, off the app's own threads."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tidegate import topics
from tidegate.client.clock import Clock
from tidegate.client.completion import target_of
from tidegate.client.configuration import Configuration
from tidegate.client.encoding import TOPIC, Dropped, Encoder
from tidegate.client.notices import Notices
from tidegate.client.queue import BoundedQueue
from tidegate.client.reports import Account
from tidegate.client.rules import Event
from tidegate.client.transport import Transport
from tidegate.records import LLMCall, ProducerReport

_RETRY_SECONDS = 0.5

_ANSWER_SECONDS = 0.01
"""How long a new event may wait while answers of earlier ones are waited for."""

_EVENTS_SHARE = 0.75
"""Share of the time at shutdown that is for events; the rest is kept for the last report."""


@dataclass(slots=True)
class Queued:
    """An event in the queue, and the room that it takes there."""

    event: Event
    size_bytes: int


@dataclass(slots=True)
class Flush:
    """Asks to be told when everything before it is settled."""

    up_to_seq: int = 0
    unsettled: int = 0
    complete: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class Stop:
    """Asks the worker to end when everything before it is settled."""


Item = Queued | Flush | Stop


class Worker:
    """Takes events from the queue until it is told to stop.

    Parameters
    ----------
    configuration, encoder, queue, account, notices, clock
        Those of the client.
    make_transport
        Called in the worker's thread: a Kafka client does not survive a fork, so none is made earlier.
    """

    def __init__(
        self,
        configuration: Configuration,
        encoder: Encoder,
        queue: BoundedQueue[Item],
        account: Account,
        notices: Notices,
        clock: Clock,
        make_transport: Callable[[], Transport],
    ) -> None:
        self.lost = 0
        self._configuration = configuration
        self._queue = queue
        self._account = account
        self._notices = notices
        self._clock = clock
        self._make_transport = make_transport
        self._encoder = encoder
        self._in_flight = 0
        self._flushes: list[Flush] = []
        self._failed_since_flush = False
        # When shutting down: until when events may be sent, and until when the last report.
        self._events_until_us: int | None = None
        self._report_until_us = 0
        self._next_report_us = clock.monotonic_us() + self._report_interval_us
        self._thread = threading.Thread(target=self._run, name="tidegate", daemon=True)

    @property
    def _report_interval_us(self) -> int:
        return int(self._configuration.report_seconds * 1_000_000)

    def start(self) -> None:
        """Start the thread.

        Raises
        ------
        RuntimeError
            The interpreter is shutting down.
        """
        self._thread.start()

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is the worker itself, such as an app's mask."""
        return threading.current_thread() is self._thread

    def stop(self, timeout_seconds: float) -> None:
        """Deliver what is there and end; wait for that at most this long."""
        now_us = self._clock.monotonic_us()
        self._report_until_us = now_us + int(timeout_seconds * 1_000_000)
        self._events_until_us = now_us + int(timeout_seconds * 1_000_000 * _EVENTS_SHARE)
        self._queue.put_signal(Stop())
        self._thread.join(timeout_seconds + 0.1)

    # The transport is only ever held by frames of this thread: a forked child keeps those frames and never
    # runs them, so that the child cannot destroy a Kafka client whose threads it does not have.

    def _run(self) -> None:
        transport = self._connected()
        while transport is not None and self._goes_on(transport):
            if transport.broken:
                self._give_up(transport)
                transport = self._connected()
        self._finish(transport)

    def _connected(self) -> Transport | None:
        while not self._events_are_over():
            try:
                self._encoder.prepare()
                return self._make_transport()
            except Exception as error:  # noqa: BLE001 - whatever it is, events wait for the next try
                self._notices.warn("transport", "no Kafka client: %s", error)
                time.sleep(_RETRY_SECONDS)
        return None

    def _goes_on(self, transport: Transport) -> bool:
        try:
            return self._turn(transport)
        except Exception as error:  # noqa: BLE001 - without this thread nothing is sent any more
            self._notices.warn("worker", "a fault in the background: %s: %s", type(error).__name__, error)
            time.sleep(_RETRY_SECONDS)
            return not self._events_are_over()

    def _turn(self, transport: Transport) -> bool:
        """Do one thing; False when it is time to end."""
        item = self._queue.get(0 if self._in_flight else self._idle_seconds())
        match item:
            case Queued():
                self._send(transport, item)
                # Also lets go of the interpreter, so that the app's threads run between two events.
                transport.poll(0)
            case Flush():
                self._begin(item)
            case Stop():
                return False
            case None:
                transport.poll(_ANSWER_SECONDS if self._in_flight else 0)
        if self._clock.monotonic_us() >= self._next_report_us:
            self._next_report_us = self._clock.monotonic_us() + self._report_interval_us
            self._report(transport)
        return not self._events_are_over()

    def _idle_seconds(self) -> float:
        return max(0.001, (self._next_report_us - self._clock.monotonic_us()) / 1_000_000)

    def _events_are_over(self) -> bool:
        until_us = self._events_until_us
        return until_us is not None and self._clock.monotonic_us() >= until_us

    def _send(self, transport: Transport, item: Queued) -> None:
        value = self._encoded(item.event)
        if value is None:
            self._queue.settled(item.size_bytes)
            return
        seq = self._account.accept()
        self._in_flight += 1
        settled = partial(self._settle, seq, item.size_bytes)
        topic = self._configuration.topic(TOPIC[type(item.event)])
        key = item.event.event_id if isinstance(item.event, LLMCall) else target_of(item.event)
        while not transport.send(topic, key, value, settled):
            if self._events_are_over():
                settled(False)
                return
            transport.poll(_ANSWER_SECONDS)

    def _encoded(self, event: Event) -> bytes | None:
        """Return the event's bytes; None when it was dropped, which is then counted."""
        try:
            return self._encoder.encode(event, self._account.producer_id, self._account.last_seq + 1)
        except Dropped as error:
            reason, detail = error.reason, str(error)
        except Exception as error:  # noqa: BLE001 - one event must not end the thread that sends the others
            reason, detail = "internal", f"{type(error).__name__}: {error}"
        self._account.drop(reason)
        self._notices.warn(reason, "%s dropped: %s", type(event).__name__, detail)
        return None

    def _settle(self, seq: int, size_bytes: int, confirmed: bool) -> None:
        self._in_flight -= 1
        self._queue.settled(size_bytes)
        if confirmed:
            self._account.delivered += 1
        else:
            self._account.fail(seq)
            self._failed_since_flush = True
        for flush in [f for f in self._flushes if seq <= f.up_to_seq]:
            flush.unsettled -= 1
            if flush.unsettled == 0:
                self._flushes.remove(flush)
                self._end(flush)

    def _begin(self, flush: Flush) -> None:
        flush.up_to_seq = self._account.last_seq
        flush.unsettled = self._in_flight
        if flush.unsettled:
            self._flushes.append(flush)
        else:
            self._end(flush)

    def _end(self, flush: Flush) -> None:
        flush.complete = not self._failed_since_flush
        self._failed_since_flush = False
        flush.done.set()

    def _report(self, transport: Transport) -> None:
        """Send the account if it changed."""
        report = self._account.report(self._clock.now_us())
        if report is not None:
            self._send_report(transport, report)

    def _send_report(self, transport: Transport, report: ProducerReport) -> list[bool]:
        """Send an account; the list returned gets whether Kafka confirmed it."""
        answers: list[bool] = []
        topic = self._configuration.topic(topics.PRODUCERS)
        value = self._encoder.encode_report(report)
        if not transport.send(topic, report.producer_id, value, answers.append):
            answers.append(False)
        return answers

    def _send_last_report(self, transport: Transport) -> None:
        """Close the account: without its last report nobody can say that nothing is missing."""
        report = self._account.report(self._clock.now_us(), final=True)
        confirmed = report is None
        while report is not None and not (confirmed or transport.broken or self._time_is_over()):
            answers = self._send_report(transport, report)
            transport.poll(_ANSWER_SECONDS)
            while not answers and not self._time_is_over():
                transport.poll(_ANSWER_SECONDS)
            confirmed = any(answers)
        if not confirmed and not self.lost:
            self._notices.warn("report", "the last report was not confirmed: the account stays open")

    def _time_is_over(self) -> bool:
        return self._clock.monotonic_us() >= self._report_until_us

    def _give_up(self, transport: Transport) -> None:
        transport.give_up()
        for _ in range(100):
            if not self._in_flight:
                return
            transport.poll(_ANSWER_SECONDS)

    def _finish(self, transport: Transport | None) -> None:
        while transport is not None and self._in_flight and not self._events_are_over():
            transport.poll(_ANSWER_SECONDS)
        while (item := self._queue.get(0)) is not None:
            if isinstance(item, Queued):
                self._account.drop("exit")
                self._queue.settled(item.size_bytes)
                self.lost += 1
            elif isinstance(item, Flush):
                item.done.set()
        if transport is None:
            return
        self.lost += self._in_flight
        if self._in_flight:
            # Never without need: a report that is on its way would be given up with them.
            self._give_up(transport)
        self._send_last_report(transport)
        transport.give_up()
