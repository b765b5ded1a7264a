"""Users instead of calls: calls of a session resemble each other (G9); who gets which variant (G10)."""

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.stats import chi2

from benchmarks.decisions.figures import Figure, mean, share
from benchmarks.decisions.looks import BLOCK, CALLS, LOOKS, first, log_mean
from benchmarks.decisions.rates import HARM
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts.halves import BLOCK_US
from tidegate_streams.statistics import emix, sample_ratio
from tidegate_streams.statistics.dependence import Excess, HalfSums, tempered
from tidegate_streams.statistics.emix import Counts, Floats

RATE, CALLS_A_SESSION = 0.05, 6
SPREAD = 12
"""Strata over which the calls of a session spread: two minutes."""
INDEPENDENT = 1e-9
"""Correlation of calls that say nothing of each other."""
DAY, PANES_A_BLOCK, HISTORIES = 8_640, BLOCK_US // PANE_US, 20
"""Panes of a day; those of a block of halves; days, each of which many runs come after."""


def sessions(rng: np.random.Generator, n: int, icc: float) -> tuple[Floats, Floats]:
    """Calls of each session and its own rate of bad events."""
    calls = rng.geometric(1 / CALLS_A_SESSION, n)
    spread = 1 / icc - 1
    return calls, rng.beta(RATE * spread, (1 - RATE) * spread, n)


