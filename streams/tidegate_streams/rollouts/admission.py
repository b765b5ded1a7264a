"""Whether a rollout can decide in its time at the present traffic, before it begins."""

import math
from collections.abc import Iterator

from tidegate.records import DecisionMetric, Rollout
from tidegate_streams.rollouts import comparing, words
from tidegate_streams.rollouts.comparing import Comparison
from tidegate_streams.rollouts.halves import Effects
from tidegate_streams.rollouts.reference import BLOCK_US, Reference
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.variants import FULL_BP, alphas, baseline, candidates, each_bp
from tidegate_streams.statistics import emix, forecast
from tidegate_streams.statistics.dependence import tempered
from tidegate_streams.statistics.emix import Floats
from tidegate_streams.statistics.exceedances import above, threshold
from tidegate_streams.statistics.forecast import Stage
from tidegate_streams.statistics.margins import line, reference_rate

LEAST_HISTORY_US = 3 * BLOCK_US
"""Half an hour: traffic that was watched for less says little of what comes."""

LEAST_OBSERVATIONS = 100

_HOUR_US = 3_600_000_000


def doubt(
    spec: Rollout, usual: Reference, until_us: int | None, effects: Effects | None = None
) -> str | None:
    """Return why a rollout cannot be expected to decide, with the figures; None when it can, or nobody knows.

    Parameters
    ----------
    spec
        A sound specification.
    usual
        The past hour of each variant: how much traffic there is, and the rates of the baseline.
    until_us
        End of the last pane that was looked at.
    effects
        Design effects that the evidence will be tempered by.

    Returns
    -------
    str or None
        Of each metric that decides the calls it needs if every candidate is like the baseline, and those
        that the longest duration brings. Metrics with fewer than 100 observations are left out.
    """
    if STRATEGIES[spec.strategy].end == "unharmed" or until_us is None or not usual.blocks:
        return None
    watched_us = until_us - min(usual.blocks) * BLOCK_US
    seen = {name for block in usual.blocks.values() for name in block}
    calls = sum(usual.of(name).calls for name in seen)
    if watched_us < LEAST_HISTORY_US or not calls:
        return None
    per_us = calls / watched_us
    brought = per_us * spec.max_duration_us
    lengths = list(_lengths(spec, per_us))
    if sum(lengths) > brought:
        needed = [f"its steps alone take {sum(lengths):,.0f} calls"]
    else:
        past = usual.of(baseline(spec).name)
        guards = [metric for metric in spec.metrics if past.calls and not metric.muted]
        problems = (
            _problem(spec, metric, past, lengths[:-1], brought, (effects or {}).get(metric.name, ()))
            for metric in guards
        )
        needed = [problem for problem in problems if problem is not None]
    if not needed:
        return None
    return (
        f"{words.joined(needed)}, and {words.duration(spec.max_duration_us)} bring {brought:,.0f} at the "
        f"present {per_us * _HOUR_US:,.0f} calls an hour"
    )


def _lengths(spec: Rollout, per_us: float) -> Iterator[float]:
    """Calls of all variants that each step takes at least."""
    for number, step in enumerate(spec.steps):
        share = each_bp(spec, number) / FULL_BP
        yield max(step.min_calls / share, step.min_duration_us * per_us)


def _problem(
    spec: Rollout,
    metric: DecisionMetric,
    past: VariantPane,
    lengths: list[float],
    brought: float,
    effects: tuple[float, ...],
) -> str | None:
    """Say how many calls a metric needs, where they are more than there will be."""
    shares = [each_bp(spec, number) / FULL_BP for number in range(len(spec.steps))]
    others = len(candidates(spec)) - 1
    most: float = 0
    for i, comparison in enumerate(comparing.comparisons(metric)):
        growths = [_growth(metric, comparison, past, share, 1 - others * share) for share in shares]
        stages = [
            Stage(length, tempered(growth, effects[i]) if effects else growth)
            for length, growth in zip([*lengths, math.inf], growths, strict=True)
            if growth is not None
        ]
        if not stages:
            continue
        needed = forecast.until_promotion_through(stages, alphas(spec).promotion)
        if needed is None:
            return f"{metric.name} never excludes harm beyond {words.margin(metric, metric.promotion_margin)}"
        most = max(most, needed)
    return f"{metric.name} needs about {most:,.0f} calls" if most > brought else None


def _growth(
    metric: DecisionMetric, test: Comparison, past: VariantPane, share: float, compared: float
) -> Floats | None:
    """Expected evidence by a call if a candidate is like the baseline; None where nobody can say.

    `share` is the candidate's of all calls, `compared` that of the candidate and the baseline together.
    """
    log_psi = emix.points(0.0, 0.0)
    if metric.margin_kind == "odds":
        log_psi = emix.points(math.log(metric.rollback_margin), math.log(metric.promotion_margin))
    if test.quantile is not None:
        counts = past.histograms.get(metric.name, {})
        n, edge = sum(counts.values()), threshold(counts, test.quantile)
        if n < LEAST_OBSERVATIONS or edge is None:
            return None
        edge = comparing.safe_edge(test.direction, counts, edge)
        rates = above(counts, edge) / n, above(counts, comparing.edges(metric, test.direction, edge)[1]) / n
    else:
        n, bad = past.rates.get(metric.name, (0, 0))
        usual = reference_rate(n, bad)
        if n < LEAST_OBSERVATIONS or usual is None or not (bad or metric.margin_kind == "absolute"):
            return None
        rates = usual, usual
    base, new = rates if test.direction > 0 else (1 - rates[0], 1 - rates[1])
    if test.quantile is not None or metric.margin_kind == "odds":
        by_unit = forecast.of_odds(base, new, share / compared, log_psi)
    else:
        lines = (line(metric.margin_kind, m) for m in (metric.rollback_margin, metric.promotion_margin))
        by_unit = forecast.of_lines(base, new, share / compared, *lines)
    growth: Floats = by_unit * compared * (n / past.calls)
    return growth if growth.any() else None
