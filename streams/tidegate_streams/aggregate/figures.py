"""What `/metrics` shows of stage 1."""

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tidegate_streams.aggregate.work import Work


class Figures:
    """Counters of this process.

    Parameters
    ----------
    registry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter("tidegate_aggregate_events", "Events counted.", ["topic"], registry=registry)
        self._duplicates = Counter(
            "tidegate_aggregate_duplicates", "Copies of events, not counted.", ["topic"], registry=registry
        )
        self._dead = Counter(
            "tidegate_aggregate_dead_letters", "Messages refused.", ["topic", "reason"], registry=registry
        )
        self._alone = Counter(
            "tidegate_aggregate_decoded_alone",
            "Events decoded one by one, the slow way; of all events it should be a small share.",
            ["topic"],
            registry=registry,
        )
        self._ranges = Counter(
            "tidegate_aggregate_ranges", "Ranges settled.", ["topic", "redo"], registry=registry
        )
        self._lost = Counter(
            "tidegate_aggregate_claims_lost", "Times that ranges went to another worker.", registry=registry
        )
        self.seconds = Histogram(
            "tidegate_aggregate_effect_seconds",
            "From a claim to its settlement.",
            registry=registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self._behind = Gauge(
            "tidegate_aggregate_watermark_age_seconds",
            "How far event time stands behind the clock.",
            ["partition"],
            registry=registry,
        )
        self._at_end = Gauge(
            "tidegate_aggregate_partitions_at_end",
            "Source partitions that are read to their end.",
            registry=registry,
        )
        self._assigned = Gauge(
            "tidegate_aggregate_partitions", "Source partitions assigned.", registry=registry
        )

    def settled(self, work: Work) -> None:
        """Count what has become an effect."""
        topic = work.ranges[0].topic
        self._events.labels(topic).inc(work.counted)
        self._duplicates.labels(topic).inc(work.duplicates)
        self._alone.labels(topic).inc(work.alone)
        for reason, count in Tally(rejected.reason for _, rejected in work.dead).items():
            self._dead.labels(topic, reason).inc(count)
        for range_ in work.ranges:
            self._ranges.labels(topic, str(range_.redo).lower()).inc()

    def lost(self) -> None:
        """Count ranges that another worker will do."""
        self._lost.inc()

    def stands(self, assigned: int, at_end: int, watermarks_us: dict[int, int], clock_us: int) -> None:
        """Show how far this worker has come."""
        self._assigned.set(assigned)
        self._at_end.set(at_end)
        self._behind.clear()
        for partition, watermark_us in watermarks_us.items():
            self._behind.labels(partition).set((clock_us - watermark_us) / 1_000_000)
