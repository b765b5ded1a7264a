"""The variant that serves, compared with itself: its units fall by their hash into two halves that are alike.

Whatever is found between them is noise. How much of it there is tells the design effect by which evidence of
the next rollout is tempered; how often the test of a rollout calls it a difference is the false-alarm rate
that users would see. Never learnt from the candidate: a harmful one makes its own calls resemble each other.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from tidegate.records import DecisionMetric, Rollout
from tidegate_streams.rollouts.comparing import comparisons
from tidegate_streams.rollouts.strata import Strata, VariantPane, strata_of
from tidegate_streams.rollouts.variants import baseline
from tidegate_streams.rollups import Frames
from tidegate_streams.statistics import combination, emix
from tidegate_streams.statistics.dependence import Excess, HalfSums, tempered
from tidegate_streams.statistics.emix import Counts, Floats
from tidegate_streams.statistics.exceedances import Histogram, above, threshold

BLOCK_US = 1_800_000_000
"""Half an hour: long beside a session. What a unit does in two blocks is missed."""

HALF_LIFE_DAYS = 7
"""After so many days, what was seen counts for half."""

_DAY_US = 86_400_000_000

_FIRST, _SECOND = "first", "second"

_LOG_PSI: Floats = np.concatenate([[0.0], emix.STEPS, -emix.STEPS])
"""No difference, and the alternatives of a rollout on both sides: either half may come out worse."""

Effects = Mapping[str, tuple[float, ...]]
"""Metric -> design effect of each of its comparisons."""

Level = tuple[str, float | None]
"""Metric, and the quantile whose exceedances are counted; None for a rate."""


def serving(spec: Rollout, state: str, winner: str) -> str:
    """Name the variant that is compared with itself: the one that serves all when nothing is tried."""
    return winner if winner and state in ("promoting", "succeeded") else baseline(spec).name


def halves_of(frames: Frames, variant: str) -> Strata:
    """Stratum -> half of the units -> what it did.

    Parameters
    ----------
    frames
        Merged rows of one deployment that may decide, as `looks.joined` returns them.
    variant
        Whose units are halved. Calls that were assigned by no hash are in neither half.
    """
    label = pl.when("aa").then(pl.lit(_SECOND)).otherwise(pl.lit(_FIRST)).alias("variant")
    is_halved = (pl.col("variant") == variant) & pl.col("aa").is_not_null()
    halved = {kind: rows.filter(is_halved).with_columns(label) for kind, rows in frames.items()}
    return strata_of(**halved) if any(rows.height for rows in halved.values()) else {}


@dataclass(frozen=True, slots=True)
class Trial:
    """A test of the halves against each other, with the alpha of a rollback.

    Parameters
    ----------
    day
        Of event time, since the epoch: with the next it begins anew.
    levels
        What is counted; the e-values of a metric's quantiles are averaged, as in a rollout.
    effects
        Design effect of each, as it was known when the test began.
    curves
        Sums of tempered log-likelihoods, shape (levels, 25).
    """

    day: int
    levels: tuple[Level, ...]
    effects: tuple[float, ...]
    curves: Floats

    @property
    def log_e(self) -> float:
        """Log e-value against "the halves are alike"."""
        ratios = self.curves[:, 1:] - self.curves[:, :1]
        return combination.average([combination.average(list(row)) for row in ratios])


@dataclass(frozen=True, slots=True)
class Halves:
    """What the halves of one deployment have said so far.

    Parameters
    ----------
    block
        Number of the present block of event time.
    excesses
        Level -> what the present block says.
    sums
        Level -> what complete blocks said, faded by their age.
    trials
        Metric -> its present test.
    tests, alarms
        Metric -> tests begun, one a day and one after each alarm; and those that found a difference. Of the
        tests, at most a share of alpha does.
    """

    block: int = 0
    excesses: Mapping[Level, Excess] = field(default_factory=dict)
    sums: Mapping[Level, HalfSums] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    tests: Mapping[str, int] = field(default_factory=dict)
    alarms: Mapping[str, int] = field(default_factory=dict)

    def effects(self, metrics: Iterable[DecisionMetric]) -> Effects:
        """Design effects of metrics; none of those of which nothing is known.

        A level that is too rare to be known takes the largest of the others. What the specification states
        goes before what was seen.
        """
        found = {metric.name: self._effects(metric) for metric in metrics}
        return {name: effects for name, effects in found.items() if effects}

    def _effects(self, metric: DecisionMetric) -> tuple[float, ...]:
        tests = comparisons(metric)
        if metric.design_effect is not None:
            return (metric.design_effect,) * len(tests)
        seen = (self.sums.get((metric.name, test.quantile), HalfSums()) for test in tests)
        found = [sums.design_effect() for sums in seen]
        known = [effect for effect in found if effect is not None]
        return tuple(max(known) if effect is None else effect for effect in found) if known else ()

    def after(self, strata: Strata, spec: Rollout, usual: VariantPane, pane_end_us: int) -> "Halves":
        """Add what a look brought.

        Parameters
        ----------
        strata
            What `halves_of` returned.
        spec
            The specification in force: its metrics and alpha.
        usual
            What the variant did in the hour before: quantiles come from it.
        pane_end_us
            End of the pane that is looked at, in event time.

        Returns
        -------
        Halves
            The same for the same strata, however their rows were split.
        """
        halves = self._at((pane_end_us - 1) // BLOCK_US)
        day = (pane_end_us - 1) // _DAY_US
        for metric in spec.metrics:
            halves = halves._with(metric, _tables(metric, strata, usual), spec.alpha_rollback, day)
        return halves

    def _at(self, block: int) -> "Halves":
        if block == self.block:
            return self
        days = block * BLOCK_US // _DAY_US - self.block * BLOCK_US // _DAY_US
        share = 0.5 ** (days / HALF_LIFE_DAYS)
        sums = dict(self.sums)
        for level, excess in self.excesses.items():
            sums[level] = sums.get(level, HalfSums()) + HalfSums.of(excess)
        faded = {level: found.faded(share) for level, found in sums.items()} if days else sums
        return replace(self, block=block, excesses={}, sums=faded)

    def _with(
        self, metric: DecisionMetric, tables: Mapping[Level, list[Counts]], alpha: float, day: int
    ) -> "Halves":
        if not any(tables.values()):
            return self
        excesses, tests, alarms = dict(self.excesses), dict(self.tests), dict(self.alarms)
        for level, strata in tables.items():
            excesses[level] = sum(map(Excess.of, strata), excesses.get(level, Excess()))
        name, levels = metric.name, tuple(tables)
        trial = self.trials.get(name)
        if trial is None or (trial.day, trial.levels) != (day, levels):
            tests[name] = tests.get(name, 0) + 1
            trial = Trial(day, levels, self._of(metric, levels), np.zeros((len(levels), len(_LOG_PSI))))
        curves = trial.curves.copy()
        for row, effect, strata in zip(curves, trial.effects, tables.values(), strict=True):
            for counts in strata:
                row += tempered(emix.log_likelihood(counts, _LOG_PSI), effect)
        trials = {**self.trials, name: replace(trial, curves=curves)}
        if trials[name].log_e >= math.log(1 / alpha):
            alarms[name] = alarms.get(name, 0) + 1
            del trials[name]
        return replace(self, excesses=excesses, trials=trials, tests=tests, alarms=alarms)

    def _of(self, metric: DecisionMetric, levels: tuple[Level, ...]) -> tuple[float, ...]:
        quantiles = [test.quantile for test in comparisons(metric)]
        effects = dict(zip(quantiles, self._effects(metric), strict=False))
        return tuple(effects.get(quantile, 1.0) for _, quantile in levels)


def _tables(metric: DecisionMetric, strata: Strata, usual: VariantPane) -> dict[Level, list[Counts]]:
    """Of each level the tables that have something to compare, in the order of strata."""
    name, tables = metric.name, dict[Level, list[Counts]]()
    pairs = [
        (halves.get(_FIRST, VariantPane()), halves.get(_SECOND, VariantPane()))
        for _, halves in sorted(strata.items(), key=lambda one: (one[0].revision or 0, *one[0][1:]))
    ]
    for quantile in dict.fromkeys(test.quantile for test in comparisons(metric)):
        if quantile is None:
            rates = [[half.rates.get(name, (0, 0)) for half in pair] for pair in pairs]
            found = [Counts(n, m, k, j) for (n, k), (m, j) in rates]
        else:
            edge = threshold(usual.histograms.get(name, {}), quantile)
            both = [[half.histograms.get(name, {}) for half in pair] for pair in pairs]
            found = [] if edge is None else [_beyond(one, other, edge) for one, other in both]
        tables[name, quantile] = [one for one in found if one.n_baseline and one.n_candidate]
    return tables


def _beyond(one: Histogram, other: Histogram, edge: int) -> Counts:
    return Counts(sum(one.values()), sum(other.values()), above(one, edge), above(other, edge))
