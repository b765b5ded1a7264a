"""What the sink measures of itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tidegate_consumers.sink.store import Stored
from tidegate_infra.kafka.ranges import Range


class Figures:
    """Metrics of the sink.

    Parameters
    ----------
    registry
        What ``/metrics`` shows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter("tidegate_sink_rows", "Rows stored.", ["table"], registry=registry)
        self._ranges = Counter(
            "tidegate_sink_ranges", "Ranges settled.", ["topic", "redo"], registry=registry
        )
        self._repaired = Counter(
            "tidegate_sink_repaired_rows",
            "Rows that the engine took for inserted and that were not there.",
            registry=registry,
        )
        self._audits = Counter("tidegate_sink_audits", "Ranges whose rows were counted.", registry=registry)
        self.refused = Counter(
            "tidegate_sink_refused_inserts", "Inserts without a clean answer.", registry=registry
        )
        self.lost = Counter(
            "tidegate_sink_lost_claims", "Claims that another process took over.", registry=registry
        )
        self.seconds = Histogram(
            "tidegate_sink_store_seconds",
            "Time to store a range, its audit included.",
            registry=registry,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )
        self.held = Gauge(
            "tidegate_sink_held_bytes", "Bytes of messages read and not settled.", registry=registry
        )

    def stored(self, range_: Range, stored: Stored) -> None:
        """Count a range that was settled."""
        for table, rows in stored.rows.items():
            self._rows.labels(table).inc(rows)
        self._ranges.labels(range_.topic, str(range_.redo).lower()).inc()
        self._audits.inc(stored.audited)
        self._repaired.inc(stored.repaired)
