"""What each metric says of each candidate, in numbers and in a sentence: the same wherever it is told."""

import math
from collections.abc import Mapping

import numpy as np

from tidegate.records import DecisionMetric, Evidence
from tidegate_streams import histogram
from tidegate_streams.rollouts import outlook, silence, words
from tidegate_streams.rollouts.comparing import HISTOGRAM_SCALE, Comparison, MetricEvidence, comparisons
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.tolerance import in_step, tolerated
from tidegate_streams.rollouts.transitions import LIVE
from tidegate_streams.rollouts.variants import alphas, baseline
from tidegate_streams.rollouts.verdicts import Judgement, Judgements
from tidegate_streams.statistics import emix, intervals, means
from tidegate_streams.statistics.exceedances import ZERO
from tidegate_streams.statistics.intervals import Effect
from tidegate_streams.statistics.margins import SMALLEST_REFERENCE

_EXPECTED = 2_000
"""Calls, n_b n_c / (n_b + n_c) of both variants, at which the interval of a mean is narrowest."""

_MICRO = 1e6
"""Ratings with a number are added up in millionths."""


def rows(state: State, judgements: Judgements) -> list[Evidence]:
    """Return what each metric says of each candidate, a row for both."""
    return [
        _row(state, new, metric, judgement)
        for new, judgement in judgements.items()
        for metric in state.plan.metrics
    ]


def sentences(state: State, judgements: Judgements, candidate: str) -> dict[str, str]:
    """Metric -> what it says of a candidate, as commands, alerts and explanations have it."""
    return {row.metric: row.sentence for row in rows(state, judgements) if row.candidate == candidate}


def _row(state: State, new: str, metric: DecisionMetric, judgement: Judgement) -> Evidence:
    base, alpha = baseline(state.plan).name, alphas(state.plan)
    found, verdict = state.evidence[new][metric.name], judgement.verdicts[metric.name]
    tests = comparisons(metric)
    i = found.strongest
    level, counts, curve = tests[i].quantile, found.counts[i], found.curves[i]
    judged = counts.n_baseline > 0 and counts.n_candidate > 0
    odds = intervals.effect(curve, alpha.promotion, "odds", None) if judged else Effect(None, None, None)
    values = {name: _value(metric, state.totals.get(name, VariantPane()), level) for name in (base, new)}
    goes_on = state.state in LIVE and new in state.tried and not judgement.harmful
    log_e_rollback = found.log_e_rollback if judged else None
    quiet = silence.of(metric, state.silence, state.totals, (base, new)) if verdict == "error" else None
    return Evidence(
        metric=metric.name,
        candidate=new,
        verdict=verdict,
        n_baseline=counts.n_baseline,
        n_candidate=counts.n_candidate,
        events_baseline=counts.k_baseline if judged else None,
        events_candidate=counts.k_candidate if judged else None,
        value_baseline=values[base],
        value_candidate=values[new],
        estimate=odds.estimate,
        ci_low=odds.low,
        ci_high=odds.high,
        unit="odds_ratio",
        log_e_rollback=log_e_rollback,
        log_e_promotion=found.log_e_promotion if judged else None,
        margin_kind=metric.margin_kind,
        rollback_margin=in_step(metric, state.plan.steps[state.step]).rollback_margin,
        promotion_margin=metric.promotion_margin,
        alpha_rollback=alpha.rollback,
        alpha_promotion=alpha.promotion,
        alpha_spent=None if log_e_rollback is None else min(1.0, math.exp(-max(log_e_rollback, 0.0))),
        muted=metric.muted,
        design_effects=list(found.effects),
        **_means(metric, found, alpha.promotion),
        sentence=_sentence(state, new, metric, found, i, verdict, values, goes_on)
        if quiet is None
        else words.silent(metric, quiet, state.silence[metric.name][quiet]),
    )


