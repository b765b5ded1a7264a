"""Stage 1 at work: claim ranges, journal what they add, settle them, and tell how far event time is."""

import gc
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import groupby

from tidegate.codec import encode
from tidegate.errors import Refused
from tidegate.records import Heartbeat
from tidegate.registry import SchemaRegistry
from tidegate.topics import ACTIONS, CALLS, DLQ, EVALUATIONS, FEEDBACK, PARTIALS, PRICES, ROLLOUTS
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.kafka import losses, scan
from tidegate_infra.kafka.claims import ClaimLost, RangeConsumer
from tidegate_infra.kafka.duplicates import Duplicates
from tidegate_infra.kafka.log import Log
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.price_log import PriceLog
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_streams.aggregate import work
from tidegate_streams.aggregate.deliveries import Deliveries
from tidegate_streams.aggregate.figures import Figures
from tidegate_streams.aggregate.watermarks import RATINGS, Watermarks
from tidegate_streams.aggregate.work import Work

GROUP = "aggregate"
SOURCES = (CALLS, FEEDBACK, EVALUATIONS, ROLLOUTS, ACTIONS)
HEARTBEAT_S = 1.0

RANGE_ROWS = 20_000
RANGE_BYTES = 32 << 20
BRAKE_ROWS = 1_000


def main(process: Process) -> None:
    """Aggregate until stopped."""
    scan.check_topics(process.settings, [*SOURCES, PARTIALS, PRICES, DLQ])
    with closing(Aggregate(process)) as stage, losses.told(process):
        while not process.stopping.is_set():
            stage.turn()
        stage.stop()


