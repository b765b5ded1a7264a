"""Mean costs: when the report's interval excludes zero, and how often wrongly (G6)."""

import math
from collections.abc import Iterator

import numpy as np

from benchmarks.decisions.figures import Figure, ratio, share
from benchmarks.decisions.looks import CALLS, HALF, LOOKS, TENTH, Split, first
from tidegate_streams.statistics.emix import Floats
from tidegate_streams.statistics.means import FEWEST, Moments, estimate, half_width, stratum

ALPHA = 0.02
"""Of the interval; 1 % at each of its ends."""
EXPECTED = 1_000
BLOCK = 20


def drawn(
    rng: np.random.Generator, runs: int, split: Split, sigma: float, factor: float, looks: int
) -> Iterator[tuple[Moments, Moments]]:
    """Lognormal costs of both variants, blocks of looks."""
    for _ in range(0, looks, BLOCK):
        both = []
        for n, level in zip(split, (1.0, factor), strict=True):
            x = level * np.exp(sigma * rng.standard_normal((runs, BLOCK, n)))
            both.append(Moments(np.full((runs, BLOCK), n), *((x**power).sum(axis=-1) for power in (1, 2, 3))))
        yield both[0], both[1]


def ends(costs: Iterator[tuple[Moments, Moments]]) -> Iterator[Floats]:
    """Ends of the interval, shape (2, runs, looks of a block)."""
    before: Floats | float = 0.0
    for baseline, candidate in costs:
        sums = stratum(baseline, candidate).cumsum(axis=2) + before
        before = sums[:, :, -1:]
        middle, width = estimate(sums), half_width(sums, ALPHA, EXPECTED)
        yield np.stack([middle - width, middle + width])


def knowing(
    costs: Iterator[tuple[Moments, Moments]], sigma: float, factor: float, split: Split
) -> Iterator[Floats]:
    """Log-likelihood ratios for a Gaussian test that knows both means and variances."""
    mean = math.exp(sigma**2 / 2)
    variance = mean**2 * math.expm1(sigma**2)
    more, noise = (factor - 1) * mean, variance * (factor**2 / split.n_c + 1 / split.n_b)
    before: Floats | float = 0.0
    for baseline, candidate in costs:
        difference = np.asarray(candidate.total) / split.n_c - np.asarray(baseline.total) / split.n_b
        path = (difference * more / noise - more**2 / (2 * noise)).cumsum(axis=1) + before
        before = path[:, -1:]
        yield path


def g6(rng: np.random.Generator, runs: int) -> list[Figure]:
    """Calls until a difference of means is shown, beside the oracle, and false differences."""
    figures = []
    for sigma, factor, split in (
        (0.6, 1.10, HALF),
        (0.6, 1.10, TENTH),
        (1.0, 1.10, HALF),
        (1.0, 1.25, HALF),
        (1.0, 1.25, TENTH),
        (1.0, 1.10, TENTH),
    ):
        seed = int(rng.integers(2**32))

        def costs(sigma=sigma, factor=factor, split=split, seed=seed) -> Iterator[tuple[Moments, Moments]]:
            return drawn(np.random.default_rng(seed), runs, split, sigma, factor, LOOKS)

        shown = CALLS * first((low for low, _ in ends(costs())), 0.0)
        oracle = CALLS * first(knowing(costs(), sigma, factor, split), math.log(100))
        case = f"lognormal {sigma}, {factor - 1:+.0%}, {split.name}"
        figures.append(ratio("G6", f"{case}, beside the oracle", shown, oracle, 1.25))
    for sigma, split in ((0.6, HALF), (1.0, HALF), (1.0, TENTH), (1.5, TENTH)):
        # Nothing is shown before each variant has as many observations as the report asks for.
        untrusted = math.ceil(FEWEST / min(split))
        outside = np.zeros((2, runs), dtype=bool)
        for i, block in enumerate(ends(drawn(rng, runs, split, sigma, 1.0, LOOKS // 4))):
            trusted = np.arange(i * BLOCK, (i + 1) * BLOCK) >= untrusted
            outside |= np.stack([block[0] > 0, block[1] < 0])[..., trusted].any(axis=-1)
        for side, wrong in zip(("dearer", "cheaper"), outside, strict=True):
            figures.append(share("G6", f"lognormal {sigma}, equal, {split.name}, shown {side}", wrong))
    return figures
