"""Rates of bad events: false decisions, and how many calls until harm is found (G1 to G4, G7, G8)."""

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.decisions import naive
from benchmarks.decisions.figures import Figure, mean, ratio, share
from benchmarks.decisions.looks import (
    CALLS,
    HALF,
    HUNDREDTH,
    LOOKS,
    TENTH,
    Block,
    Likelihoods,
    Split,
    averaged,
    bernoulli,
    first,
    log_e,
)
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Floats

EIGHT = (0.01, 0.02, 0.05, 0.05, 0.10, 0.20, 0.05, 0.01)
"""Rates of eight metrics of one rollout."""

HARM = emix.points(0.0, math.log(1.5))[emix.HARM]
SAFE = emix.points(0.0, math.log(1.5))[emix.SAFE]


def worse(rate: float, odds: float) -> float:
    return rate * odds / (1 - rate + rate * odds)


def g1(rng: np.random.Generator, runs: int) -> list[Figure]:
    """False rollback of eight metrics together."""
    figures, tables = [], Likelihoods(HARM)
    for split in (HALF, TENTH):
        paths = [log_e(map(tables.of, bernoulli(rng, runs, split, p, p))) for p in EIGHT]
        looks = first(averaged(paths), math.log(100))
        figures.append(share("G1", f"A/A, 8 metrics, {split.name}", np.isfinite(looks), 0.01))
    return figures


def g2(rng: np.random.Generator, runs: int) -> list[Figure]:
    """False rollback of one metric, beside rules that look as often."""
    figures, tables, few = [], Likelihoods(HARM), max(50, runs // 4)
    for rate, split in itertools.product((0.01, 0.05, 0.20), (HALF, TENTH, HUNDREDTH)):
        case = f"A/A, rate {rate:.0%}, {split.name}"
        for alpha in (0.05, 0.01):
            evidence = log_e(map(tables.of, bernoulli(rng, runs, split, rate, rate)))
            looks = first(evidence, math.log(1 / alpha))
            figures.append(share("G2", f"{case}, alpha {alpha:.0%}", np.isfinite(looks), alpha))
        looks = first(naive.z_scores(bernoulli(rng, few, split, rate, rate)), naive.threshold_z(0.01))
        figures.append(share("G2", f"{case}, alpha 1%", np.isfinite(looks), rule="repeated z-test"))
        looks = first(naive.windowed_ratios(bernoulli(rng, few, split, rate, rate), 6), 1.5)
        figures.append(share("G2", case, np.isfinite(looks), rule="1.5 times in a minute"))
    return figures


def knowing(bad: Iterable[Block], p_b: float, p_c: float) -> Iterator[Floats]:
    """Log-likelihood ratios of all strata so far, for a test that knows both rates."""
    before: Floats | float = 0.0
    for (n_b, n_c), k_b, k_c in bad:
        both = (n_b * p_b + n_c * p_c) / (n_b + n_c)
        gains = [
            k * math.log(p / both) + (n - k) * math.log((1 - p) / (1 - both))
            for k, n, p in ((k_b, n_b, p_b), (k_c, n_c, p_c))
        ]
        path = (gains[0] + gains[1]).cumsum(axis=1) + before
        before = path[:, -1:]
        yield path


def g3_g4(rng: np.random.Generator, runs: int) -> list[Figure]:
    """Calls until rollback at alpha 1 %, beside a test that knows the effect, on the same runs."""
    promised = {(0.01, 0.02, TENTH): 19_000, (0.20, 0.25, HALF): 3_700, (0.01, 0.10, TENTH): 800}
    compared = ((0.01, 0.02), (0.01, 0.015), (0.05, 0.075), (0.20, 0.25))
    cases = [(*rates, split) for rates in compared for split in (HALF, TENTH)] + [(0.01, 0.10, TENTH)]
    figures, tables, threshold = [], Likelihoods(HARM), math.log(100)
    for p_b, p_c, split in cases:
        seed = int(rng.integers(2**32))

        def bad(p_b=p_b, p_c=p_c, split=split, seed=seed) -> Iterator[Block]:
            return bernoulli(np.random.default_rng(seed), runs, split, p_b, p_c, 4 * LOOKS)

        ours = CALLS * first(log_e(map(tables.of, bad())), threshold)
        oracle = CALLS * first(knowing(bad(), p_b, p_c), threshold)
        case = f"{100 * p_b:g} to {100 * p_c:g} %, {split.name}"
        if (p_b, p_c) in compared:
            figures.append(ratio("G3", f"{case}, beside the oracle", ours, oracle, 1.3))
        figures.append(mean("G4", case, ours, promised.get((p_b, p_c, split))))
        figures.append(mean("G4", case, oracle, rule="knows the effect"))
    return figures


def g7(rng: np.random.Generator, runs: int) -> list[Figure]:
    """False promotion at alpha 5 % of a candidate at the margin, alone and as one metric of eight."""
    figures, tables, threshold = [], Likelihoods(SAFE), math.log(20)
    for split in (HALF, TENTH):
        for rate in (0.01, 0.05, 0.20):
            evidence = log_e(map(tables.of, bernoulli(rng, runs, split, rate, worse(rate, 1.5))))
            promoted = np.isfinite(first(evidence, threshold))
            figures.append(share("G7", f"at odds 1.5, rate {rate:.0%}, {split.name}", promoted, 0.05))
        rates = [(p, worse(p, 1.5) if i == 0 else p) for i, p in enumerate(EIGHT)]
        paths = [
            log_e(map(tables.of, bernoulli(rng, max(50, runs // 4), split, p_b, p_c))) for p_b, p_c in rates
        ]
        least = (np.minimum.reduce(blocks) for blocks in zip(*paths, strict=True))
        promoted = np.isfinite(first(least, threshold))
        figures.append(share("G7", f"one of 8 metrics at odds 1.5, {split.name}", promoted, 0.05))
    return figures


TRENDS = {
    "flat 1 %": np.full(LOOKS, 0.01),
    "0.5 to 2 % meanwhile": np.interp(np.arange(LOOKS), [0, 3 * LOOKS // 4], [0.005, 0.02]),
    "daily sine": 0.01 + 0.005 * np.sin(np.arange(LOOKS) / 8_640 * 2 * np.pi),
}
RAMP = (Split(95, 5), TENTH, Split(75, 25), HALF)


def g8(rng: np.random.Generator, runs: int) -> list[Figure]:
    """False rollback at alpha 1 % while the share ramps and the rate of both moves."""
    figures, tables, quarter = [], Likelihoods(HARM), LOOKS // len(RAMP)
    for name, rates in TRENDS.items():
        case = f"5 to 50 %, {name}"

        def bad(rates=rates) -> Iterator[Block]:
            for split, part in zip(RAMP, np.split(rates, len(RAMP)), strict=True):
                yield from bernoulli(rng, runs, split, part, part, quarter)

        looks = first(log_e(map(tables.of, bad())), math.log(100))
        figures.append(share("G8", case, np.isfinite(looks), 0.01))
        looks = first(naive.z_scores(bad()), naive.threshold_z(0.01))
        figures.append(share("G8", case, np.isfinite(looks), rule="repeated z-test"))
    return figures