class Strata:
    """Curves of strata of any counts, each computed once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], int] = {}
        self._rows: list[Floats] = []

    def of(self, counts: Floats) -> Floats:
        """Shape (strata, 13) of counts of shape (strata, 4)."""
        different, where = np.unique(counts, axis=0, return_inverse=True)
        for row in map(tuple, different.tolist()):
            if row not in self._known:
                self._known[row] = len(self._rows)
                self._rows.append(emix.log_likelihood(Counts(*row), HARM))
        return np.array([self._rows[self._known[row]] for row in map(tuple, different.tolist())])[
            where.ravel()
        ]


def counted(
    rng: np.random.Generator,
    icc: float,
    share_c: float,
    *,
    looks: int = LOOKS,
    spread: int = SPREAD,
    worse: float = 1.0,
) -> Floats:
    """Counts of one run, shape (looks, 4): every session's calls, in the strata where they end."""
    calls, rates = sessions(rng, looks * CALLS // CALLS_A_SESSION, icc)
    is_candidate = rng.random(len(calls)) < share_c
    candidate = np.repeat(is_candidate, calls)
    begun = np.repeat(rng.integers(0, looks, len(calls)), calls)
    look = np.minimum(begun + rng.integers(0, spread, len(begun)), looks - 1)
    bad = rng.random(len(begun)) < np.repeat(np.where(is_candidate, worse * rates, rates), calls)
    of = (~candidate, candidate, bad & ~candidate, bad & candidate)
    return np.stack([np.bincount(look[who], minlength=looks) for who in of], axis=1)


def noticed(rng: np.random.Generator, icc: float, spread: int) -> float:
    """Design effect that the stream knows after a day, from two halves of the baseline's sessions."""
    excesses = [Excess.of(Counts(*row)) for row in counted(rng, icc, 0.5, looks=DAY, spread=spread).tolist()]
    blocks = (sum(excesses[i : i + PANES_A_BLOCK], Excess()) for i in range(0, DAY, PANES_A_BLOCK))
    return sum(map(HalfSums.of, blocks), HalfSums()).design_effect() or math.nan


def _log_e(curve: Floats) -> Floats:
    return log_mean(curve[:, 1:] - curve[:, :1])


def g9(rng: np.random.Generator, runs: int) -> list[Figure]:
    """False rollback where calls of a session resemble each other, tempered as in the stream; the cost."""
    figures, strata, alarm = [], Strata(), math.log(100)
    for icc, spread in itertools.product((0.1, 0.3), (SPREAD, 60)):
        effects = [noticed(rng, icc, spread) for _ in range(HISTORIES)]
        plain, allowed = [], []
        for run in range(runs):
            curve = strata.of(counted(rng, icc, 0.5, spread=spread)).cumsum(axis=0)
            plain.append(bool((_log_e(curve) >= alarm).any()))
            allowed.append(bool((_log_e(tempered(curve, effects[run % HISTORIES])) >= alarm).any()))
        case = f"A/A, sessions of {spread // 6} min, correlation {icc}"
        figures.append(share("G9", f"{case}, design effect {np.mean(effects):.2f}", np.array(allowed), 0.01))
        figures.append(share("G9", case, np.array(plain), rule="calls as if independent"))
    effects = [noticed(rng, INDEPENDENT, SPREAD) for _ in range(HISTORIES)]
    found: dict[bool, list[float]] = {True: [], False: []}
    for run in range(runs):
        curve = strata.of(counted(rng, INDEPENDENT, 0.5, worse=1.5)).cumsum(axis=0)
        for is_tempered in found:
            log_e = _log_e(tempered(curve, effects[run % HISTORIES]) if is_tempered else curve)
            reached = np.flatnonzero(log_e >= alarm)
            found[is_tempered].append(CALLS * (reached[0] + 1) if len(reached) else math.inf)
    for is_tempered, rule in ((True, "tidegate"), (False, "calls as if independent")):
        case = f"5% to 7.5%, independent calls{f', effect {np.mean(effects):.2f}' if is_tempered else ''}"
        figures.append(mean("G9", case, np.array(found[is_tempered]), rule=rule))
    return figures


def candidates(
    rng: np.random.Generator, runs: int, share_c: float, looks: int
) -> Iterator[tuple[Floats, Floats]]:
    """Units so far, shape (looks of a block,), and those of the candidate, shape (runs, looks of a block)."""
    units, of_candidate = 0, 0
    for _ in range(0, looks, BLOCK):
        n = units + CALLS * np.arange(1, BLOCK + 1)
        n_c = of_candidate + rng.binomial(CALLS, share_c, (runs, BLOCK)).cumsum(axis=1)
        units, of_candidate = n[-1], n_c[:, -1:]
        yield n, n_c


def checked(counts: Iterable[tuple[Floats, Floats]], asked: float) -> Iterator[Floats]:
    """Log e-values of the sample ratio; factors are linear in counts."""
    one_b, one_c = (sample_ratio.log_factors(unit, [1 - asked, asked]).ravel() for unit in ((1, 0), (0, 1)))
    for n, n_c in counts:
        yield log_mean((n - n_c)[..., None] * one_b + n_c[..., None] * one_c)


def g10(rng: np.random.Generator, runs: int) -> list[Figure]:
    """False alarms of the sample ratio, and units until a wrong one is found."""
    figures, alarm = [], math.log(1_000)
    for asked in (0.5, 0.1):
        looks = first(checked(candidates(rng, runs, asked, LOOKS), asked), alarm)
        figures.append(share("G10", f"as asked, {asked:.0%}, alpha 0.1%", np.isfinite(looks), 0.001))
        again = candidates(rng, max(50, runs // 4), asked, LOOKS)
        scores = ((n_c - asked * n) ** 2 / (n * asked * (1 - asked)) for n, n_c in again)
        looks = first(scores, float(chi2.isf(0.001, 1)))
        figures.append(
            share(
                "G10", f"as asked, {asked:.0%}, alpha 0.1%", np.isfinite(looks), rule="repeated chi-squared"
            )
        )
    for asked, real, bound in ((0.1, 0.09, 18_000), (0.5, 0.48, None), (0.5, 0.45, None), (0.1, 0.08, None)):
        few = max(50, runs // 4)
        looks = first(checked(candidates(rng, few, real, 2 * LOOKS), asked), alarm)
        figures.append(mean("G10", f"{asked:.0%} asked, {real:.0%} got", CALLS * looks, bound, unit="units"))
    return figures
