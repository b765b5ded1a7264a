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
            ["outcome"],
            registry=registry,
        )
        self.retries = Counter("tidegate_notify_retries", "Attempts after the first.", registry=registry)
        self._waiting = Gauge(
            "tidegate_notify_waiting", "Records read and not done.", ["topic"], registry=registry
        )
        self._lag = Gauge(
            "tidegate_notify_lag",
            "Offsets between the first record that is not done and the end of the log.",
            ["topic"],
            registry=registry,
        )
        for outcome in ("delivered", "failed", "gone", "dead_lettered"):
            self._deliveries.labels(outcome)

    def counted(self, outcome: str) -> None:
        """Count what became of an attempt or a record."""
        self._deliveries.labels(outcome).inc()

    def stands(self, topic: str, waiting: int, lag: int) -> None:
        """Show how far a topic is."""
        self._waiting.labels(topic).set(waiting)
        self._lag.labels(topic).set(lag)
