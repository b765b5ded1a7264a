"""Margins in points and percent: kept at every base rate, fixed or moving, and soon decided."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tidegate.records import DecisionMetric
from tidegate_streams.rollouts.comparing import MetricEvidence, after
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.verdicts import judge
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts
from tidegate_streams.statistics.excess import log_factors
from tidegate_streams.statistics.margins import line, reference_rate

POINTS = DecisionMetric(
    name="error_rate", kind="rate", margin_kind="absolute", rollback_margin=0.005, promotion_margin=0.02
)
HALF, TWO = line("absolute", 0.005), line("absolute", 0.02)
LOOKS = 300

lines = st.one_of(
    st.builds(line, st.just("absolute"), st.floats(0, 0.99)),
    st.builds(line, st.just("relative"), st.floats(0, 20)),
)
usual_rates = st.floats(1e-4, 1 - 1e-4)
shares = st.floats(0, 1)


def pmf(n, rate):
    """Chances of 0 to n bad events."""
    return np.array([math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)])


def chances(n, one, other):
    """Chances of 0 to n bad events, where the first third of the units has another rate than the rest."""
    first = n // 3
    return np.convolve(pmf(first, one), pmf(n - first, other))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), usual_rates, lines, shares, shares, shares)
def test_no_alternative_gains_on_average_wherever_the_base_rate_is_and_whatever_was_usual(
    n_b, n_c, usual, bound, one, other, deep
):
    on_baseline = chances(n_b, one, other)
    tolerated = bound.slope * float(on_baseline @ np.arange(n_b + 1)) / n_b + bound.offset
    factors = np.array(
        [
            [log_factors(Counts(n_b, n_c, k_b, k_c), usual, bound, bound) for k_c in range(n_c + 1)]
            for k_b in range(n_b + 1)
        ]
    )

    def mean(points, rate):
        on_candidate = chances(n_c, rate, rate)
        return np.einsum("b,c,bcg->g", on_baseline, on_candidate, np.exp(factors[..., points]))

    assert (mean(emix.HARM, min(tolerated, 1.0) * (1 - deep)) <= 1 + 1e-9).all()
    if tolerated <= 1:
        assert (mean(emix.SAFE, tolerated + deep * (1 - tolerated)) <= 1 + 1e-9).all()


def test_stakes_that_follow_the_past_gain_nothing_either():
    """Two strata, every outcome enumerated; the second's usual rate is what the first showed."""
    bound, tables = line("absolute", 0.1), list(itertools.product(range(5), range(6)))
    last = np.array([pmf(4, 0.4)[k_b] * pmf(5, 0.5)[k_c] for k_b, k_c in tables])
    mean = 0.0
    for k_b, chance in enumerate(pmf(100, 0.03)[:20]):
        usual = reference_rate(100, k_b)
        second = np.array([log_factors(Counts(4, 5, *bad), usual, bound, bound) for bad in tables])
        for k_c, other_chance in enumerate(pmf(3, 0.13)):
            curves = second + log_factors(Counts(100, 3, k_b, k_c), 0.03, bound, bound)
            gained = [math.exp(emix.log_e_rollback(curve)) for curve in curves]
            mean += chance * other_chance * float(last @ gained)
    assert 0.9 < mean <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 40)] * 4), min_size=1, max_size=8), st.randoms(use_true_random=False)
)
def test_strata_add_up_in_any_order(tables, random):
    strata = [Counts(n_b, n_c, min(k_b, n_b), min(k_c, n_c)) for n_b, n_c, k_b, k_c in tables]
    whole = sum(log_factors(stratum, 0.03, HALF, TWO) for stratum in strata)
    random.shuffle(strata)
    assert sum(log_factors(stratum, 0.03, HALF, TWO) for stratum in strata) == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("counts", [Counts(), Counts(50, 0, 3, 0), Counts(0, 50, 0, 3)])
def test_a_stratum_with_one_variant_says_nothing(counts):
    assert log_factors(counts, 0.01, HALF, TWO).tolist() == [0.0] * 26


@given(usual_rates, lines, lines)
def test_every_outcome_at_the_edge_has_a_finite_factor(usual, one, other):
    for k_b, k_c in ((0, 0), (0, 9), (900, 0), (900, 9)):
        assert np.isfinite(log_factors(Counts(900, 9, k_b, k_c), usual, one, other)).all()


def simulate(rng, runs, n_b, n_c, rates_b, rates_c, usual, tolerated=HALF):
    """Log e-values of rollback and promotion, shape (runs, looks): factors are linear in bad events."""
    k_b = rng.binomial(n_b, rates_b, size=(runs, len(usual)))[..., None]
    k_c = rng.binomial(n_c, rates_c, size=(runs, len(usual)))[..., None]
    none, baseline, candidate = (
        np.array([log_factors(Counts(n_b, n_c, *bad), rate, tolerated, TWO) for rate in usual])
        for bad in ((0, 0), (1, 0), (0, 1))
    )
    curves = (none + k_b * (baseline - none) + k_c * (candidate - none)).cumsum(axis=1)

    def log_mean(values):
        peak = values.max(axis=-1, keepdims=True)
        return peak[..., 0] + np.log(np.exp(values - peak).mean(axis=-1))

    return log_mean(curves[..., emix.HARM][..., 1:]), log_mean(curves[..., emix.SAFE][..., 1:])


