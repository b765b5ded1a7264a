"""How many more calls until a decision: exact where growth is, near the mean where chance scatters."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import binom

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts
from tidegate_streams.statistics.excess import log_factors
from tidegate_streams.statistics.forecast import (
    Stage,
    calls_until,
    of_lines,
    of_odds,
    until_promotion,
    until_promotion_through,
    until_rollback,
)
from tidegate_streams.statistics.margins import line

AT = emix.points(0.0, math.log(1.5))
NOTHING = np.zeros(emix.N_POINTS)
HALF, TWO = line("absolute", 0.005), line("absolute", 0.02)

ratios = st.lists(st.tuples(st.floats(-50, 20), st.floats(-0.1, 0.1)), min_size=1, max_size=12)
rates = st.floats(0.0, 1.0)
inner = st.floats(0.001, 0.999)


@settings(max_examples=100, deadline=None)
@given(ratios, st.floats(0.0001, 0.4))
@example([(0.0, 1e-310)], 0.25)
def test_at_the_call_foretold_the_mean_reaches_its_threshold_and_before_it_does_not(pairs, alpha):
    start, growth = np.array(pairs).T
    calls = calls_until(start, growth, alpha)

    def log_mean(after):
        return logsumexp(start + after * growth) - math.log(len(growth))

    wanted = math.log(1 / alpha)
    if calls is None:
        assert (growth <= 1e-12).all()
        assert log_mean(0) < wanted
    elif calls == 0:
        assert log_mean(0) >= wanted
    else:
        assert log_mean(calls) == pytest.approx(wanted, abs=1e-4)
        assert log_mean(0.999 * calls) < wanted


@settings(max_examples=100, deadline=None)
@given(rates, rates, inner)
@example(5e-324, 0.0, 0.25)
@example(1.0, 1 - 1e-12, 0.001)
def test_no_odds_ratio_grows_faster_than_the_true_one(rate_b, rate_c, share):
    growth = of_odds(rate_b, rate_c, share, emix.GRID_LOG_PSI)
    assert np.isfinite(growth).all()
    if 0.001 < rate_b < 0.999 and 0.001 < rate_c < 0.999:
        truth = math.log(rate_c / (1 - rate_c)) - math.log(rate_b / (1 - rate_b))
        own = of_odds(rate_b, rate_c, share, np.array([truth]))
        assert own[0] >= growth.max() - 1e-12


@pytest.mark.parametrize(("n_b", "n_c", "p_b", "p_c"), [(180, 20, 0.05, 0.2), (100, 100, 0.03, 0.05)])
def test_growth_is_the_mean_of_what_a_stratum_adds(n_b, n_c, p_b, p_c):
    most = [int(binom.ppf(1 - 1e-6, n, p)) for n, p in ((n_b, p_b), (n_c, p_c))]
    mean = sum(
        binom.pmf(b, n_b, p_b) * binom.pmf(c, n_c, p_c) * emix.log_likelihood(Counts(n_b, n_c, b, c), AT)
        for b in range(most[0] + 1)
        for c in range(most[1] + 1)
    )
    share = n_c / (n_b + n_c)
    for side in (emix.HARM, emix.SAFE):
        exact = mean[side][1:] - mean[side][0]
        growth = of_odds(p_b, p_c, share, AT)[side]
        assert (n_b + n_c) * (growth[1:] - growth[0]) == pytest.approx(exact, abs=0.05)


def test_growth_in_points_is_the_mean_of_what_a_stratum_adds():
    growth = of_lines(0.02, 0.10, 0.2, HALF, TWO)
    assert 1_000 * growth == pytest.approx(log_factors(Counts(800, 200, 16, 20), 0.02, HALF, TWO), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.4), st.floats(1.2, 6), st.floats(0.01, 0.9), st.floats(0, 1))
def test_on_the_way_as_many_calls_are_left_as_foretold(rate, odds, share, part):
    worse = rate * odds / (1 - rate + rate * odds)
    growth = of_odds(rate, worse, share, AT)
    whole = until_rollback(NOTHING, growth, 0.01)
    so_far = part * whole
    left = until_rollback(so_far * growth, growth, 0.01)
    assert so_far + left == pytest.approx(whole, rel=1e-5)
    if part > 0.01:
        curve = so_far * growth
        assert until_rollback(curve, curve / so_far, 0.01) == pytest.approx(left, rel=1e-5, abs=1e-3)


def test_steps_add_up_to_one_long_step():
    growth = of_odds(0.05, 0.05, 0.1, AT)
    whole = until_promotion(NOTHING, growth, 0.05)
    steps = [Stage(0, growth), Stage(0.3 * whole, growth), Stage(math.inf, growth)]
    assert until_promotion_through(steps, 0.05) == pytest.approx(whole)
    assert until_promotion_through([Stage(1.01 * whole, growth)], 0.05) == pytest.approx(whole)


def test_a_policy_whose_steps_end_before_it_can_decide_is_told_so():
    growth = of_odds(0.05, 0.05, 0.1, AT)
    whole = until_promotion(NOTHING, growth, 0.05)
    assert until_promotion_through([Stage(0.5 * whole, growth), Stage(0.49 * whole, growth)], 0.05) is None
    assert until_promotion_through([], 0.05) is None
    assert until_promotion_through([Stage(0, growth)], 0.05) is None


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_without_both_good_and_bad_events_odds_never_decide(rate):
    growth = of_odds(rate, rate, 0.1, AT)
    assert growth == pytest.approx(np.full(len(AT), growth[0]))
    assert until_promotion(NOTHING, np.zeros(len(AT)), 0.05) is None
    assert until_promotion_through([Stage(math.inf, np.zeros(len(AT)))], 0.05) is None


def test_a_candidate_at_the_margin_is_never_foretold_to_pass():
    rate = 0.05 * 1.5 / (0.95 + 0.05 * 1.5)
    assert until_promotion(NOTHING, of_odds(0.05, rate, 0.5, AT), 0.05) is None


def test_what_is_reached_already_takes_no_more_calls():
    curve = emix.log_likelihood(Counts(900, 100, 9, 50), AT)
    assert until_rollback(curve, curve / 1_000, 0.01) == 0


@pytest.mark.parametrize("wrong", [(-0.1, 0.5, 0.5), (0.5, 1.1, 0.5), (0.5, 0.5, 0.0), (math.nan, 0.5, 0.5)])
def test_what_is_no_rate_or_share_is_refused(wrong):
    for growth in (lambda: of_odds(*wrong, AT), lambda: of_lines(*wrong, HALF, TWO)):
        with pytest.raises(InvariantBroken, match=r"rates are in \[0, 1\]"):
            growth()


def test_evidence_that_is_no_number_is_refused():
    with pytest.raises(InvariantBroken, match="no number"):
        until_rollback(np.full(emix.N_POINTS, math.nan), NOTHING, 0.01)


def calls_taken(rng, runs, looks, shares, p_b, p_c, side, alpha):
    """Calls until decided, shape (runs,), with strata of 100 calls and the candidate's share of each look."""
    taken = np.zeros((runs, looks, 13))
    for share in np.unique(shares):
        n_c = round(100 * share)
        where = shares == share
        k_b = rng.binomial(100 - n_c, p_b, (runs, where.sum()))
        k_c = rng.binomial(n_c, p_c, (runs, where.sum()))
        table = np.array(
            [
                [emix.log_likelihood(Counts(100 - n_c, n_c, b, c), AT[side]) for c in range(k_c.max() + 1)]
                for b in range(k_b.max() + 1)
            ]
        )
        taken[:, where] = table[k_b, k_c]
    curves = taken.cumsum(axis=1)
    log_e = logsumexp(curves[..., 1:] - curves[..., :1], axis=-1) - math.log(12)
    reached = log_e >= math.log(1 / alpha)
    assert reached.any(axis=1).all()
    return 100 * (reached.argmax(axis=1) + 1)


def test_the_calls_foretold_until_rollback_are_about_those_it_takes():
    rng = np.random.default_rng(91)
    taken = calls_taken(rng, 150, 250, np.full(250, 0.5), 0.05, 0.075, emix.HARM, 0.01)
    foretold = until_rollback(NOTHING, of_odds(0.05, 0.075, 0.5, AT), 0.01)
    assert 0.8 < taken.mean() / foretold < 1.25
    assert (taken > 2 * foretold).mean() < 0.1


def test_the_calls_foretold_until_promotion_through_a_ramp_are_about_those_it_takes():
    rng, shares = np.random.default_rng(92), np.repeat([0.05, 0.25, 0.5], [40, 40, 220])
    taken = calls_taken(rng, 150, 300, shares, 0.05, 0.05, emix.SAFE, 0.05)
    steps = [
        Stage(calls, of_odds(0.05, 0.05, share, AT))
        for calls, share in ((4_000, 0.05), (4_000, 0.25), (math.inf, 0.5))
    ]
    assert 0.75 < taken.mean() / until_promotion_through(steps, 0.05) < 1.25
