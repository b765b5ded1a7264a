"""Evidence and decisions in sentences that a person understands without knowing the tests."""

import math
from datetime import UTC, datetime, timedelta

from tidegate.metrics import find
from tidegate.records import DecisionMetric
from tidegate_streams.statistics.emix import Counts

_NOUNS = {"feedback": "ratings", "evaluation": "evaluations", "guardrail": "checked calls"}
_CLASSIFIED = ("abstain_rate", "refusal_rate", "empty_rate")

_US, _MS, _SECOND, _MINUTE = 1, 1_000, 1_000_000, 60_000_000
_HOUR, _DAY = 60 * _MINUTE, 24 * 60 * _MINUTE


def units(metric: str) -> str:
    """What a metric counts, in the plural."""
    if metric in _CLASSIFIED:
        return "classified calls"
    return _NOUNS.get(metric.partition(".")[0], "calls")


def share(value: float) -> str:
    """Write a share in percent: 0.0312 is 3.1 %."""
    percent = 100 * value
    digits = 0 if percent >= 99.95 or percent == 0 else 1 if percent >= 1 else 2
    return f"{percent:.{digits}f} %"


def weight(bp: int) -> str:
    """Write a weight in percent: 500 is 5 %."""
    return f"{bp / 100:g} %"


def duration(us: float) -> str:
    """Write a duration in its largest unit: 90,000,000 is 1.5 min."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (_SECOND, "s"), (_MS, "ms")):
        if us >= unit:
            return f"{us / unit:.3g} {name}"
    return f"{us:.3g} us"


def moment(us: int) -> str:
    """Write a point in event time: 2026-12-24 17:00 UTC."""
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return f"{time:%Y-%m-%d %H:%M} UTC"


def quantity(metric: str, value: float) -> str:
    """Write a value of a quantile metric in its unit."""
    known = find(metric)
    unit = known.unit if known else "1"
    if unit == "us":
        return duration(value)
    if unit == "USD":
        return f"${value:.3g}"
    return f"{value:,.0f}"


def margin(metric: DecisionMetric, value: float) -> str:
    """Write a margin as a rollout file does."""
    if metric.margin_kind == "odds":
        return f"odds of {value:g}"
    if metric.margin_kind == "relative":
        return f"{100 * value:+g} %"
    if metric.kind == "rate":
        return f"{100 * value:g} points"
    return quantity(metric.name, value)


def rarity(log_e: float) -> str:
    """How rarely chance produces such evidence: at most once in e rollouts."""
    e = math.exp(min(log_e, 700))
    if e < 1e6:
        return f"once in {e:,.0f}"
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if e >= size:
            return f"once in {e / size:,.0f} {name}" if e < 1e15 else "once in more than 1,000 trillion"
    raise AssertionError("e is at least a million")


def level(value: float) -> str:
    """Name a quantile: 0.95 is p95."""
    return f"p{100 * value:g}"


def finding(metric: DecisionMetric, counts: Counts, baseline: str, candidate: str, beyond: str | None) -> str:
    """What was seen: bad events among units, of both variants.

    Parameters
    ----------
    metric
        The metric.
    counts
        Units and bad events.
    baseline, candidate
        Names of the variants.
    beyond
        For quantiles, where the bad events lie, such as ``above the usual p95 of march``.
    """
    noun = units(metric.name)
    bad_c = share(counts.k_candidate / counts.n_candidate)
    bad_b = share(counts.k_baseline / counts.n_baseline)
    what = f" {beyond}" if beyond else ""
    return (
        f"{metric.name}: {bad_c} of {counts.n_candidate:,} {noun} of {candidate}{what}, "
        f"against {bad_b} of {counts.n_baseline:,} of {baseline}"
    )


def conclusion(metric: DecisionMetric, verdict: str, log_e_rollback: float, tolerated: str) -> str:
    """What follows from it; `tolerated` is what `tolerance.tolerated` returns."""
    excluded = margin(metric, metric.promotion_margin)
    if verdict == "fail":
        return (
            f"worse than the tolerated {tolerated}: "
            f"chance alone shows this at most {rarity(log_e_rollback)} rollouts"
        )
    if verdict == "pass":
        return f"harm beyond {excluded} is excluded"
    return f"neither harm beyond {tolerated} nor the absence of harm beyond {excluded} is certain yet"


def silent(metric: DecisionMetric, variant: str, calls: int) -> str:
    """It is measured no longer, or only badly."""
    return (
        f"{metric.name}: not one good among the {units(metric.name)} of {variant} for its last {calls:,} "
        f"calls: what measures it has stopped, or nothing works. Nothing is promoted on it."
    )


def eventless(metric: DecisionMetric) -> str:
    """Neither variant had a bad event."""
    if metric.kind == "quantile":
        return "nothing above it in either, which cannot be compared"
    return "no bad event in either, which odds cannot compare: margins in points can pass"


def joined(parts: list[str]) -> str:
    """Join parts as in speech: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
