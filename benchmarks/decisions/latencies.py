"""Slower answers, as exceedances of the baseline's earlier quantiles at four levels (G5)."""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from benchmarks.decisions import naive
from benchmarks.decisions.figures import Figure, mean, ratio, share
from benchmarks.decisions.looks import (
    BLOCK,
    CALLS,
    HALF,
    LOOKS,
    TENTH,
    Block,
    Likelihoods,
    Split,
    averaged,
    first,
    log_e,
)
from benchmarks.decisions.rates import HARM, knowing
from tidegate_streams import histogram
from tidegate_streams.statistics.emix import Floats
from tidegate_streams.statistics.exceedances import threshold

LEVELS = (0.50, 0.90, 0.95, 0.99)
P95 = LEVELS.index(0.95)
MEDIAN_US, SIGMA = 1_200_000, 0.6
HISTORY = 36_000
"""Calls of the baseline in the hour before."""
MINUTE = 6
"""Strata."""


class Slowness(NamedTuple):
    """A share of the candidate's calls takes so many times as long as the baseline's."""

    name: str
    factor: float
    share: float = 1.0

    def exceeding(self, us: Floats) -> Floats:
        """Share of the candidate's calls that take longer."""
        usual, slowed = (norm.sf(np.log(us / MEDIAN_US / f) / SIGMA) for f in (1.0, self.factor))
        return (1 - self.share) * usual + self.share * slowed

    def drawn(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Latencies in microseconds."""
        slow = np.where(rng.random(shape) < self.share, self.factor, 1.0)
        return MEDIAN_US * slow * np.exp(SIGMA * rng.standard_normal(shape))


SAME = Slowness("A/A", 1.0)
ALL = Slowness("all x1.2", 1.2)
# Seven calls of a hundred, slowed until the p95 of all is 1.5 times the baseline's.
_BEYOND = float(norm.sf(norm.ppf(0.95) + math.log(1.5) / SIGMA))
_Z = float(norm.isf((0.05 - 0.93 * _BEYOND) / 0.07))
TAIL = Slowness("tail, p95 x1.5", 1.5 * math.exp(SIGMA * (norm.ppf(0.95) - _Z)), 0.07)


def edges(rng: np.random.Generator, runs: int) -> Floats:
    """Thresholds of each run in microseconds, shape (runs, levels), from a past hour of its own."""
    found = []
    for _ in range(runs):
        past = np.maximum(SAME.drawn(rng, (HISTORY,)), 1).astype(np.int64)
        index, counts = np.unique(histogram.bucket(past), return_counts=True)
        reference = dict(zip(index.tolist(), counts.tolist(), strict=True))
        found.append([threshold(reference, level) for level in LEVELS])
    return histogram.EDGES[np.array(found)].astype(np.float64)


def exceedances(
    rng: np.random.Generator, above_b: Floats, above_c: Floats, split: Split, looks: int
) -> Iterator[tuple[Block, ...]]:
    """Block of each level; the calls above a higher level are among those above a lower one."""

    def between(above: Floats) -> Floats:
        bounds = np.concatenate([np.ones((len(above), 1)), above, np.zeros((len(above), 1))], axis=1)
        return (bounds[:, :-1] - bounds[:, 1:])[:, None, :]

    chances_b, chances_c = between(above_b), between(above_c)
    for _ in range(0, looks, BLOCK):
        size = (len(above_b), BLOCK)
        counts = [
            rng.multinomial(n, chances, size)[..., :0:-1].cumsum(axis=-1)[..., ::-1]
            for n, chances in zip(split, (chances_b, chances_c), strict=True)
        ]
        yield tuple(Block(split, counts[0][..., i], counts[1][..., i]) for i in range(len(LEVELS)))


def evidence(blocks: Iterable[tuple[Block, ...]], tables: Likelihoods, level: int) -> Iterator[Floats]:
    return log_e(tables.of(levels[level]) for levels in blocks)


def average(blocks: Iterable[tuple[Block, ...]], tables: Likelihoods) -> Iterator[Floats]:
    copies = itertools.tee(blocks, len(LEVELS))
    return averaged([evidence(copy, tables, i) for i, copy in enumerate(copies)])


def minutes_of_p95(
    rng: np.random.Generator, runs: int, slowness: Slowness, split: Split, minutes: int
) -> tuple[Floats, Floats]:
    """What a dashboard shows of both variants: the p95 of each minute, shape (runs, minutes)."""
    series: tuple[list[Floats], list[Floats]] = ([], [])
    for _ in range(minutes):
        for points, what, n in zip(series, (SAME, slowness), split, strict=True):
            points.append(np.quantile(what.drawn(rng, (runs, n * MINUTE)), 0.95, axis=1))
    return np.stack(series[0], axis=1), np.stack(series[1], axis=1)


def kayenta(p95_b: Floats, p95_c: Floats) -> Floats:
    """Calls until the judge says high, asked every ten minutes about all so far."""
    taken = np.full(len(p95_b), np.inf)
    for run, (b, c) in enumerate(zip(p95_b, p95_c, strict=True)):
        for end in range(10, len(b) + 1, 10):
            if naive.kayenta_is_high(b[:end], c[:end]):
                taken[run] = end * MINUTE * CALLS
                break
    return taken


def bands(
    rng: np.random.Generator, runs: int, slowness: Slowness, split: Split, looks: int, alpha: float
) -> Floats:
    """Calls until sequential bands around both distribution functions part anywhere."""
    us = MEDIAN_US * np.exp(SIGMA * np.linspace(-3.3, 3.3, 80))
    chances = [
        -np.diff(above, prepend=1.0, append=0.0) for above in (SAME.exceeding(us), slowness.exceeding(us))
    ]
    seen = [np.zeros((runs, len(us) + 1)) for _ in split]
    taken = np.full(runs, np.inf)
    for look in range(1, looks + 1):
        below = []
        for i, n in enumerate(split):
            seen[i] += rng.multinomial(n, chances[i], runs)
            below.append(seen[i].cumsum(axis=1)[:, :-1] / (look * n))
        apart = (below[0] - below[1]).max(axis=1)
        radius = sum(float(naive.dkw_radius(np.float64(look * n), alpha / 2)) for n in split)
        taken[np.isinf(taken) & (apart > radius)] = look * CALLS
        if np.isfinite(taken).all():
            break
    return taken


def g5(rng: np.random.Generator, runs: int) -> list[Figure]:
    """False rollbacks, calls until a slowdown is found, and the same by bands and by Kayenta."""
    figures, tables, certain = [], Likelihoods(HARM), math.log(100)
    few = max(20, runs // 5)
    for split in (HALF, TENTH):
        above = SAME.exceeding(edges(rng, runs))
        looks = first(average(exceedances(rng, above, above, split, LOOKS), tables), certain)
        case = f"A/A, {split.name}, alpha 1%"
        figures.append(share("G5", case, np.isfinite(looks), 0.01))
        p95_b, p95_c = minutes_of_p95(rng, few, SAME, split, LOOKS // MINUTE)
        often = (p95_c > 1.2 * p95_b).any(axis=1)
        figures.append(share("G5", case, often, rule="p95 1.2 times a minute"))
        figures.append(share("G5", case, np.isfinite(kayenta(p95_b, p95_c)), rule="Kayenta"))
        parted = bands(rng.spawn(1)[0], few, SAME, split, LOOKS, 0.01)
        figures.append(share("G5", case, np.isfinite(parted), rule="DKW bands"))
    promised = {(ALL, TENTH): 2_800, (TAIL, TENTH): 2_400}
    for slowness, split in ((ALL, HALF), (ALL, TENTH), (TAIL, HALF), (TAIL, TENTH)):
        at, seed = edges(rng, runs), int(rng.integers(2**32))
        above = SAME.exceeding(at), slowness.exceeding(at)

        def blocks(above=above, split=split, seed=seed) -> Iterator[tuple[Block, ...]]:
            return exceedances(np.random.default_rng(seed), *above, split, 2 * LOOKS)

        case = f"{slowness.name}, {split.name}"
        ours = CALLS * first(average(blocks(), tables), certain)
        figures.append(mean("G5", case, ours, promised.get((slowness, split))))
        alone = CALLS * first(evidence(blocks(), tables, P95), certain)
        rates = [float(a[:, P95].mean()) for a in above]
        oracle = CALLS * first(knowing((levels[P95] for levels in blocks()), *rates), certain)
        figures.append(ratio("G5", f"{case}, p95 beside its oracle", alone, oracle, 1.3))
        own = rng if slowness is ALL else rng.spawn(1)[0]
        figures.append(mean("G5", case, bands(own, few, slowness, split, LOOKS, 0.01), rule="DKW bands"))
        judged = kayenta(*minutes_of_p95(own, few, slowness, split, LOOKS // MINUTE))
        figures.append(mean("G5", case, judged, rule="Kayenta"))
    return figures
