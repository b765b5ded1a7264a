"""Effects with bounds that hold at every look, as odds, points and percent."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts
from tidegate_streams.statistics.intervals import Effect, effect, restated

POINTS = emix.points(0.0, math.log(1.5))

rates = st.floats(0.001, 0.999)
odds = st.floats(0.05, 20)


@given(rates, odds)
def test_an_effect_restated_and_added_to_the_rate_is_the_same_odds_ratio(rate, ratio):
    for candidate in (
        rate + restated(ratio, "absolute", rate),
        rate * (1 + restated(ratio, "relative", rate)),
    ):
        assert candidate / (1 - candidate) * (1 - rate) / rate == pytest.approx(ratio, rel=1e-6)


@given(rates, odds, odds, st.sampled_from(["odds", "relative", "absolute"]))
def test_restating_keeps_the_order_so_that_bounds_stay_bounds(rate, one, other, kind):
    low, high = sorted((one, other))
    assert restated(low, kind, rate) <= restated(high, kind, rate)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_at_a_rate_of_nothing_or_everything_no_points_can_be_gained(rate):
    assert restated(3.0, "absolute", rate) == 0
    assert restated(3.0, "relative", rate) == (None if rate == 0 else 0)


def test_what_is_unknown_stays_unknown():
    assert effect(np.zeros(emix.N_POINTS), 0.05, "absolute", 0.02) == Effect(None, None, None)
    assert effect(np.zeros(emix.N_POINTS), 0.05, "odds", None) == Effect(None, None, None)
    assert restated(1.2, "absolute", None) is None


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(InvariantBroken, match="between 0 and 1"):
        restated(1.2, "odds", rate)


def test_an_outage_is_bounded_from_below_only():
    curve = emix.log_likelihood(Counts(900, 100, 0, 100), POINTS)
    low, estimate, high = effect(curve, 0.05, "odds", None)
    assert low > 10
    assert estimate == pytest.approx(20)
    assert high is None


@pytest.mark.parametrize(("n_b", "n_c", "psi"), [(50, 50, 1.0), (90, 10, 2.0)])
def test_the_truth_is_seldom_ever_outside_while_the_base_rate_rises(n_b, n_c, psi):
    rng, runs, looks = np.random.default_rng(61), 60, 60
    p_b = np.linspace(0.02, 0.2, looks)
    p_c = p_b * psi / (1 - p_b + p_b * psi)
    outside = 0
    for k_b, k_c in zip(
        rng.binomial(n_b, p_b, (runs, looks)).tolist(),
        rng.binomial(n_c, p_c, (runs, looks)).tolist(),
        strict=True,
    ):
        curve, ever = np.zeros(emix.N_POINTS), False
        for b, c in zip(k_b, k_c, strict=True):
            curve += emix.log_likelihood(Counts(n_b, n_c, b, c), POINTS)
            low, _, high = effect(curve, 0.1, "absolute", 0.1)
            wanted = restated(psi, "absolute", 0.1)
            ever |= (low is not None and low > wanted) or (high is not None and high < wanted)
        outside += ever
    assert outside <= binom.ppf(0.999, runs, 0.1)