def _sentence(
    state: State,
    new: str,
    metric: DecisionMetric,
    found: MetricEvidence,
    i: int,
    verdict: str,
    values: Mapping[str, float | None],
    goes_on: bool,
) -> str:
    base, steps = baseline(state.plan).name, state.plan.steps[: state.step + 1]
    counts, test = found.counts[i], comparisons(metric)[i]
    if verdict in ("error", "skipped"):
        failed = found.failed_baseline + found.failed_candidate
        failures = f"{failed:,} measurements failed, and " if verdict == "error" else ""
        missing = _missing(metric, counts, base, new)
        return f"{metric.name}: {failures}{missing}{_awaited(state, metric, test, counts)}."
    beyond = None
    if test.quantile is not None:
        at = words.level(test.quantile)
        beyond = f"{'above' if test.direction > 0 else 'below'} the usual {at} of {base}"
    text = words.finding(metric, counts, base, new, beyond)
    value_b, value_c = values[base], values[new]
    if test.quantile is not None and value_b is not None and value_c is not None:
        text += (
            f" ({at}: {words.quantity(metric.name, value_c)} against {words.quantity(metric.name, value_b)})"
        )
    without = "it would have rolled back" if verdict == "fail" else "no effect"
    muted = f" (muted: {without})" if metric.muted else ""
    if verdict == "inconclusive" and found.is_eventless and metric.margin_kind != "absolute":
        return f"{text}; {words.eventless(metric)}{muted}."
    text += _on_average(_means(metric, found, alphas(state.plan).promotion))
    text += f"; {words.conclusion(metric, verdict, found.log_e_rollback, tolerated(metric, steps))}"
    forecast = outlook.ahead(state.plan, metric, found) if goes_on and verdict == "inconclusive" else ""
    return f"{text}; {forecast}{muted}." if forecast else f"{text}{muted}."


def _means(metric: DecisionMetric, found: MetricEvidence, alpha: float) -> dict[str, float | None]:
    """Means of both variants and how much more the candidate's is, where there is a value to each call."""
    weight, mean_b, mean_c = (float(row) for row in found.means[[0, 2, 8]])
    if not weight:
        return {}
    scale = weight * (_MICRO if metric.kind == "rate" else HISTOGRAM_SCALE.get(metric.name, 1.0))
    wide = means.dependent(found.means, max(found.effects, default=1.0))
    effect = means.effect(wide, alpha, _EXPECTED)
    low, change, high = effect.relative
    return {
        "mean_baseline": mean_b / scale,
        "mean_candidate": mean_c / scale,
        "mean_change": change,
        "mean_change_low": low if effect.is_trusted else None,
        "mean_change_high": high if effect.is_trusted else None,
    }


def _on_average(told: Mapping[str, float | None]) -> str:
    change, low, high = (told.get(f"mean_change{end}") for end in ("", "_low", "_high"))
    if change is None or low is None or high is None:
        return ""
    return f"; on average {100 * change:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f} %)"


def _missing(metric: DecisionMetric, counts: emix.Counts, base: str, new: str) -> str:
    noun, least = words.units(metric.name), max(metric.min_n, 1)
    missing = [
        f"{n:,} of {least:,} {noun} of {name}" if n else f"no {noun} of {name}"
        for n, name in ((counts.n_baseline, base), (counts.n_candidate, new))
        if n < least
    ]
    return f"{words.joined(missing)} to compare so far"


def _awaited(state: State, metric: DecisionMetric, test: Comparison, counts: emix.Counts) -> str:
    """What nothing counts before: what is usual for the baseline, which a margin or a quantile is held to."""
    base = baseline(state.plan).name
    usual = state.reference.of(base)
    if test.level is not None:
        seen = sum(usual.histograms.get(metric.name, {}).values())
        least = math.ceil(round(1 / min(test.level, 1 - test.level), 6))
    else:
        seen, _ = usual.rates.get(metric.name, (0, 0))
        least = 0 if metric.margin_kind == "odds" else SMALLEST_REFERENCE
    if counts.n_baseline or seen >= least:
        return ""
    noun = words.units(metric.name)
    return f"; what is usual for {base} is known after {least:,} {noun}, and {seen:,} are seen"


def _value(metric: DecisionMetric, total: VariantPane, level: float | None) -> float | None:
    if level is None:
        n, bad = total.rates.get(metric.name, (0, 0))
        return bad / n if n else None
    counts = total.histograms.get(metric.name)
    if not counts:
        return None
    indexes = sorted(index for index in counts if index != ZERO)
    value = histogram.quantiles(
        level, np.array(indexes), np.array([counts[index] for index in indexes]), zeros=counts.get(ZERO, 0)
    )
    return float(value[0]) / HISTOGRAM_SCALE.get(metric.name, 1.0)
