"""The benchmark of decisions, in short: its figures, its rules, and eight metrics of one rollout."""

import math

import numpy as np
import pytest
from benchmarks.decisions import exact, naive
from benchmarks.decisions.figures import mean, ratio, share
from benchmarks.decisions.latencies import ALL, SAME, TAIL, average, edges, exceedances
from benchmarks.decisions.looks import CALLS, HALF, TENTH, Likelihoods, averaged, bernoulli, first, log_e
from benchmarks.decisions.rates import EIGHT, HARM
from scipy.stats import binom


def test_eight_metrics_together_roll_back_a_healthy_candidate_within_alpha_and_a_z_test_does_not():
    rng, runs, looks = np.random.default_rng(1), 150, 120
    tables = Likelihoods(HARM)
    paths = [log_e(map(tables.of, bernoulli(rng, runs, TENTH, p, p, looks))) for p in EIGHT]
    assert np.isfinite(first(averaged(paths), math.log(20))).sum() <= binom.ppf(0.999, runs, 0.05)
    scores = naive.z_scores(bernoulli(rng, runs, TENTH, 0.05, 0.05, looks))
    assert np.isfinite(first(scores, naive.threshold_z(0.05))).sum() > binom.ppf(0.999, runs, 0.05)


def test_a_slowdown_of_the_tail_alone_is_found_within_what_was_promised():
    rng, runs = np.random.default_rng(2), 40
    at = edges(rng, runs)
    blocks = exceedances(rng, SAME.exceeding(at), TAIL.exceeding(at), TENTH, 240)
    assert CALLS * first(average(blocks, Likelihoods(HARM)), math.log(100)).mean() < 2_800


def test_exceedances_are_drawn_at_their_rates_and_the_higher_are_among_the_lower():
    rng = np.random.default_rng(3)
    above = np.tile([0.5, 0.1, 0.05, 0.01], (200, 1))
    levels = next(exceedances(rng, above, above, HALF, 60))
    counts = np.stack([level.k_c for level in levels])
    assert (np.diff(counts, axis=0) <= 0).all()
    assert counts.mean(axis=(1, 2)) / HALF.n_c == pytest.approx([0.5, 0.1, 0.05, 0.01], rel=0.05)


def test_latencies_are_drawn_as_their_survival_function_says():
    rng = np.random.default_rng(4)
    for slowness in (SAME, ALL, TAIL):
        drawn = slowness.drawn(rng, (40_000,))
        us = np.quantile(drawn, [0.5, 0.95])
        assert slowness.exceeding(us) == pytest.approx([0.5, 0.05], rel=0.06)
    assert TAIL.exceeding(np.quantile(SAME.drawn(rng, (400_000,)), [0.95]) * 1.5) == pytest.approx(
        0.05, rel=0.05
    )


def test_kayenta_calls_a_clear_shift_high_and_the_same_series_not():
    rng = np.random.default_rng(5)
    usual = rng.normal(100, 5, 60)
    assert naive.kayenta_is_high(usual, rng.normal(120, 5, 60))
    assert not naive.kayenta_is_high(usual, rng.normal(100, 5, 60))
    assert not naive.kayenta_is_high(usual, usual)


def test_a_share_beyond_its_bound_is_missed_and_within_the_error_of_the_simulation_is_not():
    assert share("G", "", np.arange(1_000) < 10, 0.01).is_met
    assert share("G", "", np.arange(1_000) < 16, 0.01).is_met
    assert not share("G", "", np.arange(1_000) < 17, 0.01).is_met
    none = share("G", "", np.zeros(2_000, dtype=bool), 0.01)
    assert (none.low, none.high) == (0, pytest.approx(0.00184, rel=0.01))


def test_runs_without_a_decision_miss_a_promise_and_are_told():
    undecided = mean("G", "outage", np.array([100.0, np.inf]), 800)
    assert not undecided.is_met
    assert "1 of 2 undecided" in undecided.written()
    assert not ratio("G", "", np.array([100.0, np.inf]), np.array([90.0, 90.0]), 1.3).is_met
    assert mean("G", "", np.array([90.0, 110.0]), 100.0).is_met
    assert ratio("G", "", np.array([90.0, 110.0]), np.array([90.0, 90.0]), 1.2).value == pytest.approx(10 / 9)


def test_no_order_or_grouping_changes_a_log_e_value():
    figures = exact.g13(np.random.default_rng(6), 20)
    assert len(figures) == 3
    assert all(figure.is_met and figure.value < 1e-9 for figure in figures)
