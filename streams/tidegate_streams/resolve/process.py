"""The resolver at work: claim what was read, ask the store beside reading on, publish, settle."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

from tidegate import codec
from tidegate.errors import DependencyUnavailable
from tidegate.registry import SchemaRegistry
from tidegate.topics import CALLS, DLQ, EVALUATIONS, FEEDBACK
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.kafka import losses, scan
from tidegate_infra.kafka.claims import ClaimLost, RangeConsumer
from tidegate_infra.kafka.dead_letters import DeadLetter
from tidegate_infra.kafka.ranges import Place, Range
from tidegate_infra.kafka.settled import Settled
from tidegate_infra.process import Process
from tidegate_streams import fence
from tidegate_streams.aggregate.deliveries import Deliveries
from tidegate_streams.resolve.calls import Calls
from tidegate_streams.resolve.figures import Figures
from tidegate_streams.resolve.ratings import Answer, Lonely, Outcome, decide, lonely

GROUP = "resolve"
SOURCES = (FEEDBACK, EVALUATIONS)

PATIENCE_S = 120.0
"""For so long after a rating its call may still come. Twice as much, which the range behind may have to wait,
stays well below the allowed lateness of windows."""

RANGE_ROWS = 5_000
RANGE_BYTES = 16 << 20
RANGE_MS = 500

_POLL_S = 0.1
_PAUSE_S = 1.0
_TROUBLE_S = 5.0


def main(process: Process) -> None:
    """Resolve until stopped."""
    run(process, PATIENCE_S)


def run(process: Process, patience_s: float) -> None:
    """Resolve until stopped, waiting so long for calls."""
    scan.check_topics(process.settings, [*SOURCES, CALLS, DLQ])
    with (
        closing(Calls(process.settings)) as calls,
        closing(Resolver(process, calls, patience_s)) as resolver,
        losses.told(process),
    ):
        while not process.stopping.is_set():
            resolver.turn()
        resolver.finish()


@dataclass(slots=True)
class Waiting:
    """A claimed range that waits for the calls of its ratings, or, when none is open, to be settled.

    Parameters
    ----------
    range_
        Claimed.
    open
        Its ratings without a series, as long as nothing has become of them.
    until_us
        When patience with the last of them ends.
    before
        Where its partition ended when it was claimed. All of that has to be in the store before the store is
        asked, for an earlier try may have published there.
    calls
        Ends of the calls when patience ended; what stands before them is the last that is waited for.
    """

    range_: Range
    open: list[Lonely]
    until_us: float
    before: dict[Place, int]
    calls: dict[Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A range with what the store says of it.

    Parameters
    ----------
    waiting
        The range.
    answer
        Of the store.
    final
        Whether calls that it does not have will not come any more.
    """

    waiting: Waiting
    answer: Answer
    final: bool


