import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nchypergeom_fisher

from tidegate_streams.statistics import e_detector
from tidegate_streams.statistics.emix import Counts

windows = st.tuples(st.integers(1, 400), st.integers(1, 30), st.integers(0, 60)).filter(
    lambda one: one[2] <= one[0] + one[1]
)


@settings(max_examples=60, deadline=None)
@given(windows, st.sampled_from([0.0, 0.1, 0.4]), st.floats(-1, 1))
def test_a_window_gains_nothing_on_average_while_the_odds_change_by_no_more_than_is_tolerated(
    totals, tolerated, part
):
    n_r, n, k = totals
    possible = np.arange(max(0, k - n_r), min(n, k) + 1)
    chances = nchypergeom_fisher.pmf(possible, n_r + n, k, n, np.exp(part * tolerated))
    factors = [e_detector.log_factors(Counts(n_r, n, k - j, j), tolerated) for j in possible.tolist()]
    assert (chances @ np.exp(factors) <= 1 + 1e-9).all()


def tables(n_reference, k_reference, n):
    windows = [Counts(n_reference, n, k_reference, k) for k in range(n + 1)]
    return np.array([e_detector.log_factors(window) for window in windows])


def alarms(rng, rates, threshold, n_reference=5_000, n=10, runs=60):
    """Window, from 1, of each run's first alarm, beside a reference of 5 %; infinite without one."""
    at, log_r = np.full(runs, np.inf), e_detector.started(runs, 1)
    found = np.array([tables(n_reference, k, n) for k in rng.binomial(n_reference, 0.05, runs)])
    for i, rate in enumerate(rates, 1):
        log_r = e_detector.advanced(log_r, found[np.arange(runs), rng.binomial(n, rate, runs)][:, None])
        at[(e_detector.log_evidence(log_r) >= np.log(threshold)) & np.isinf(at)] = i
    return at


def test_false_alarms_are_as_far_apart_as_stated_and_a_doubled_rate_is_found_long_before():
    rng = np.random.default_rng(5)
    quiet = alarms(rng, [0.05] * 300, 150)
    windows, fired = np.minimum(quiet, 300).sum(), np.isfinite(quiet).sum()
    assert windows / fired >= 150
    assert alarms(rng, [0.1] * 300, 150).mean() < 60


def test_windows_without_information_count_as_none():
    factors = e_detector.log_factors(Counts(500, 20, 0, 0))
    log_r = e_detector.advanced(e_detector.started(1), e_detector.log_factors(Counts(500, 20, 10, 1))[None])
    assert not factors.any()
    assert (e_detector.advanced(log_r, factors[None]) == log_r).all()


def test_a_rise_speaks_for_rises_and_a_fall_for_falls():
    rose = e_detector.log_factors(Counts(1_000, 100, 50, 25))
    fell = e_detector.log_factors(Counts(1_000, 100, 500, 10))
    assert rose[e_detector.ROSE].min() > 0 > rose[e_detector.FELL].max()
    assert fell[e_detector.FELL].min() > 0 > fell[e_detector.ROSE].max()


def test_the_moment_of_a_change_is_within_what_is_said_of_it():
    rng, held, widths, off = np.random.default_rng(7), 0, [], []
    found = tables(20_000, 1_000, 10)
    for _ in range(100):
        bad = np.concatenate([rng.binomial(10, 0.05, 60), rng.binomial(10, 0.15, 40)])
        at = e_detector.change_point(found[bad][:, None])
        held += at.first <= 60 <= at.last
        widths.append(at.last - at.first)
        off.append(at.likeliest - 60)
    assert held >= 88
    assert np.mean(widths) < 25
    assert abs(np.median(off)) <= 2


def test_of_several_levels_the_evidence_is_their_mean():
    log_r = np.stack([np.full(16, 3.0), np.full(16, -np.inf)])
    assert e_detector.log_evidence(log_r) == pytest.approx(3.0 - np.log(2))
