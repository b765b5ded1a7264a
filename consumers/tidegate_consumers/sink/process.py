"""The sink at work: claim what was read, store it beside reading on, settle what stands."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field

from clickhouse_connect.driver.exceptions import ClickHouseError

from tidegate.errors import DependencyUnavailable
from tidegate.registry import SchemaRegistry
from tidegate.topics import CALLS, PRICES
from tidegate_consumers.sink.facts import FACTS, Reading, facts
from tidegate_consumers.sink.figures import Figures
from tidegate_consumers.sink.store import Store, Stored
from tidegate_consumers.sink.watch import OWNER, Watch
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.kafka import losses, scan
from tidegate_infra.kafka.claims import ClaimLost, RangeConsumer
from tidegate_infra.kafka.duplicates import Duplicates
from tidegate_infra.kafka.log import RetentionLoss
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.price_log import PriceLog
from tidegate_infra.process import Process

GROUP = "sink"
RANGE_BYTES = 64 << 20
HELD_BYTES = 4 * RANGE_BYTES

WRITERS = 2
"""Ranges stored at a time: while the store works on one, the next is decoded."""

_POLL_S = 0.05
_FINISH_S = 20.0
_STALLED_S = 10.0
_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 5.0)


def main(process: Process) -> None:
    """Store facts until stopped.

    Raises
    ------
    RetentionLoss
        Kafka dropped events before they were stored; the loss is noted in the store where that can be.
    """
    scan.check_topics(process.settings, [*FACTS, PRICES])
    with (
        closing(Store(process.settings)) as store,
        closing(Sink(process, store)) as sink,
        losses.told(process),
    ):
        watch = Watch(process, GROUP)
        try:
            while not process.stopping.is_set():
                sink.turn()
                watch.turn(is_ours=OWNER in sink.positions())
            sink.finish()
        except RetentionLoss as loss:
            try:
                store.note_loss(loss.log, loss.lo)
            except (ClickHouseError, OSError) as error:
                # What was lost must be told first. A start before the gap is closed notes it again.
                process.log.error("loss_not_noted", reason=str(error))
            raise


@dataclass(slots=True)
class Effect:
    """A range on its way into the store.

    Parameters
    ----------
    range_
        Claimed.
    copies
        For each message whether it is a duplicate, where its topic knows such.
    began_s
        When it was handed to the writers.
    dropped
        Set when the range is no longer ours: it is not tried again.
    """

    range_: Range
    copies: Sequence[bool] | None
    began_s: float = field(default_factory=time.monotonic)
    dropped: threading.Event = field(default_factory=threading.Event)
    future: "Future[Stored | None] | None" = None


class Sink:
    """One worker of the sink.

    Parameters
    ----------
    process
        Settings, health, log and metrics.
    store
        Where facts go.
    """

    def __init__(self, process: Process, store: Store) -> None:
        settings = process.settings
        self._process = process
        self._store = store
        self._figures = Figures(process.metrics)
        self._prices = PriceLog(settings)
        self._book = self._prices.present()
        self._registry = (
            SchemaRegistry(settings.schema_registry_url) if settings.schema_registry_url else None
        )
        self._duplicates = Duplicates(settings, process.beat)
        self._effects: dict[tuple[str, int], Effect] = {}
        self._trouble: dict[tuple[str, int], str] = {}
        # Partition -> assignment, and the offset from which nothing stood when it began.
        self._ends: dict[tuple[str, int], tuple[int, int]] = {}
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._consumer = RangeConsumer(
            settings,
            GROUP,
            list(FACTS),
            max_rows=settings.sink_range_rows,
            max_bytes=RANGE_BYTES,
            max_ms=settings.sink_range_ms,
            max_held_bytes=HELD_BYTES,
            start=store.next_offset,
        )

    def turn(self) -> None:
        """Settle what the writers have stored, and hand them what comes next."""
        self._process.beat()
        prices = self._book.hash
        try:
            if stored := self._stored():
                ranges = self._consumer.settle_and_claim(_ranges(stored), prices=prices)
                self._settled(stored)
            elif ranges := self._consumer.poll(_POLL_S):
                self._consumer.claim(ranges, prices=prices)
            self._drop_strangers()
            if ranges:
                self._begin(ranges)
        except ClaimLost as lost:
            self._figures.lost.inc()
            self._process.log.info("claim_lost", reason=str(lost))
            # What is stored is settled without a poll, and only a poll tells of another assignment.
            self._consumer.idle(_POLL_S)
            self._drop_strangers()
        self._say_how_it_goes()

    def positions(self) -> dict[tuple[str, int], int]:
        """Offset below which everything is stored, per assigned topic and partition."""
        return self._consumer.positions()

    def finish(self) -> None:
        """Settle what the writers still bring to an end; what stays claimed is redone by the next owner."""
        until_s = time.monotonic() + _FINISH_S
        while self._effects and not self._trouble and time.monotonic() < until_s:
            self._process.beat()
            self._consumer.idle(_POLL_S)
            self._drop_strangers()
            if stored := self._stored():
                try:
                    self._consumer.settle(_ranges(stored))
                except ClaimLost:
                    return
                self._settled(stored)

    def close(self) -> None:
        """Leave the group, and wait for the writers."""
        for effect in self._effects.values():
            effect.dropped.set()
        self._writers.shutdown()
        self._consumer.close()

    def _begin(self, ranges: Sequence[Range]) -> None:
        crashpoint("sink.after_claim")
        copies = self._duplicates.mark(ranges)
        for range_ in ranges:
            effect = Effect(range_, copies.get(range_.name))
            before = self._effects.get((range_.topic, range_.partition))
            self._effects[range_.topic, range_.partition] = effect
            effect.future = self._writers.submit(self._write, effect, before)

    def _write(self, effect: Effect, before: Effect | None) -> Stored | None:
        """Store a range, however long it takes; None when it is no longer ours."""
        if before is not None and before.future is not None:
            # The same rows, tried in an assignment that is over: never two writers of one partition.
            wait([before.future])
        range_ = effect.range_
        book = self._prices.find(range_.prices) if range_.topic == CALLS else None
        frames = facts(range_, Reading(effect.copies, book, self._registry))
        tried = False
        for pause_s in _pauses():
            if effect.dropped.is_set():
                return None
            try:
                with self._figures.seconds.time():
                    return self._store.put(range_, frames, doubtful=tried or self._may_stand(range_))
            except DependencyUnavailable as error:
                tried = True
                self._figures.refused.inc()
                self._trouble[range_.topic, range_.partition] = str(error)
                self._process.log.warning("store_trouble", reason=str(error), again_in_seconds=pause_s)
            effect.dropped.wait(pause_s)
        return None

    def _may_stand(self, range_: Range) -> bool:
        """Whether rows of a range may stand before it is tried.

        The group's offsets do not say so: anybody may set them back, also into a hole that was left once.
        Nobody else writes while we are assigned, so that the store is asked only once how far its rows go.
        """
        if range_.redo:
            return True
        epoch, end = self._ends.get(range_.place, (-1, 0))
        if epoch != range_.epoch:
            end = self._store.end(range_)
            self._ends[range_.place] = range_.epoch, end
        return range_.lo < end

    def _stored(self) -> list[tuple[Effect, Stored | None]]:
        """What the writers have brought to an end."""
        done = [
            (effect, effect.future)
            for effect in self._effects.values()
            if effect.future is not None and effect.future.done() and not effect.dropped.is_set()
        ]
        # A writer that failed for good ends the process here: what it claimed is redone.
        stored = [(effect, future.result()) for effect, future in done]
        if stored:
            crashpoint("sink.after_insert")
        return stored

    def _settled(self, stored: Sequence[tuple[Effect, Stored | None]]) -> None:
        crashpoint("sink.after_settle")
        for effect, result in stored:
            key = effect.range_.topic, effect.range_.partition
            del self._effects[key]
            self._trouble.pop(key, None)
            if result is not None:
                self._figures.stored(effect.range_, result)

    def _drop_strangers(self) -> None:
        """Give up what another assignment, or another process, now has to store."""
        for key, effect in list(self._effects.items()):
            if effect.range_.epoch != self._consumer.epoch:
                effect.dropped.set()
                self._trouble.pop(key, None)
                if effect.future is not None and effect.future.done():
                    del self._effects[key]

    def _say_how_it_goes(self) -> None:
        self._figures.held.set(self._consumer.held_bytes())
        oldest_s = max((time.monotonic() - one.began_s for one in self._effects.values()), default=0.0)
        if trouble := list(self._trouble.values()):
            self._process.not_ready(trouble[0])
        elif oldest_s > _STALLED_S:
            self._process.not_ready(f"the store has not answered for {oldest_s:.0f} s")
        elif self._consumer.positions() or self._process.health.is_ready:
            self._process.ready()


def _ranges(stored: Sequence[tuple[Effect, Stored | None]]) -> list[Range]:
    return [effect.range_ for effect, _ in stored]


def _pauses() -> Iterator[float]:
    yield from _PAUSES_S
    while True:
        yield _PAUSES_S[-1]
