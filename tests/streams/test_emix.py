import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nchypergeom_fisher

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts

POINTS = emix.points(math.log(1.10), math.log(1.5))
EXACT = 1e-9


@st.composite
def counts(draw, most=60):
    n_b, n_c = draw(st.integers(0, most)), draw(st.integers(0, most))
    return Counts(n_b, n_c, draw(st.integers(0, n_b)), draw(st.integers(0, n_c)))


def tables(n_b, n_c, k):
    return [Counts(n_b, n_c, k - j, j) for j in range(max(0, k - n_b), min(n_c, k) + 1)]


@settings(max_examples=200, deadline=None)
@given(counts())
def test_the_likelihood_is_that_of_scipy(stratum):
    k = stratum.k_baseline + stratum.k_candidate
    n = stratum.n_baseline + stratum.n_candidate
    with np.errstate(divide="ignore"):
        expected = nchypergeom_fisher.logpmf(
            stratum.k_candidate, max(n, 1), k, stratum.n_candidate, np.exp(POINTS)
        )
    assert emix.log_likelihood(stratum, POINTS) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(
    "stratum",
    [
        Counts(9_000, 1_000, 90, 10),
        Counts(9_000, 1_000, 1_800, 260),
        Counts(5_000, 5_000, 1_000, 20),
        Counts(100, 9_900, 99, 5_000),
        Counts(40_000, 10_000, 39_600, 9_990),
    ],
)
def test_cutting_off_the_tails_of_a_large_stratum_changes_nothing(stratum, monkeypatch):
    narrow = emix.log_likelihood(stratum, POINTS)
    monkeypatch.setattr(emix, "_reach", lambda low, high, *_: (low, high))
    assert narrow == pytest.approx(emix.log_likelihood(stratum, POINTS), abs=EXACT)


@settings(max_examples=60, deadline=None)
@given(counts(most=2_000))
def test_a_part_of_the_support_for_each_odds_ratio_says_the_same_as_one_for_all(stratum):
    together = emix.log_likelihood(stratum, POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emix, "_HUGE", 0)
        assert emix.log_likelihood(stratum, POINTS) == pytest.approx(together, abs=EXACT)


def test_ten_million_calls_in_one_stratum_take_no_time_and_are_told_apart():
    healthy = emix.log_likelihood(Counts(5_000_000, 5_000_000, 1_000_000, 1_000_000), POINTS)
    harmful = emix.log_likelihood(Counts(5_000_000, 5_000_000, 1_000_000, 1_100_000), POINTS)
    assert emix.log_e_rollback(healthy) < 0 < math.log(1e6) < emix.log_e_promotion(healthy)
    assert emix.log_e_promotion(harmful) > math.log(1e6)
    assert emix.estimate(harmful) == pytest.approx(1.1 / 1 * 4 / 3.9, rel=0.01)


@pytest.mark.parametrize(
    "wrong", [(1, 1, 2, 0), (1, 1, 0, 2), (5, 5, -1, 0), (math.nan, 5, 1, 1), (5, 5, 1, math.nan)]
)
def test_a_table_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvariantBroken, match="no table"):
        Counts(*wrong)


@pytest.mark.parametrize(("n_b", "n_c", "k"), [(9, 4, 3), (20, 20, 11), (30, 3, 5), (2, 1, 1)])
@pytest.mark.parametrize("log_psi_rollback", [0.0, math.log(1.10), 1.2])
def test_under_the_null_an_e_value_has_mean_one_and_deeper_in_the_null_less(n_b, n_c, k, log_psi_rollback):
    at = emix.points(log_psi_rollback, log_psi_rollback + 0.4)
    outcomes = [emix.log_likelihood(table, at) for table in tables(n_b, n_c, k)]
    harm = np.array([math.exp(emix.log_e_rollback(curve)) for curve in outcomes])
    safe = np.array([math.exp(emix.log_e_promotion(curve)) for curve in outcomes])

    def mean(values, log_psi):
        probability = np.exp([emix.log_likelihood(t, np.array([log_psi]))[0] for t in tables(n_b, n_c, k)])
        return float((values * probability).sum())

    assert mean(harm, log_psi_rollback) == pytest.approx(1, abs=EXACT)
    assert mean(harm, log_psi_rollback - 0.5) < 1
    assert mean(safe, log_psi_rollback + 0.4) == pytest.approx(1, abs=EXACT)
    assert mean(safe, log_psi_rollback + 0.9) < 1


