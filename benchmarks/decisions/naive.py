"""Rules that people use today, over the same runs: what they do when they look as often."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from scipy.stats import norm

from benchmarks.decisions.looks import Block
from tidegate_streams.statistics.emix import Floats


def z_scores(bad: Iterable[Block]) -> Iterator[Floats]:
    """Two-sample z of all calls so far, pooled, after every stratum."""
    n_b = n_c = k_b = k_c = 0
    for block in bad:
        looks = np.arange(1, block.k_b.shape[1] + 1)
        all_b, all_c = n_b + looks * block.split.n_b, n_c + looks * block.split.n_c
        bad_b, bad_c = block.k_b.cumsum(axis=1) + k_b, block.k_c.cumsum(axis=1) + k_c
        rate = (bad_b + bad_c) / (all_b + all_c)
        error = np.sqrt(np.maximum(rate * (1 - rate), 1e-12) * (1 / all_b + 1 / all_c))
        yield (bad_c / all_c - bad_b / all_b) / error
        n_b, n_c, k_b, k_c = all_b[-1], all_c[-1], bad_b[:, -1:], bad_c[:, -1:]


def threshold_z(alpha: float) -> float:
    """One-sided."""
    return float(norm.ppf(1 - alpha))


def windowed_ratios(bad: Iterable[Block], strata: int) -> Iterator[Floats]:
    """Candidate's rate over the baseline's in windows of so many strata, as dashboards have it."""
    for split, block_b, block_c in bad:
        whole = block_b.shape[1] // strata * strata
        k_b, k_c = (k[:, :whole].reshape(len(k), -1, strata).sum(axis=-1) for k in (block_b, block_c))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (k_c / split.n_c) / (k_b / split.n_b)
        yield np.nan_to_num(ratio, nan=1.0, posinf=np.inf)


def dkw_radius(n: Floats, alpha: float) -> Floats:
    """Half-width of a band around a distribution function that holds at all sample sizes.

    S. R. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
    identification", Bernoulli 28, 2022, arXiv:1906.09712.
    """
    return 0.85 * np.sqrt((np.log1p(np.log(n)) + 0.8 * math.log(1612 / alpha)) / n)


def kayenta_is_high(baseline: Floats, candidate: Floats, level: float = 0.98) -> bool:
    """Whether the judge of Kayenta calls a metric high: points of a time series, by Mann and Whitney.

    High where the lower end of the interval of the shift (Hodges and Lehmann) is beyond a quarter of the
    shift: ``MannWhitneyClassifier`` with its default tolerance.
    """
    differences = np.sort(np.subtract.outer(candidate, baseline), axis=None)
    m, n = len(candidate), len(baseline)
    spread = norm.ppf((1 + level) / 2) * math.sqrt(m * n * (m + n + 1) / 12)
    rank = max(0, round(m * n / 2 - spread))
    shift = float(np.median(differences))
    return float(differences[rank]) > 0.25 * abs(shift) > 0
