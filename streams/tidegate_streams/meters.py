"""What ``/metrics`` shows of the journal partitions."""

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge

from tidegate.metrics import find
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
        self._self_tests = Gauge(
            "tidegate_stream_self_tests",
            "Tests of halves of the serving variant since the journal's beginning, and those that found a "
            "difference: at most a share of alpha may.",
            ["partition", "metric", "what"],
            registry=registry,
        )
        self._design_effect = Gauge(
            "tidegate_stream_design_effect",
            "By how much calls of one unit that resemble each other widen the noise: the largest of all "
            "deployments where it is known.",
            ["partition", "metric"],
            registry=registry,
        )
        self._shown_us: dict[int, int | None] = {}
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
        if self._shown_us.get(partition) != state.closed_us:
            self._shown_us[partition] = state.closed_us
            self._show_noise(partition, state)

    def _show_noise(self, partition: int, state: fold.State) -> None:
        """By family of metrics: names of evaluations are without end."""
        counts: Counts[tuple[str, str]] = Counts()
        largest: dict[str, float] = {}
        for one in state.rollouts.values():
            for what, found in (("tests", one.halves.tests), ("alarms", one.halves.alarms)):
                for metric, n in found.items():
                    counts[_family(metric), what] += n
            for metric, effects in one.halves.effects(one.spec.metrics if one.spec else ()).items():
                largest[_family(metric)] = max(*effects, largest.get(_family(metric), 1.0))
        for (family, what), n in counts.items():
            self._self_tests.labels(partition, family, what).set(n)
        for family, effect in largest.items():
            self._design_effect.labels(partition, family).set(effect)


def _family(metric: str) -> str:
    known = find(metric)
    return known.name if known else "other"