class Resolver:
    """One worker.

    Parameters
    ----------
    process
        Settings, health, log and metrics.
    calls
        The store's calls.
    patience_s
        How long after a rating its call may still come.
    """

    def __init__(self, process: Process, calls: Calls, patience_s: float) -> None:
        settings = process.settings
        self._process = process
        self._calls = calls
        self._patience_s = patience_s
        self._figures = Figures(process.metrics)
        self._registry = (
            SchemaRegistry(settings.schema_registry_url) if settings.schema_registry_url else None
        )
        self._stored = Settled(settings, "sink", [CALLS, *SOURCES])
        self._deliveries = Deliveries(settings)
        self._epoch = -1
        self._waiting: dict[Place, Waiting] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._asking: list[Future[Asked | None]] = []
        self._ask_at_s = 0.0
        self._fence = fence.Fence(settings.kafka_session_ms)
        self._trouble = ""
        self._consumer = RangeConsumer(
            settings,
            GROUP,
            SOURCES,
            max_rows=RANGE_ROWS,
            max_bytes=RANGE_BYTES,
            max_ms=RANGE_MS,
            # What was resolved before is in the store, and is not published again.
            start=lambda log: log.low,
        )

    def turn(self) -> None:
        """Act upon the store's answer; settle and claim in one commit, or poll; ask about what waits."""
        self._process.beat()
        try:
            if self._asking and all(answer.done() for answer in self._asking):
                answers, self._asking = self._asking, []
                self._act(answers)
            if done := self._done():
                ranges = self._consumer.settle_and_claim(done)
                for range_ in done:
                    del self._waiting[range_.place]
                crashpoint("resolve.after_settle")
            elif ranges := self._consumer.poll(_POLL_S):
                self._consumer.claim(ranges)
            self._drop_strangers()
            if ranges:
                self._begin(ranges)
        except ClaimLost as lost:
            self._figures.lost.inc()
            self._process.log.info("claim_lost", reason=str(lost))
            # What is done is settled without a poll, and only a poll tells of another assignment.
            self._consumer.idle(_POLL_S)
            self._drop_strangers()
        if not self._asking and time.monotonic() >= self._ask_at_s:
            self._asking = [self._thread.submit(self._ask, one) for one in self._waiting.values() if one.open]
        self._figures.open.set(self.open)
        if self._trouble:
            self._process.not_ready(self._trouble)
        elif self._consumer.positions() or self._process.health.is_ready:
            self._process.ready()

    @property
    def open(self) -> int:
        """Ratings that wait for their call."""
        return sum(len(waiting.open) for waiting in self._waiting.values())

    def finish(self) -> None:
        """Settle what is done; what waits stays claimed, and is redone by the next owner."""
        try:
            if done := self._done():
                self._consumer.settle(done)
        except ClaimLost as lost:
            self._process.log.info("claim_lost", reason=str(lost))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
        self._thread.shutdown(cancel_futures=True)
        self._stored.close()

    def _done(self) -> list[Range]:
        return [one.range_ for one in self._waiting.values() if not one.open]

    def _begin(self, ranges: Sequence[Range]) -> None:
        crashpoint("resolve.after_claim")
        found = {range_.place: self._lonely(range_) for range_ in ranges}
        ends = self._stored.ends([place for place, open_ in found.items() if open_])
        for range_ in ranges:
            place, open_ = range_.place, found[range_.place]
            until_us = max((rating.append_us for rating in open_), default=0) + self._patience_s * 1e6
            before = {place: ends[place]} if open_ else {}
            self._waiting[place] = Waiting(range_, open_, until_us, before)

    def _lonely(self, range_: Range) -> list[Lonely]:
        found, elsewhere = lonely(range_, self._registry)
        self._figures.ratings.labels(range_.topic, "not_a_call").inc(elsewhere)
        return found

    def _ask(self, one: Waiting) -> Asked | None:
        """Ask what stands in the store; None while that does not go far enough."""
        if not self._stored.reach(one.before):
            return None
        if not one.calls and time.time_ns() / 1e3 >= one.until_us:
            one.calls = self._stored.ends_of(CALLS)
        final = bool(one.calls) and self._stored.reach(one.calls)
        return Asked(one, self._calls.ask(one.range_.topic, one.open, everywhere=final), final)

    def _act(self, answers: "Sequence[Future[Asked | None]]") -> None:
        asked = []
        self._trouble, self._ask_at_s = "", time.monotonic() + _PAUSE_S
        for answer in answers:
            try:
                asked.append(answer.result())
            except DependencyUnavailable as error:
                self._trouble, self._ask_at_s = str(error), time.monotonic() + _TROUBLE_S
                self._process.log.warning("not_resolved_yet", reason=str(error), again_in_seconds=_TROUBLE_S)
        ours = [one for one in asked if one and self._waiting.get(one.waiting.range_.place) is one.waiting]
        if not self._consumer.valid([one.waiting.range_ for one in ours]):
            raise ClaimLost("the partitions went to another worker before anything was written")
        outcomes = [(one.waiting, decide(one.waiting.open, one.answer, final=one.final)) for one in ours]
        try:
            for waiting, outcome in outcomes:
                self._write(waiting.range_, outcome)
        finally:
            # What was sent must be there before the log's end is looked at for another try.
            self._deliveries.settle(self._wait)
        crashpoint("resolve.after_produce")
        for waiting, outcome in outcomes:
            waiting.open = outcome.open
            self._figures.count(waiting.range_.topic, outcome)

    def _write(self, range_: Range, outcome: Outcome) -> None:
        for rating, complete in outcome.complete:
            self._confirm(range_)
            value, key = codec.encode(complete), rating.message.key()
            try:
                # Into its own partition, where the copy of another try is recognised.
                self._deliveries.put(range_.topic, value, key=key, partition=range_.partition)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                self._bury(range_, rating, "too_large", f"with its series it has {len(value)} bytes")
        for rating in outcome.unknown:
            self._confirm(range_)
            tenant, event_id = rating.call
            found = f"{self._patience_s:.0f} s later there was no call {event_id[:50]} of tenant {tenant}"
            self._bury(range_, rating, "unknown_call", found)

    def _bury(self, range_: Range, rating: Lonely, reason: str, found: str) -> None:
        letter = DeadLetter(
            topic=range_.topic,
            topic_id=range_.topic_id,
            partition=range_.partition,
            offset=rating.message.offset() or 0,
            stage=GROUP,
            reason=reason,
            error=found,
        )
        self._deliveries.bury(letter, rating.message)

    def _confirm(self, range_: Range) -> None:
        """See that the group counts this process among its members, and did so a moment ago.

        One that stood still finds everything as it was, and may have been given up long ago.
        """
        while self._fence.is_shut:
            self._wait()
            asked_at = fence.now()
            self._consumer.confirm([range_])
            self._fence.heard(asked_at)

    def _wait(self) -> None:
        self._process.beat()
        self._consumer.idle(0)

    def _drop_strangers(self) -> None:
        """Forget what another assignment, or another process, now has to resolve."""
        if self._epoch != self._consumer.epoch:
            self._epoch = self._consumer.epoch
            self._waiting = {}