@settings(max_examples=60, deadline=None)
@given(st.lists(counts(), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_and_partitioning_of_strata_do_not_matter(strata, random):
    curves = [emix.log_likelihood(stratum, POINTS) for stratum in strata]
    whole = sum(curves)
    shuffled = curves[:]
    random.shuffle(shuffled)
    cut = random.randint(0, len(curves))
    parts = sum(shuffled[:cut], np.zeros(emix.N_POINTS)) + sum(shuffled[cut:], np.zeros(emix.N_POINTS))
    assert emix.log_e_rollback(parts) == pytest.approx(emix.log_e_rollback(whole), abs=EXACT)
    assert emix.log_e_promotion(parts) == pytest.approx(emix.log_e_promotion(whole), abs=EXACT)
    assert parts == pytest.approx(whole, abs=EXACT)


def test_a_curve_survives_json_to_the_last_bit():
    curve = emix.log_likelihood(Counts(90, 10, 3, 2), POINTS)
    assert json.loads(json.dumps(curve.tolist())) == curve.tolist()


@settings(max_examples=60, deadline=None)
@given(counts())
def test_good_events_mirror_bad_events(stratum):
    mirrored = emix.log_likelihood(stratum.complement(), -POINTS)
    assert emix.log_likelihood(stratum, POINTS) == pytest.approx(mirrored, abs=EXACT)


@pytest.mark.parametrize(
    "empty", [Counts(), Counts(50, 0, 3, 0), Counts(40, 10, 0, 0), Counts(40, 10, 40, 10)]
)
def test_a_stratum_without_choice_says_nothing(empty):
    curve = emix.log_likelihood(empty, POINTS)
    assert curve.tolist() == [0.0] * emix.N_POINTS
    assert emix.estimate(curve) is None
    assert emix.interval(curve, 0.05) == (None, None)
    assert emix.log_e_rollback(curve) == emix.log_e_promotion(curve) == 0.0


@pytest.mark.parametrize("psi", [0.4, 1.0, 1.7, 6.0])
def test_the_estimate_is_the_largest_likelihood_and_lies_within_its_interval(psi):
    rng = np.random.default_rng(7)
    p_c = 0.05 * psi / (0.95 + 0.05 * psi)
    strata = [Counts(80, 20, rng.binomial(80, 0.05), rng.binomial(20, p_c)) for _ in range(300)]
    curve = sum(emix.log_likelihood(stratum, POINTS) for stratum in strata)
    fine = np.linspace(-3, 3, 6_001)
    best = math.exp(fine[sum(emix.log_likelihood(stratum, fine) for stratum in strata).argmax()])
    low, high = emix.interval(curve, 0.05)
    assert emix.estimate(curve) == pytest.approx(best, rel=0.02)
    assert low < best < high
    assert low < psi < high


def test_the_interval_never_leaves_out_an_odds_ratio_that_is_not_rejected():
    rng = np.random.default_rng(3)
    fine = np.linspace(-2.9, 2.9, 2_001)
    for _ in range(20):
        strata = [Counts(70, 30, rng.binomial(70, 0.1), rng.binomial(30, 0.13)) for _ in range(40)]
        curve = sum(emix.log_likelihood(stratum, POINTS) for stratum in strata)
        exact = sum(emix.log_likelihood(stratum, fine) for stratum in strata)
        grid = curve[emix.GRID]
        mixture = grid.max() + math.log(np.exp(grid - grid.max()).mean())
        accepted = np.exp(fine[mixture - exact < math.log(1 / 0.05)])
        low, high = emix.interval(curve, 0.05)
        assert low is None or low <= accepted.min()
        assert high is None or high >= accepted.max()


def simulate(rng, runs, looks, n_b, n_c, rates_b, rates_c, log_psi_rollback):
    """Log e-values against harm, shape (runs, looks), from a table of the likelihoods of all strata."""
    at = emix.points(log_psi_rollback, math.log(1.5))[emix.HARM]
    k_b = rng.binomial(n_b, rates_b, size=(runs, looks))
    k_c = rng.binomial(n_c, rates_c, size=(runs, looks))
    table = np.zeros((k_b.max() + 1, k_c.max() + 1, len(at)))
    for b, c in itertools.product(range(table.shape[0]), range(table.shape[1])):
        table[b, c] = emix.log_likelihood(Counts(n_b, n_c, b, c), at)
    curves = table[k_b, k_c].cumsum(axis=1)
    ratios = curves[..., 1:] - curves[..., :1]
    return ratios.max(axis=-1) + np.log(np.exp(ratios - ratios.max(axis=-1, keepdims=True)).mean(axis=-1))


@pytest.mark.parametrize(("n_b", "n_c", "rate"), [(50, 50, 0.05), (90, 10, 0.05), (90, 10, 0.2)])
def test_a_healthy_candidate_is_rolled_back_within_alpha_however_often_one_looks(n_b, n_c, rate):
    """Every run looks 400 times; odds of 1.10 are tolerated and the candidate is exactly that much worse."""
    rng = np.random.default_rng(20)
    worse = 1.10 * rate / (1 - rate + 1.10 * rate)
    log_e = simulate(rng, 800, 400, n_b, n_c, rate, worse, math.log(1.10))
    false = (log_e.max(axis=1) >= math.log(100)).mean()
    assert false <= 0.01 + 2 * math.sqrt(0.01 * 0.99 / 800)


def test_a_common_rise_of_the_base_rate_during_a_run_is_no_harm():
    rng = np.random.default_rng(21)
    rising = np.linspace(0.005, 0.05, 400)
    log_e = simulate(rng, 800, 400, 90, 10, rising, rising, 0.0)
    assert (log_e.max(axis=1) >= math.log(100)).mean() <= 0.01 + 2 * math.sqrt(0.01 * 0.99 / 800)


@pytest.mark.parametrize(
    ("n_b", "n_c", "p_b", "p_c", "oracle"),
    [(50, 50, 0.05, 0.075, 3_755), (50, 50, 0.20, 0.25, 2_769), (90, 10, 0.01, 0.10, 542)],
)
def test_a_worse_candidate_is_caught_nearly_as_soon_as_by_a_test_that_knows_the_effect(
    n_b, n_c, p_b, p_c, oracle
):
    rng = np.random.default_rng(22)
    log_e = simulate(rng, 300, 250, n_b, n_c, p_b, p_c, 0.0)
    caught = log_e >= math.log(100)
    assert caught.any(axis=1).all()
    requests = 100 * (caught.argmax(axis=1) + 1)
    assert requests.mean() <= 1.42 * oracle
