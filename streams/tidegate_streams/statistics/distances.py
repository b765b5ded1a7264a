"""How far apart two histograms are, and whether more than chance lets them be: for inputs that drift.

The population stability index is a sum over bins of (q - p) log(q / p). With no drift it is not zero but near
(1/n + 1/m) times a chi-squared number, n and m being the observations on either side: a fixed limit of 0.1
alarms on noise alone in small samples. Here the index is an effect size only, the chi-squared law says what
chance does, and both must agree, so that neither little traffic nor a lot of it alone is ever drift.

Assumptions and limits: observations are independent, or the design effect given; at least `PER_BIN` of them
are expected in each bin on both sides. The law is right in the limit, by simulation within 2 % of its mean at
that size.

References
----------
B. Yurdakul, J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
Validation 14, 2020 (the law). C. Potgieter et al., arXiv:2307.11878, 2023 (limits must follow the sizes of
samples). V. Vovk, R. Wang, "E-values: calibration, combination and applications", Annals of Statistics 49,
2021, arXiv:1912.06116, appendix B (from p-values to e-values).
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics.exceedances import Histogram

MOST_BINS = 10
PER_BIN = 20
"""Observations that a bin must be expected to have on either side."""

_LEAST_P, _NEAR_ONE = 1e-300, 0.999
"""Beyond which the calibrated value is computed badly; nearer to one it is between 0.5 and 0.5002."""


class Distance(NamedTuple):
    """How far what came is from the reference.

    Parameters
    ----------
    psi
        Population stability index, less what chance alone adds to it on average; at least 0.
    p
        Probability of an index as large, or larger, where nothing has changed.
    stretch
        The index over what chance lets it be on average: 1 where nothing has changed.
    bins
        That were compared.
    """

    psi: float
    p: float
    stretch: float
    bins: int


def distance(
    reference: Mapping[str, int], current: Mapping[str, int], design_effect: float = 1.0
) -> Distance | None:
    """Compare shares of categories: languages, models, apps, or the bins of a histogram.

    Parameters
    ----------
    reference, current
        Category -> observations. Categories too rare to be compared count as one.
    design_effect
        At least 1: how many observations are as good as one independent one.

    Returns
    -------
    Distance or None
        None when there are not two categories with `PER_BIN` expected observations on both sides.
    """
    m, n = sum(reference.values()), sum(current.values())
    if not m or not n:
        return None
    pairs: list[tuple[float, float]] = []
    rare = (0.0, 0.0)
    for name in sorted(reference.keys() | current.keys()):
        pair = (reference.get(name, 0) / m, current.get(name, 0) / n)
        if _expected(pair, m, n) >= PER_BIN * design_effect:
            pairs.append(pair)
        else:
            rare = (rare[0] + pair[0], rare[1] + pair[1])
    if rare != (0.0, 0.0):
        if _expected(rare, m, n) < PER_BIN * design_effect and pairs:
            smallest = min(pairs)
            pairs.remove(smallest)
            rare = (rare[0] + smallest[0], rare[1] + smallest[1])
        pairs.append(rare)
    if len(pairs) < 2:
        return None
    index = sum(_term(p, q, m, n) for p, q in pairs)
    scale = design_effect * (1 / n + 1 / m)
    freedom = len(pairs) - 1
    p, stretch = _survival(index / scale, freedom), index / (scale * freedom)
    return Distance(max(index - scale * freedom, 0.0), p, stretch, len(pairs))


def binned(reference: Histogram, *others: Histogram) -> Iterable[dict[str, int]]:
    """Put histograms into bins of about the same probability in the first of them.

    Parameters
    ----------
    reference, others
        Bucket -> observations.

    Returns
    -------
    iterable of dict
        Bin -> observations, of the reference and of each other one: what `distance` compares. Bins end where
        buckets do, and hold several buckets or one.
    """
    total, seen = sum(reference.values()), 0
    if not total:
        raise InvariantBroken("bins of equal probability need a reference that holds something")
    ends: list[int] = []
    for bucket in sorted(reference):
        seen += reference[bucket]
        if seen * MOST_BINS >= total * (len(ends) + 1):
            ends.append(bucket)
    for histogram in (reference, *others):
        bins = dict.fromkeys(map(str, range(len(ends))), 0)
        for bucket, count in histogram.items():
            bins[str(bisect_left(ends, bucket, hi=len(ends) - 1))] += count
        yield {name: count for name, count in bins.items() if count}


def log_e(found: Distance, least: float) -> float:
    """Logarithm of an e-value against "nothing has changed"; one of a window, as `e_detector` sums them up.

    Parameters
    ----------
    found
        Of a window.
    least
        Index below which a change is none that matters, whatever chance says of it.

    Notes
    -----
    The mean over all powers of p that calibrate it: of 1e-6 it makes 5,200, and of 1 a half.
    """
    p = found.p if found.psi >= least else 1.0
    if p > _NEAR_ONE:
        return -math.log(2)
    p = max(p, _LEAST_P)
    return math.log((1 - p + p * math.log(p)) / (p * math.log(p) ** 2))


def _expected(pair: tuple[float, float], m: int, n: int) -> float:
    """Observations expected on the smaller side, if both sides had the same share."""
    shared = (pair[0] * m + pair[1] * n) / (m + n)
    return shared * min(m, n)


def _term(p: float, q: float, m: int, n: int) -> float:
    # Half an observation for a bin that one side has never seen.
    p, q = max(p, 0.5 / m), max(q, 0.5 / n)
    return (q - p) * math.log(q / p)


def _survival(x: float, freedom: int) -> float:
    """Probability of a chi-squared number above x, by the recurrence of the incomplete gamma function."""
    half = x / 2
    shape, above = (1.0, math.exp(-half)) if freedom % 2 == 0 else (0.5, math.erfc(math.sqrt(half)))
    while shape < freedom / 2:
        if half > 0:
            above += math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
        shape += 1
    return min(above, 1.0)