BASE_RATES = {
    "steady": (0.02, np.full(LOOKS, 0.02)),
    "fallen tenfold": (0.05, np.full(LOOKS, 0.005)),
    "risen": (0.02, np.full(LOOKS, 0.05)),
    "swinging": (0.03, 0.03 + 0.028 * np.sin(np.arange(LOOKS) / 20)),
}
"""What was usual an hour ago, and the rate at each look: the hour has not noticed yet."""


@pytest.mark.parametrize("base", BASE_RATES)
@pytest.mark.parametrize(("n_b", "n_c"), [(90, 10), (50, 50)])
def test_at_a_margin_the_error_probabilities_hold_while_the_base_rate_moves(base, n_b, n_c):
    hour_ago, rates = BASE_RATES[base]
    usual, rng, runs = np.full(LOOKS, hour_ago), np.random.default_rng(31), 250
    harm, _ = simulate(rng, runs, n_b, n_c, rates, rates + 0.005, usual)
    _, safe = simulate(rng, runs, n_b, n_c, rates, rates + 0.02, usual)
    assert (harm.max(axis=1) >= math.log(100)).sum() <= binom.ppf(0.999, runs, 0.01)
    assert (safe.max(axis=1) >= math.log(20)).sum() <= binom.ppf(0.999, runs, 0.05)


def looks_until(log_e, alpha):
    reached = log_e >= math.log(1 / alpha)
    assert reached.any(axis=1).all()
    return reached.argmax(axis=1).mean() + 1


@pytest.mark.parametrize(("n_b", "n_c"), [(90, 10), (50, 50)])
@pytest.mark.parametrize(
    ("p_b", "p_c", "tolerated"),
    [(0.005, 0.05, HALF), (0.01, 0.1, HALF), (0.05, 0.1, HALF), (0.05, 0.2, line("relative", 1.0))],
)
def test_harm_is_found_as_soon_as_by_odds_that_are_told_the_base_rate(n_b, n_c, p_b, p_c, tolerated):
    rng, runs = np.random.default_rng(32), 100
    harm, _ = simulate(rng, runs, n_b, n_c, p_b, p_c, np.full(LOOKS, p_b), tolerated)
    most = tolerated.slope * p_b + tolerated.offset
    at = emix.points(math.log(most / (1 - most) * (1 - p_b) / p_b), 1.0)[emix.HARM]
    k_b, k_c = (rng.binomial(n, p, size=(runs, LOOKS)) for n, p in ((n_b, p_b), (n_c, p_c)))
    table = np.array(
        [
            [emix.log_likelihood(Counts(n_b, n_c, b, c), at) for c in range(k_c.max() + 1)]
            for b in range(k_b.max() + 1)
        ]
    )
    curves = table[k_b, k_c].cumsum(axis=1)
    odds = np.log(np.exp(curves[..., 1:] - curves[..., :1]).mean(axis=-1))
    assert looks_until(harm, 0.01) <= 1.1 * looks_until(odds, 0.01)


@pytest.mark.parametrize("hour_ago", [0.001, 0.1])
def test_a_usual_rate_that_is_wrong_tenfold_costs_less_than_twice_the_time(hour_ago):
    rng, rates = np.random.default_rng(33), np.full(LOOKS, 0.01)
    harm, safe = (
        looks_until(simulate(rng, 200, 90, 10, rates, worse, np.full(LOOKS, hour_ago))[side], alpha)
        for side, worse, alpha in ((0, 0.05, 0.01), (1, 0.01, 0.05))
    )
    told_harm, told_safe = (
        looks_until(simulate(rng, 200, 90, 10, rates, worse, rates)[side], alpha)
        for side, worse, alpha in ((0, 0.05, 0.01), (1, 0.01, 0.05))
    )
    assert harm < 2 * told_harm
    assert safe < 2 * told_safe


def looked(metric: DecisionMetric, panes: int, bad: int = 0) -> MetricEvidence:
    reference = VariantPane(calls=1000, rates={"error_rate": (1000, 0)})
    evidence = MetricEvidence.none(metric)
    for _ in range(panes):
        baseline = VariantPane(calls=50, rates={"error_rate": (50, 0)})
        candidate = VariantPane(calls=50, rates={"error_rate": (50, bad)})
        evidence = after(evidence, metric, baseline, candidate, reference)
    return evidence


def test_without_any_bad_event_a_margin_in_points_passes_within_three_hundred_calls():
    assert judge([POINTS], {"error_rate": looked(POINTS, 6)}, 0.01, 0.05).safe


@pytest.mark.parametrize(("kind", "rollback", "promotion"), [("odds", 1.1, 1.5), ("relative", 0.1, 0.5)])
def test_and_odds_or_percent_never_do_for_they_need_something_to_compare(kind, rollback, promotion):
    metric = replace(POINTS, margin_kind=kind, rollback_margin=rollback, promotion_margin=promotion)
    assert looked(metric, 200).log_e_promotion <= 0


def test_a_candidate_at_the_margin_does_not_pass():
    assert not judge([POINTS], {"error_rate": looked(POINTS, 200, bad=1)}, 0.01, 0.05).safe
