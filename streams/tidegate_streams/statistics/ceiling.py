"""A candidate that hardly ever fails is safe, even where a comparison has nothing to compare.

E-mix learns from bad events only: where neither variant has any, it says nothing, for ever. An absolute
promotion margin says more. "At least `margin` worse than the baseline" implies "bad in at least a share
`margin` of the calls", whatever the baseline does, because no rate is below zero. That can be refuted by the
candidate alone: n units without a bad event gain (1 - margin)^-n against it.

Per stratum the log-likelihoods of the candidate's bad events at the margin and at 12 smaller rates; they add
up over strata in any order, and the mixture against the margin is an e-process under every rate at or above
it, fixed or moving, because each factor's mean falls with the rate and is 1 at the margin.

References
----------
H. Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math. Statist. 41, 1970,
section 3 (mixtures of likelihood ratios). A. Ramdas, P. Grünwald, V. Vovk, G. Shafer, "Game-theoretic
statistics and safe anytime-valid inference", Statist. Sci. 38, 2023, section 3.
"""

import math

import numpy as np

from tidegate_streams.statistics.emix import STEPS, Floats

N_POINTS = 1 + len(STEPS)


def log_likelihood(n: int, k: int, margin: float) -> Floats:
    """Log-likelihood of one stratum of the candidate, at the margin and below it.

    Parameters
    ----------
    n, k
        Units and bad events of the candidate, k <= n.
    margin
        Rate, in (0, 1), fixed before the stratum is seen.

    Returns
    -------
    numpy.ndarray
        Shape (13,): the margin first, then rates at `STEPS` below it in log odds.
    """
    log_odds = math.log(margin / (1 - margin)) - np.concatenate([[0.0], STEPS])
    likelihood: Floats = k * log_odds - n * np.logaddexp(0.0, log_odds)
    return likelihood


def log_e(points: Floats) -> float:
    """Log e-value against "the candidate's rate is at least the margin".

    Parameters
    ----------
    points
        Sum of strata, shape (13,).

    Examples
    --------
    >>> no_bad_event = log_likelihood(n=400, k=0, margin=0.02)
    >>> log_e(no_bad_event) > math.log(1 / 0.05)
    True
    """
    ratios = points[1:] - points[0]
    peak = float(ratios.max())
    return peak + math.log(float(np.exp(ratios - peak).mean()))
