"""What the webhook measures of itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Figures:
    """Metrics of notify.

    Parameters
    ----------
    registry
        What ``/metrics`` shows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deliveries = Counter(
            "tidegate_notify_deliveries",
            "Records that are done (delivered, dead_lettered), and attempts that did not do (failed, gone).",
            ["channel", "outcome"],
            registry=registry,
        )
        self._retries = Counter(
            "tidegate_notify_retries", "Attempts after the first.", ["channel"], registry=registry
        )
        self._waiting = Gauge(
            "tidegate_notify_waiting", "Records read and not done.", ["channel", "topic"], registry=registry
        )
        self._is_file_right = Gauge(
            "tidegate_notify_channels_file_right",
            "1 while the file of channels is right; 0 while an older one holds in its stead.",
            registry=registry,
        )
        self._lag = Gauge(
            "tidegate_notify_lag",
            "Offsets between the first record that is not done and the end of the log.",
            ["channel", "topic"],
            registry=registry,
        )

    def open(self, channel: str) -> None:
        """Show a channel's counts from the beginning: what never was is 0, not absent."""
        for outcome in ("delivered", "failed", "gone", "dead_lettered"):
            self._deliveries.labels(channel, outcome)
        self._retries.labels(channel)

    def counted(self, channel: str, outcome: str, count: int = 1) -> None:
        """Count what became of an attempt or of records."""
        self._deliveries.labels(channel, outcome).inc(count)

    def retried(self, channel: str) -> None:
        """Count an attempt after the first."""
        self._retries.labels(channel).inc()

    def stands(self, channel: str, topic: str, waiting: int, lag: int) -> None:
        """Show how far a channel is with a topic."""
        self._waiting.labels(channel, topic).set(waiting)
        self._lag.labels(channel, topic).set(lag)

    def read_file(self, *, is_right: bool) -> None:
        """Show whether the file of channels is right."""
        self._is_file_right.set(is_right)
