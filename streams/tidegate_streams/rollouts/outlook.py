"""How far a metric still is from its verdict, if evidence goes on as it has so far."""

from tidegate.records import DecisionMetric, Rollout
from tidegate_streams.rollouts import words
from tidegate_streams.rollouts.comparing import MetricEvidence
from tidegate_streams.rollouts.variants import alphas
from tidegate_streams.statistics import combination, forecast


def units_until_pass(found: MetricEvidence, alpha_promotion: float) -> float | None:
    """Units of both variants until harm is excluded in every comparison; None when that is not in sight.

    Parameters
    ----------
    found
        Evidence so far.
    alpha_promotion
        Of the candidate: its part of the rollout's.
    """
    most = 0.0
    for curve, counts in zip(found.curves, found.counts, strict=True):
        seen = counts.n_baseline + counts.n_candidate
        left = forecast.until_promotion(curve, curve / seen, alpha_promotion) if seen else None
        if left is None:
            return None
        most = max(most, left)
    return most


def units_until_fail(found: MetricEvidence, alpha: float) -> float | None:
    """Units of both variants until one comparison alone makes harm certain; None when that is not in sight.

    Parameters
    ----------
    found
        Evidence so far.
    alpha
        Of the metric: its share of the candidate's part of `alpha_rollback`.
    """
    least: float | None = None
    for curve, counts in zip(found.curves, found.counts, strict=True):
        seen = counts.n_baseline + counts.n_candidate
        left = (
            forecast.until_rollback(curve, curve / seen, alpha / (len(found.counts) * found.margins))
            if seen
            else None
        )
        if left is not None:
            least = left if least is None else min(least, left)
    return least


def ahead(spec: Rollout, metric: DecisionMetric, found: MetricEvidence) -> str:
    """Say what verdict may come first, and when; empty where none is in sight.

    Parameters
    ----------
    spec
        The rollout.
    metric
        One of its metrics, whose verdict is open.
    found
        Evidence so far.
    """
    guards = [one for one in spec.metrics if not one.muted]
    critical = frozenset(one.name for one in guards if one.critical)
    share = combination.weights({one.name: one.weight for one in guards}, critical).get(metric.name)
    alpha = alphas(spec)
    passes = units_until_pass(found, alpha.promotion)
    fails = None if share is None else units_until_fail(found, alpha.rollback * share)
    if fails is not None and (passes is None or fails < passes):
        return (
            f"if it goes on like this, {_about(fails)} more {words.units(metric.name)} make it certain harm"
        )
    if passes is None:
        return ""
    return f"if it goes on like this, {_about(passes)} more {words.units(metric.name)} exclude the harm"


def _about(units: float) -> str:
    return f"about {max(float(f'{units:.2g}'), 1):,.0f}"
