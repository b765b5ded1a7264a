"""Metrics that are measured no longer, or never well: an outage promotes nobody."""

from collections.abc import Collection, Iterable, Mapping

from tidegate.records import DecisionMetric
from tidegate_streams.rollouts.strata import VariantPane

PATIENCE = 20
"""So many times its usual distance, in calls, may pass without a good one; by chance e^-20 of gaps do."""

LEAST_CALLS = 100
"""Fewer calls without a good one say nothing."""

Silence = Mapping[str, Mapping[str, int]]
"""Metric -> variant -> calls of the variant since the metric was last observed and good."""


def after(silence: Silence, metrics: Iterable[DecisionMetric], panes: Mapping[str, VariantPane]) -> Silence:
    """Add one stratum.

    Parameters
    ----------
    silence
        So far.
    metrics
        Of the rollout.
    panes
        Variant -> what it did.
    """
    return {
        metric.name: {
            variant: 0 if _good(pane, metric) else silence.get(metric.name, {}).get(variant, 0) + pane.calls
            for variant, pane in panes.items()
        }
        for metric in metrics
    }


def of(
    metric: DecisionMetric,
    silence: Silence,
    totals: Mapping[str, VariantPane],
    variants: Collection[str],
) -> str | None:
    """Return the variant, of some, of which a metric has no good observation any more, or never had one.

    Parameters
    ----------
    metric
        Of the rollout.
    silence
        As `after` has it.
    totals
        Variant -> what it did in all strata.
    variants
        That are asked about.

    Returns
    -------
    str or None
        None while all is well, and for a metric without any observation: that is missing from the start.
    """
    for variant, calls in silence.get(metric.name, {}).items():
        if variant not in variants:
            continue
        total = totals[variant]
        good = _good(total, metric)
        patience = PATIENCE * total.calls / good if good else 0
        if _observed(total, metric) and calls >= max(LEAST_CALLS, patience):
            return variant
    return None


def _observed(pane: VariantPane, metric: DecisionMetric) -> int:
    n, _ = _came(pane, metric)
    return n + sum(pane.histograms.get(metric.name, {}).values())


def _good(pane: VariantPane, metric: DecisionMetric) -> int:
    n, bad = _came(pane, metric)
    if n and metric.increase_is != "both":
        return n - bad if metric.increase_is == "bad" else bad
    return _observed(pane, metric)


def _came(pane: VariantPane, metric: DecisionMetric) -> tuple[int, int]:
    """Ratings when they came, not when their turn comes to be compared."""
    return pane.rated.get(metric.name, pane.rates.get(metric.name, (0, 0)))