class Aggregate:
    """One worker of stage 1.

    Parameters
    ----------
    process
        Settings, health, log and metrics.
    """

    def __init__(self, process: Process) -> None:
        # Messages are many and in no cycles: at its default threshold the collector costs as much as reading.
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        settings = process.settings
        self._process = process
        self._figures = Figures(process.metrics)
        self._prices = PriceLog(settings)
        self._book = self._prices.present()
        self._registry = (
            SchemaRegistry(settings.schema_registry_url) if settings.schema_registry_url else None
        )
        self._partitions = len(scan.partitions(settings, PARTIALS))
        self._duplicates = Duplicates(settings, process.beat)
        self._watermarks = Watermarks(settings.watermark_delay_us, settings.watermark == "clock")
        self._deliveries = Deliveries(settings)
        self._worker = f"{platform.node()}:{os.getpid()}"
        self._beat_at_s = 0.0
        self._passed = (0, 0)
        self._claimed: Sequence[Range] = ()
        self._consumer = RangeConsumer(
            settings,
            GROUP,
            SOURCES,
            max_rows=RANGE_ROWS,
            max_bytes=RANGE_BYTES,
            max_ms=settings.range_ms,
            start=journal_position(settings),
        )

    def turn(self) -> None:
        """Poll once; effect what is claimed; say how far event time is."""
        self._process.beat()
        try:
            if not self._claimed and (ranges := self._consumer.poll(0.1)):
                self._consumer.claim(ranges, prices=self._book.hash)
                self._claimed = ranges
            if self._claimed:
                self._effect(lambda ranges: self._consumer.settle_and_claim(ranges, prices=self._book.hash))
        except ClaimLost as lost:
            self._claimed = ()
            self._figures.lost()
            self._process.log.info("claim_lost", reason=str(lost))
            return
        if self.positions():
            self._process.ready()
        passed = self._watermarks.passed(time.time_ns() // 1_000)
        if passed != self._passed or time.monotonic() - self._beat_at_s >= HEARTBEAT_S:
            self._passed, self._beat_at_s = passed, time.monotonic()
            self._heartbeat()

    def positions(self) -> dict[tuple[str, int], int]:
        """Offset below which everything is settled, per assigned topic and partition."""
        return self._consumer.positions()

    def stop(self) -> None:
        """Effect what is claimed, and say how far everything settled is, for whoever comes next."""
        if self._claimed:
            try:
                self._effect(self._consumer.settle)
            except ClaimLost as lost:
                self._process.log.info("claim_lost", reason=str(lost))
                return
        self._heartbeat()
        self._deliveries.settle(self._process.beat)

    def close(self) -> None:
        """Leave the group; what is claimed is redone by the next owner."""
        self._consumer.close()

    def _effect(self, settle: Callable[[Sequence[Range]], Sequence[Range] | None]) -> None:
        """Effect what is claimed, and settle it; `settle` may say what it claimed in its place."""
        ranges = self._claimed
        with self._figures.seconds.time():
            crashpoint("aggregate.after_claim")
            copies = self._duplicates.mark(ranges)
            works = [self._work(alike, copies) for alike in _alike(ranges)]
            self._brake(works)
            if not self._consumer.valid(ranges):
                raise ClaimLost("the partitions went to another worker before anything was written")
            self._write(works)
            crashpoint("aggregate.after_produce")
            self._claimed = settle(ranges) or ()
        crashpoint("aggregate.after_settle")
        self._watermarks.begin(self._consumer.epoch)
        for done in works:
            self._figures.settled(done)
            for number, range_ in enumerate(done.ranges):
                if range_.topic == CALLS:
                    self._watermarks.settled(
                        range_.partition, done.latest_us.get(number), done.ends_us.get(number)
                    )

    def _work(self, ranges: Sequence[Range], copies: Mapping[str, Sequence[bool]]) -> Work:
        topic = ranges[0].topic
        if topic in (ROLLOUTS, ACTIONS):
            return work.forward(ranges, self._partitions)
        book = self._prices.find(ranges[0].prices)
        marks = [copies[range_.name] for range_ in ranges]
        return work.shrink(ranges, marks, book, self._partitions, self._registry)

    def _brake(self, works: Sequence[Work]) -> None:
        """Stop rather than drain a broken producer into the dead letters."""
        limit = self._process.settings.brake_share
        for done in works:
            messages = sum(len(range_.messages) for range_ in done.ranges)
            if messages >= BRAKE_ROWS and len(done.dead) > limit * messages:
                reasons = Counter(rejected.reason for _, rejected in done.dead).most_common()
                listed = ", ".join(f"{reason} {count}" for reason, count in reasons)
                range_ = min(done.ranges, key=lambda range_: range_.lo)
                raise Refused(
                    f"{len(done.dead)} of {messages} messages of {range_.topic} are invalid ({listed}), from "
                    f"{range_.name} on; nothing was dead-lettered. Find the producer that broke; to "
                    "dead-letter them and go on, start with TIDEGATE_BRAKE_SHARE=1"
                )

    def _write(self, works: Sequence[Work]) -> None:
        for done in works:
            for entry in done.entries:
                self._deliveries.put(PARTIALS, entry.value, partition=entry.partition)
                crashpoint("aggregate.mid_produce")
            for letter, message in done.dead_letters():
                self._deliveries.bury(letter, message)
        self._deliveries.settle(self._wait)

    def _wait(self) -> None:
        self._process.beat()
        self._consumer.idle(0)

    def _heartbeat(self) -> None:
        """Write to every journal partition how far settled work is, right after a poll of this assignment."""
        epoch, positions = self._consumer.epoch, self.positions()
        if not positions or not self._consumer.valid(()):
            return
        self._watermarks.begin(epoch)
        # The clock first: what the log's end shows afterwards is at least as new.
        clock_us = time.time_ns() // 1_000
        ends = self._consumer.ends([CALLS, ROLLOUTS, ACTIONS]) | self._consumer.ends(RATINGS, committed=True)
        beat = self._watermarks.heartbeat(
            self._worker,
            epoch,
            positions,
            {topic: self._consumer.topic_id(topic) for topic in SOURCES},
            ends,
            {topic: self._consumer.partition_count(topic) for topic in (CALLS, *RATINGS)},
            clock_us,
        )
        for partition in range(self._partitions):
            self._deliveries.put(PARTIALS, encode(beat), partition=partition)
        at_end = sum(source.at_end for source in beat.sources)
        self._figures.stands(len(positions), at_end, self._watermarks.by_partition, clock_us)


def _alike(ranges: Sequence[Range]) -> list[list[Range]]:
    """Ranges that are worked on together: of one topic, priced alike, redone or not."""

    def kind(range_: Range) -> tuple[str, str, bool]:
        return range_.topic, range_.prices, range_.redo

    return [list(alike) for _, alike in groupby(sorted(ranges, key=kind), key=kind)]


def journal_position(settings: Settings) -> Callable[[Log], int]:
    """Return where a partition without a committed offset begins: behind what the journal says is done.

    Offsets of a group that was idle for long are deleted; beginning anew would count everything twice.
    """
    heard: dict[tuple[str, int], int] | None = None

    def start(log: Log) -> int:
        nonlocal heard
        if heard is None:
            heard = {}
            for _, record in scan.records(settings, PARTIALS, timeout_seconds=300):
                for source in record.sources if isinstance(record, Heartbeat) else ():
                    place = source.topic_id, source.partition
                    heard[place] = max(source.next_offset, heard.get(place, 0))
        return heard.get((log.topic_id, log.partition), log.low)

    return start
