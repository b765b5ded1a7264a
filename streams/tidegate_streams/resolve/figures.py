"""What `/metrics` shows of the resolver."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from tidegate_streams.resolve.ratings import Outcome


class Figures:
    """What `/metrics` shows of the resolver.

    Parameters
    ----------
    registry
        Where it is registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ratings = Counter(
            "tidegate_resolve_ratings",
            "Ratings that came without a series: resolved, repeated, unknown_call or not_a_call.",
            ["topic", "outcome"],
            registry=registry,
        )
        self.open = Gauge("tidegate_resolve_open", "Ratings that wait for their call.", registry=registry)
        self.lost = Counter(
            "tidegate_resolve_claims_lost", "Times that ranges went to another worker.", registry=registry
        )

    def count(self, topic: str, outcome: Outcome) -> None:
        """Count what has become of ratings."""
        self.ratings.labels(topic, "resolved").inc(len(outcome.complete))
        self.ratings.labels(topic, "repeated").inc(outcome.repeated)
        self.ratings.labels(topic, "unknown_call").inc(len(outcome.unknown))
