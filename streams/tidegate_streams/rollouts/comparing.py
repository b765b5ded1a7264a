"""Strata -> evidence per metric: sums of log-likelihoods, one for each test that a metric is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from tidegate.records import DecisionMetric
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.statistics import combination, emix, excess, means
from tidegate_streams.statistics.dependence import tempered
from tidegate_streams.statistics.emix import Counts, Floats
from tidegate_streams.statistics.exceedances import (
    GAMMA,
    ZERO,
    Histogram,
    above,
    below_limit,
    shifted,
    threshold,
)
from tidegate_streams.statistics.margins import line, reference_rate
from tidegate_streams.statistics.means import Moments

HISTOGRAM_SCALE = {"cost_usd": 1e9}
"""Units of the histogram in one unit of the metric: costs are counted in nano-dollars."""

_DIRECTIONS = {"bad": (1,), "good": (-1,), "both": (1, -1)}


class Comparison(NamedTuple):
    """One test of a metric; a metric is one, or several of which each must hold.

    Parameters
    ----------
    direction
        1 where an increase is harm, -1 where a decrease is.
    level
        Quantile level on the side of the harm; None for rates.
    """

    direction: int
    level: float | None

    @property
    def quantile(self) -> float | None:
        """The quantile that the threshold is: for harm by a decrease, the mirrored level."""
        if self.level is None or self.direction > 0:
            return self.level
        return round(1 - self.level, 9)


def comparisons(metric: DecisionMetric) -> list[Comparison]:
    """Tests of a metric, in a fixed order."""
    levels: list[float | None] = [*metric.quantiles] if metric.kind == "quantile" else [None]
    return [Comparison(direction, level) for direction in _DIRECTIONS[metric.increase_is] for level in levels]


@dataclass(frozen=True, slots=True)
class MetricEvidence:
    """What all strata so far say of one metric.

    Parameters
    ----------
    curves
        Per comparison the sum over strata, shape (comparisons, 74); see `statistics.emix`.
    counts
        Per comparison the units and bad events that went in. For quantiles, bad is beyond the baseline's
        earlier quantile.
    failed_baseline, failed_candidate
        Measurements that failed.
    effects
        Design effect of each comparison, fixed before the first stratum; empty where none is known.
    means
        Sum over strata of what `statistics.means` makes of the values; nothing decides by it.
    margin
        Rollback margin of the last stratum: `emix.HARM` of the curves is of the strata with that one.
    harm
        Other rollback margins -> `emix.HARM` of the strata with them, shape (comparisons, 13).
    margins
        How many rollback margins the steps have.
    """

    curves: Floats
    counts: tuple[Counts, ...]
    failed_baseline: int = 0
    failed_candidate: int = 0
    effects: tuple[float, ...] = ()
    means: Floats = field(default_factory=lambda: np.zeros(means.ROWS))
    margin: float | None = None
    harm: Mapping[float, Floats] = field(default_factory=dict)
    margins: int = 1

    @classmethod
    def none(
        cls, metric: DecisionMetric, effects: tuple[float, ...] = (), margins: int = 1
    ) -> "MetricEvidence":
        """Evidence before the first stratum."""
        tests = len(comparisons(metric))
        return cls(np.zeros((tests, emix.N_POINTS)), (Counts(),) * tests, effects=effects, margins=margins)

    @property
    def log_e_rollback(self) -> float:
        """Log of the mean e-value of the comparisons, against "no worse than the rollback margin".

        Where steps tolerate unlike harm, of the comparisons by each margin: what is harmless by a loose one
        says nothing against harm by a strict one, and one that has no stratum yet has an e-value of 1.
        """
        found = [*self.curves, *(row for rows in self.harm.values() for row in rows)]
        unseen = [0.0] * (len(self.counts) * (self.margins - 1 - len(self.harm)))
        return combination.average([*map(emix.log_e_rollback, found), *unseen])

    @property
    def log_e_promotion(self) -> float:
        """Log of the smallest e-value, against "as bad as the promotion margin": each must exclude it."""
        return min(emix.log_e_promotion(curve) for curve in self.curves)

    def at(self, margin: float) -> "MetricEvidence":
        """Turn to the strata of a rollback margin, which the next one adds to."""
        if margin == self.margin:
            return self
        curves, harm = self.curves.copy(), dict(self.harm)
        if self.margin is not None:
            harm[self.margin] = self.curves[:, emix.HARM]
        curves[:, emix.HARM] = harm.pop(margin, 0.0)
        return replace(self, curves=curves, harm=harm, margin=margin)

    @property
    def is_eventless(self) -> bool:
        """Whether neither variant has had a bad event: nothing to compare."""
        return not any(counts.k_baseline or counts.k_candidate for counts in self.counts)

    @property
    def strongest(self) -> int:
        """Position of the comparison with the most evidence of harm, of those that have any evidence."""
        return max(
            range(len(self.counts)),
            key=lambda i: (
                self.counts[i].n_baseline > 0 and self.counts[i].n_candidate > 0,
                emix.log_e_rollback(self.curves[i]),
            ),
        )


def after(
    evidence: MetricEvidence,
    metric: DecisionMetric,
    baseline: VariantPane,
    candidate: VariantPane,
    reference: VariantPane,
) -> MetricEvidence:
    """Add one stratum.

    Parameters
    ----------
    evidence
        So far.
    metric
        Its margins.
    baseline, candidate
        What they did in the stratum.
    reference
        What the baseline did before it. A comparison that has no threshold or margin yet is left out.

    Returns
    -------
    MetricEvidence
        With the stratum.
    """
    name = metric.name
    evidence = evidence.at(metric.rollback_margin)
    curves, counts = evidence.curves.copy(), list(evidence.counts)
    for i, comparison in enumerate(comparisons(metric)):
        if comparison.quantile is None:
            added = _rate(metric, comparison, baseline, candidate, reference)
        else:
            added = _exceedances(
                metric,
                comparison.direction,
                comparison.quantile,
                baseline.histograms.get(name, {}),
                candidate.histograms.get(name, {}),
                reference.histograms.get(name, {}),
            )
        if added is not None:
            curves[i] += tempered(added[0], evidence.effects[i]) if evidence.effects else added[0]
            counts[i] += added[1]
    if name in baseline.sums and name in candidate.sums:
        added_means = means.stratum(_moments(name, baseline), _moments(name, candidate))
        evidence = replace(evidence, means=evidence.means + added_means)
    return replace(
        evidence,
        curves=curves,
        counts=tuple(counts),
        failed_baseline=evidence.failed_baseline + baseline.failures.get(name, 0),
        failed_candidate=evidence.failed_candidate + candidate.failures.get(name, 0),
    )


def _moments(metric: str, pane: VariantPane) -> Moments:
    counts = pane.histograms.get(metric, {})
    middles = [0.0 if index == ZERO else GAMMA ** (index - 0.5) for index in counts]
    return Moments.exactly(*pane.sums[metric], middles, list(counts.values()))


def _rate(
    metric: DecisionMetric,
    comparison: Comparison,
    baseline: VariantPane,
    candidate: VariantPane,
    reference: VariantPane,
) -> tuple[Floats, Counts] | None:
    n_b, k_b = baseline.rates.get(metric.name, (0, 0))
    n_c, k_c = candidate.rates.get(metric.name, (0, 0))
    counts = Counts(n_b, n_c, k_b, k_c)
    if comparison.direction < 0:
        counts = counts.complement()
    kind, rollback, promotion = metric.margin_kind, metric.rollback_margin, metric.promotion_margin
    if kind == "odds":
        return emix.log_likelihood(counts, emix.points(math.log(rollback), math.log(promotion))), counts
    usual = reference_rate(*reference.rates.get(metric.name, (0, 0)))
    if usual is None:
        return None
    beyond = excess.log_factors(
        counts, usual if comparison.direction > 0 else 1 - usual, line(kind, rollback), line(kind, promotion)
    )
    return np.concatenate([beyond, emix.log_likelihood(counts, emix.GRID_LOG_PSI)]), counts


def _exceedances(
    metric: DecisionMetric,
    direction: int,
    quantile: float,
    baseline: Histogram,
    candidate: Histogram,
    reference: Histogram,
) -> tuple[Floats, Counts] | None:
    edge = threshold(reference, quantile)
    if edge is None:
        return None
    n_b, n_c = sum(baseline.values()), sum(candidate.values())

    def beyond(index: int, moved: int) -> Counts:
        counts = Counts(n_b, n_c, above(baseline, index), above(candidate, moved))
        return counts if direction > 0 else counts.complement()

    safe = safe_edge(direction, reference, edge)
    rollback, promotion = edges(metric, direction, edge)[0], edges(metric, direction, safe)[1]
    if metric.margin_kind == "odds":
        at = emix.points(math.log(metric.rollback_margin), math.log(metric.promotion_margin))
    else:
        at = emix.points(0.0, 0.0)
    curve = np.concatenate(
        [
            emix.log_likelihood(beyond(edge, rollback), at[emix.HARM]),
            emix.log_likelihood(beyond(safe, promotion), at[emix.SAFE]),
            emix.log_likelihood(beyond(edge, edge), at[emix.GRID]),
        ]
    )
    return curve, beyond(edge, edge)


def safe_edge(direction: int, reference: Histogram, edge: int) -> int:
    """Where a quantile's edge lies for the baseline when a promotion is tested."""
    return below_limit(reference, edge) if direction > 0 else edge


def edges(metric: DecisionMetric, direction: int, edge: int) -> tuple[int, int]:
    """Where a quantile's edge lies for the candidate, moved by the rollback and by the promotion margin."""
    kind = metric.margin_kind
    scale = HISTOGRAM_SCALE.get(metric.name, 1.0) if kind == "absolute" else 1.0
    return (
        shifted(edge, kind, direction * metric.rollback_margin * scale, strict=False),
        shifted(edge, kind, direction * metric.promotion_margin * scale, strict=True),
    )
