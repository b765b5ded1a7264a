"""Has a rate changed: a detector whose false alarms are, by its construction, so many windows apart.

Each window's bad events are compared with those of a reference, as a table of two rows: given its totals
they follow Fisher's noncentral hypergeometric law (see `emix`), so that the reference's own uncertainty
counts, and no rate has to be known. For each of `N_FACTORS` odds ratios the window gives a likelihood ratio
L of a change to none, and

    R <- L (R + 1)

sums up the evidence over every moment at which that change may have begun. Each L has mean at most 1 while
nothing has changed, so the mean of all R, less the number of windows, never grows on average: it reaches B
after B windows on average at the earliest. B is the *average run length* to a false alarm; the logarithm of B
is what a detection costs.

A window without information (nothing bad, and never before) counts as none. Several levels of a distribution
are averaged, whatever the dependence between them.

Assumptions: observations are independent; `dependence.tempered` allows for those that are not. The promise is
exact where every window has a part of the reference to itself. With one reference for many windows it needs
a reference that *grows*, taking in the windows it was compared with: then each product of ratios still has
mean 1, and chance that a small reference lies beside the truth is forgotten as fast as it was learnt. It lies
with a small reference that is kept as it is: its error is then found, sooner or later, as a change.

References
----------
J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New
England Journal of Statistics in Data Science 2, 2024, arXiv:2203.03532, sections 2 (run length) and 3
(mixtures). S. W. Roberts, "A comparison of some control chart procedures", Technometrics 8, 1966.
"""

from typing import NamedTuple

import numpy as np

from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts, Floats

STEPS: Floats = np.geomspace(0.10, 2.0, 8)
"""Changes looked for, in log odds: from 10 % more odds to 7.4 times as many, and as many downwards."""

N_FACTORS = 2 * len(STEPS)
FELL, ROSE = slice(0, len(STEPS)), slice(len(STEPS), N_FACTORS)
"""Which of the factors speak for a lower, and for a higher rate."""


def log_factors(window: Counts, tolerated: float = 0.0) -> Floats:
    """Log-likelihood ratios by which a window speaks for each change.

    Parameters
    ----------
    window
        The reference as baseline, the window as candidate.
    tolerated
        Change of the log odds in either direction that is no change: 0.1 is about 10 % of a small rate. An
        alarm then says that it is exceeded.

    Returns
    -------
    numpy.ndarray
        Shape (16,): `FELL`, then `ROSE`, the smallest change of each first. Zeros for a window that says
        nothing.
    """
    points = np.concatenate([[-tolerated], -tolerated - STEPS, [tolerated], tolerated + STEPS])
    below, above = np.split(emix.log_likelihood(window, points), 2)
    return np.concatenate([below[1:] - below[0], above[1:] - above[0]])


def started(*levels: int) -> Floats:
    """Evidence before the first window, in logarithms: none.

    Parameters
    ----------
    levels
        Shape in front of the factors, such as the number of quantiles watched.
    """
    return np.full((*levels, N_FACTORS), -np.inf)


def advanced(log_r: Floats, factors: Floats) -> Floats:
    """Evidence after one more window.

    Parameters
    ----------
    log_r
        Logarithms of R, shape (..., 16).
    factors
        Of the window, as `log_factors` returns them, of the same shape.
    """
    silent = ~factors.any(axis=-1, keepdims=True)
    grown: Floats = np.where(silent, log_r, factors + np.logaddexp(log_r, 0.0))
    return grown


def log_evidence(log_r: Floats) -> Floats:
    """Logarithm of the mean R; an alarm is due at log(B).

    Parameters
    ----------
    log_r
        Shape (..., levels, 16).

    Returns
    -------
    numpy.ndarray
        Shape (...).
    """
    mean: Floats = np.logaddexp.reduce(log_r, axis=(-2, -1)) - np.log(log_r.shape[-1] * log_r.shape[-2])
    return mean


class ChangePoint(NamedTuple):
    """Window with which a change began, by its place in what was kept, and the places it may have been."""

    first: int
    likeliest: int
    last: int


def change_point(factors: Floats, mass: float = 0.95) -> ChangePoint:
    """Say with which window a change began, given that there was one.

    Parameters
    ----------
    factors
        Of the windows kept, the oldest first, shape (windows, levels, 16); tempered where evidence is.
    mass
        Of the likelihood that the places between `first` and `last` have together, in (0, 1): each place
        and each size of change weighs the same beforehand.

    Notes
    -----
    Sums run backwards from the last window, so that what is missing before the first one changes nothing.
    """
    since = factors[::-1].cumsum(axis=0)[::-1]
    support = np.logaddexp.reduce(since, axis=(-2, -1))
    weights = np.exp(support - support.max())
    order = np.argsort(-weights, kind="stable")
    needed = int(np.searchsorted(weights[order].cumsum(), mass * weights.sum())) + 1
    places = order[:needed]
    return ChangePoint(int(places.min()), int(order[0]), int(places.max()))
