"""Evidence per metric -> a verdict: pass, fail, inconclusive, error or skipped."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tidegate.records import DecisionMetric
from tidegate_streams.rollouts.comparing import MetricEvidence
from tidegate_streams.statistics import combination, emix

Verdict = Literal["pass", "fail", "inconclusive", "error", "skipped"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a look says of a rollout.

    Parameters
    ----------
    log_e
        Log of the weighted mean e-value of the metrics that have effect: what rolls back.
    harmful
        Whether it has reached 1 / alpha_rollback.
    safe
        Whether every metric that has effect has excluded harm beyond its promotion margin.
    to_blame
        Metrics that are harmful by themselves, strongest first.
    suspects
        Metrics whose evidence of harm has reached 1 / alpha_promotion: reason enough not to send more.
    verdicts
        Metric -> verdict, muted metrics included.
    """

    log_e: float
    harmful: bool
    safe: bool
    to_blame: tuple[str, ...]
    suspects: tuple[str, ...]
    verdicts: Mapping[str, Verdict]


Judgements = Mapping[str, Judgement]
"""Candidate -> what a look says of it, those that were given up included."""


def judge(
    metrics: Iterable[DecisionMetric],
    evidence: Mapping[str, MetricEvidence],
    alpha_rollback: float,
    alpha_promotion: float,
    silent: frozenset[str] = frozenset(),
) -> Judgement:
    """Combine the evidence of all metrics.

    Parameters
    ----------
    metrics
        As the rollout states them.
    evidence
        Metric -> evidence so far.
    alpha_rollback
        Probability, over the whole rollout, of rolling back a candidate that is within every rollback margin.
    alpha_promotion
        Probability of promoting a candidate that is at or beyond any promotion margin.
    silent
        Metrics that are observed no longer, or only bad: they still roll back, and promote nobody.

    Returns
    -------
    Judgement
        A metric below its `min_n` counts as no evidence, in either direction.
    """
    metrics = list(metrics)
    enough = {metric.name: _enough(metric, evidence[metric.name]) for metric in metrics}
    harm = {
        metric.name: evidence[metric.name].log_e_rollback if enough[metric.name] else -math.inf
        for metric in metrics
    }
    safety = {
        metric.name: evidence[metric.name].log_e_promotion if enough[metric.name] else -math.inf
        for metric in metrics
    }
    guards = [metric for metric in metrics if not metric.muted]
    shares = combination.weights(
        {metric.name: metric.weight for metric in guards},
        frozenset(metric.name for metric in guards if metric.critical),
    )
    certain, excluded = math.log(1 / alpha_rollback), math.log(1 / alpha_promotion)
    counted = {name: harm[name] for name in shares}
    log_e = combination.average(list(counted.values()), list(shares.values()))
    blamed = combination.to_blame(counted, shares, alpha_rollback)
    muted = [metric.name for metric in metrics if metric.muted and harm[metric.name] >= certain]

    def verdict(metric: DecisionMetric) -> Verdict:
        name = metric.name
        if name in blamed or name in muted:
            return "fail"
        if not enough[name]:
            failed = evidence[name].failed_baseline + evidence[name].failed_candidate
            return "error" if failed else "skipped"
        if name in silent:
            return "error"
        return "pass" if safety[name] >= excluded else "inconclusive"

    verdicts = {metric.name: verdict(metric) for metric in metrics}
    return Judgement(
        log_e=log_e,
        harmful=log_e >= certain,
        safe=bool(guards) and all(verdicts[metric.name] == "pass" for metric in guards),
        to_blame=tuple(blamed),
        suspects=tuple(name for name in counted if counted[name] >= excluded),
        verdicts=verdicts,
    )


def highest(metric: DecisionMetric, evidence: MetricEvidence, alpha: float) -> float | None:
    """Upper end of the odds ratio in the worst comparison of a metric; None where nothing bounds it.

    Parameters
    ----------
    metric
        Of the rollout.
    evidence
        So far.
    alpha
        Probability that a ratio is ever above, in (0, 1).

    Returns
    -------
    float or None
        Below 1 the candidate is better beyond doubt, in every comparison.
    """
    if not _enough(metric, evidence):
        return None
    highest = 0.0
    for curve in evidence.curves:
        _, end = emix.interval(curve, alpha)
        if end is None:
            return None
        highest = max(highest, end)
    return highest


def _enough(metric: DecisionMetric, evidence: MetricEvidence) -> bool:
    # The level with the most will do: p50 tells harm long before p99 has a threshold.
    most = max(min(counts.n_baseline, counts.n_candidate) for counts in evidence.counts)
    return most >= max(metric.min_n, 1)
