"""Is the candidate's rate above a line over the baseline's: so many points, or so many percent more.

A margin in points or percent bounds one rate by the other, p_c <= slope * p_b + offset, whatever p_b is.
That is no odds ratio unless p_b is known, and p_b moves. So the variants are staked against each other:
every unit of the candidate multiplies by 1 + s (x - c), where x is 1 for a bad event and 0 for a good one,
every unit of the baseline by 1 - t (x - b), where (b, c) is a point of the line and n_b t = slope * n_c s.
The factors of all n units of a stratum then have the means' average 1 + (p_c - slope * p_b - offset) s n_c /
n. Under the null that is at most 1 at *any* base rate, hence so is the mean of their product (geometric and
arithmetic mean), and so is the product over strata. No estimate enters it: what was usual of the baseline
only says how much to stake, and an error in it costs time.

Stakes are best when the factors are the likelihood ratio of an alternative and of the null nearest to it (in
Kullback-Leibler divergence), which one linear step finds: further steps saved no requests that could be
measured. With no bad event in either variant the candidate's own calls still count, since no rate is below
zero.

Against "on the line or below" s is positive, against "on the line or above" negative, each for 12
alternatives `STEPS` away from the line. Sums of their logs, in any order of the strata, and a mixture over
them are an e-process: under the null it exceeds 1/alpha at any look, ever, with probability at most alpha
(Ville).

Assumptions: outcomes are independent, given the rates. Units of a stratum need not be alike: the null is
about the means of their rates.

References
----------
R. J. Turner, P. D. Grünwald, "Exact anytime-valid confidence intervals for contingency tables and beyond",
arXiv:2203.09785, 2022 (nulls that are convex sets of pairs of rates). R. J. Turner, A. Ly, P. D. Grünwald,
"Generic E-variables for exact sequential k-sample tests that allow for optional stopping", arXiv:2106.02693,
2021 (products of such factors, and why they are growth-optimal).
"""

import numpy as np

from tidegate_streams.statistics.emix import STEPS, Counts, Floats
from tidegate_streams.statistics.margins import Line

_SIDE = np.array([[1.0], [-1.0]])
_LEAST = 1e-9
"""A null this near to a rate of 0 or 1 is as good as one at it, and divides by no zero."""


def log_factors(counts: Counts, usual: float, rollback: Line, promotion: Line) -> Floats:
    """Log of what a stratum multiplies the evidence by, against both margins.

    Parameters
    ----------
    counts
        One stratum.
    usual
        Rate of the baseline, in (0, 1), as it was known before the stratum was seen.
    rollback
        Null: the candidate's rate is on this line or below.
    promotion
        Null: the candidate's rate is on this line or above.

    Returns
    -------
    numpy.ndarray
        Shape (26,), in the places of `emix.HARM` and `emix.SAFE`: for each the null, which is 0, and 12
        alternatives. Zeros where a variant has no unit: nothing is compared.

    Examples
    --------
    >>> from tidegate_streams.statistics.margins import line
    >>> half_a_point, two_points = line("absolute", 0.005), line("absolute", 0.02)
    >>> outage = log_factors(Counts(900, 100, 9, 14), 0.01, half_a_point, two_points)
    >>> round(float(outage[1:13].max()), 2)
    15.35
    """
    factors = np.zeros((2, 1 + len(STEPS)))
    n_b, n_c, k_b, k_c = counts.n_baseline, counts.n_candidate, counts.k_baseline, counts.k_candidate
    if n_b and n_c:
        slope = np.array([[rollback.slope], [promotion.slope]])
        offset = np.array([[rollback.offset], [promotion.offset]])
        # Half-way to certainty where the line leaves no room for harm.
        limit = np.minimum(slope * usual + offset, (1 + usual) / 2)
        alternative = 1 / (1 + (1 - limit) / limit * np.exp(-_SIDE * STEPS))
        b, c = _nearest(n_b, n_c, usual, alternative, limit, slope, offset)
        # At the nearest point both stakes agree; the smaller one keeps every factor positive anywhere.
        wanted = _SIDE * (alternative - c) / (c * (1 - c))
        covered = _SIDE * (b - usual) / (b * (1 - b)) * n_b / (slope * n_c)
        s = _SIDE * np.maximum(np.minimum(wanted, covered), 0)
        t = s * slope * n_c / n_b
        factors[:, 1:] = k_c * np.log1p(s * (1 - c)) + (n_c - k_c) * np.log1p(-s * c)
        factors[:, 1:] += k_b * np.log1p(-t * (1 - b)) + (n_b - k_b) * np.log1p(t * b)
    return factors.ravel()


def _nearest(
    n_b: int, n_c: int, usual: float, alternative: Floats, limit: Floats, slope: Floats, offset: Floats
) -> tuple[Floats, Floats]:
    """Points of the lines nearest to where each alternative puts the two variants."""
    weight_b = n_b * limit * (1 - limit)
    weight_c = n_c * usual * (1 - usual) * slope * slope
    b = (weight_b * usual + weight_c * (alternative - offset) / slope) / (weight_b + weight_c)
    b = np.minimum(np.maximum(b, _LEAST), (1 - _LEAST - offset) / slope)
    return b, slope * b + offset
