"""How many more calls until a decision, and whether a policy can decide in its time at all.

Evidence grows by so much a call on average: the *growth* of a curve, per call of both variants together. If
it went on exactly so, the mixture of its alternatives would reach 1/alpha at a call that can be solved for.
Chance scatters around it; see `calls_until` for by how much.

Growth comes from what was seen (`curve / calls`: "if it goes on like this"), or from rates that are assumed
(`of_odds`, `of_lines`: "if nothing has changed"). A curve adds up strata of any share of the candidate, and
so do growths: each step of a rollout is a `Stage` of its own.

It lies when traffic or rates change, and early on: a curve of few bad events is mostly noise, so "if it goes
on like this" then says little. Nothing is decided by it; a policy that cannot be expected to decide in its
time is refused by it.

References
----------
A. Wald, "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics 16, 1945, section
4.2: the expected number of observations is the threshold over the growth by one of them. H. Robbins, D.
Siegmund, "The expected sample size of some tests of power one", Annals of Statistics 2, 1974: what a mixture
adds to it.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import emix, excess
from tidegate_streams.statistics.emix import Counts, Floats
from tidegate_streams.statistics.margins import Line

_MANY = 10**9
"""Calls that an expected growth is computed from, so that whole counts of bad events stand for rates; a rate
of less than one in so many is none."""

_LEAST = 1e-12
"""Growth by a call below which no decision is in sight: it would take more calls than there ever are."""


class Stage(NamedTuple):
    """A time in which evidence grows alike, such as a step of a rollout.

    Parameters
    ----------
    calls
        Comparable calls of both variants in it; infinite where it has no end.
    growth
        Of a curve, per call, at least of the part that is asked for: shape (74,) or (26,).
    """

    calls: float
    growth: Floats


def of_odds(rate_baseline: float, rate_candidate: float, share: float, log_psi: Floats) -> Floats:
    """Growth per call of `emix.log_likelihood`, up to a number that all odds ratios share.

    Parameters
    ----------
    rate_baseline, rate_candidate
        Assumed rates of bad events, in [0, 1]. For latency and cost, of values above the edge and above the
        moved edge.
    share
        Of the candidate among the calls that are compared, in (0, 1).
    log_psi
        Log odds ratios, shape (g,).

    Returns
    -------
    numpy.ndarray
        Shape (g,). Only differences mean something; all equal where no event, or every event, is bad.

    Notes
    -----
    Given the total, the most likely rates at an odds ratio are those that match it (a quadratic equation);
    the growth is less the divergence from the assumed rates to these (Kullback-Leibler). Strata of few calls
    grow a little less.
    """
    _checked(rate_baseline, rate_candidate, share)
    total = share * rate_candidate + (1 - share) * rate_baseline
    if not 1 / _MANY < total < 1 - 1 / _MANY:
        return np.zeros(log_psi.shape)
    psi = np.exp(log_psi)
    b = psi * (share + total) + (1 - share) - total
    bad = 2 * psi * share * total / (b + np.sqrt(np.maximum(b * b - 4 * (psi - 1) * psi * share * total, 0)))
    return share * _agreement(rate_candidate, bad / share) + (1 - share) * _agreement(
        rate_baseline, (total - bad) / (1 - share)
    )


def of_lines(
    rate_baseline: float, rate_candidate: float, share: float, rollback: Line, promotion: Line
) -> Floats:
    """Growth per call of `excess.log_factors`, once it has learnt what rate is usual.

    Parameters
    ----------
    rate_baseline, rate_candidate, share
        See `of_odds`; the baseline's rate above 0 and below 1.
    rollback, promotion
        Margins.

    Returns
    -------
    numpy.ndarray
        Shape (26,).
    """
    _checked(rate_baseline, rate_candidate, share)
    n_c = round(share * _MANY)
    n_b = _MANY - n_c
    counts = Counts(n_b, n_c, round(rate_baseline * n_b), round(rate_candidate * n_c))
    return excess.log_factors(counts, rate_baseline, rollback, promotion) / _MANY


def until_rollback(curve: Floats, growth: Floats, alpha: float) -> float | None:
    """Calls until harm beyond the rollback margin is certain; None when that is not in sight.

    Parameters
    ----------
    curve
        Evidence so far, shape (74,).
    growth
        Per call. ``curve / calls`` goes on as it was.
    alpha
        Times the metric's weight, for a metric that must reach its share of the average alone.
    """
    return calls_until(_ratios(curve, emix.HARM), _ratios(growth, emix.HARM), alpha)


def until_promotion(curve: Floats, growth: Floats, alpha: float) -> float | None:
    """Calls until harm beyond the promotion margin is excluded; None when that is not in sight.

    Parameters
    ----------
    curve, growth, alpha
        See `until_rollback`.
    """
    return calls_until(_ratios(curve, emix.SAFE), _ratios(growth, emix.SAFE), alpha)


def until_promotion_through(stages: Iterable[Stage], alpha: float) -> float | None:
    """Calls from the start of a rollout until harm is excluded; None when the stages end before.

    What a policy needs to be able to decide: `Stage` for each step, with the growth under "nothing has
    changed" and the calls that the step serves in its time.
    """
    reached, passed = np.zeros(len(emix.STEPS)), 0.0
    for stage in stages:
        growth = _ratios(stage.growth, emix.SAFE)
        needed = calls_until(reached, growth, alpha)
        if needed is not None and needed <= stage.calls:
            return passed + needed
        if stage.calls == math.inf:
            return None
        reached, passed = reached + stage.calls * growth, passed + stage.calls
    return None


def calls_until(log_ratios: Floats, growth: Floats, alpha: float) -> float | None:
    """Calls until the mean of growing likelihood ratios reaches 1/alpha.

    Parameters
    ----------
    log_ratios
        Log-likelihood ratios of the alternatives to the null so far, shape (g,).
    growth
        What each grows by a call, shape (g,).
    alpha
        In (0, 1).

    Returns
    -------
    float or None
        0 when it has been reached; None when no alternative grows.

    Notes
    -----
    From the start, with strata of 100 calls and the rates as assumed, decisions took 0.85 to 1.18 times as
    many calls on average (seven settings of 200 runs, rollbacks and promotions, shares of 10 % and 50 %),
    and in nine runs of ten at most twice as many.
    """
    if not (np.isfinite(log_ratios).all() and np.isfinite(growth).all()):
        raise InvariantBroken("a forecast from evidence that is no number is refused: look at the curve")
    wanted = math.log(1 / alpha) + math.log(len(growth))
    if _log_sum(log_ratios) >= wanted:
        return 0.0
    growing = growth > _LEAST
    if not growing.any():
        return None
    # One alternative alone reaches it here at the latest; from there Newton's steps on a convex function only
    # ever come down to the first call that does.
    calls = float(((wanted - log_ratios[growing]) / growth[growing]).min())
    while True:
        at = log_ratios + calls * growth
        level = _log_sum(at)
        step = (level - wanted) / float((np.exp(at - level) * growth).sum())
        calls -= step
        if step <= 1e-6 * calls:
            return calls


def _ratios(curve: Floats, side: slice) -> Floats:
    ratios: Floats = curve[side][1:] - curve[side][0]
    return ratios


def _log_sum(values: Floats) -> float:
    peak = float(values.max())
    return peak + math.log(float(np.exp(values - peak).sum()))


def _agreement(rate: float, assumed: Floats) -> Floats:
    """Mean log-likelihood of an outcome of this rate at assumed ones."""
    kept = np.zeros(assumed.shape)
    if rate > 0:
        kept += rate * np.log(assumed)
    if rate < 1:
        kept += (1 - rate) * np.log1p(-assumed)
    return kept


def _checked(rate_baseline: float, rate_candidate: float, share: float) -> None:
    if not (0 <= rate_baseline <= 1 and 0 <= rate_candidate <= 1 and 0 < share < 1):
        raise InvariantBroken(
            f"no evidence grows at rates {rate_baseline} and {rate_candidate} and a share of {share}: "
            f"rates are in [0, 1], shares in (0, 1)"
        )
