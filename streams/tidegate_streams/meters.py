"""What ``/metrics`` shows of the journal partitions."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from tidegate_streams import fold


class Meters:
    """Counters and gauges by journal partition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._applied = Counter(
            "tidegate_stream_messages", "Journal messages applied.", ["partition"], registry=registry
        )
        self._watermark = Gauge(
            "tidegate_stream_watermark_seconds",
            "Event time before which all calls are in, since the epoch.",
            ["partition"],
            registry=registry,
        )
        self._counts = Gauge(
            "tidegate_stream_counts",
            "Since the journal's beginning: what came too late, series over the cap, ranges repeated.",
            ["partition", "what"],
            registry=registry,
        )
        self.snapshot = Gauge(
            "tidegate_stream_snapshot_offset",
            "Journal offset that a restart would go on from.",
            ["partition"],
            registry=registry,
        )
        self.lag = Gauge(
            "tidegate_stream_lag", "Journal messages not yet applied.", ["partition"], registry=registry
        )

    def show(self, partition: int, state: fold.State) -> None:
        """Note that a message was applied, and what the state is now."""
        self._applied.labels(partition).inc()
        if state.watermark.us is not None:
            self._watermark.labels(partition).set(state.watermark.us / 1e6)
        for what, count in (*state.counts.items(), ("ranges_repeated", state.ranges.repeated)):
            self._counts.labels(partition, what).set(count)
