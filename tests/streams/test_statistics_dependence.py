"""Calls of one unit that resemble each other: how much noise they add, and evidence that allows for it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.dependence import Excess, HalfSums, tempered
from tidegate_streams.statistics.emix import Counts


def by_units(bad, calls):
    """Design effect from the calls and bad events of each unit: a ratio's variance over Bernoulli's.

    J. N. K. Rao, A. J. Scott, "A simple method for the analysis of clustered binary data", 1992, section 2.
    """
    rate = bad.sum() / calls.sum()
    return float(((bad - rate * calls) ** 2).sum() / (rate * (1 - rate) * calls.sum()))


def sessions(rng, n, icc, rate=0.05, mean_calls=6):
    """Bad events and calls of units whose own rates differ; variance rate (1 - rate) icc."""
    calls = rng.geometric(1 / mean_calls, n)
    spread = 1 / icc - 1 if icc else None
    own = rng.beta(rate * spread, (1 - rate) * spread, n) if spread else np.full(n, rate)
    return rng.binomial(calls, own), calls


def test_it_is_unknown_with_few_blocks():
    assert sum([HalfSums.of(Excess.of(Counts(50, 50, 3, 1)))] * 29, HalfSums()).design_effect() is None


def test_halves_of_no_block_with_a_choice_say_nothing():
    mute = [Counts(), Counts(9, 0, 3, 0), Counts(5, 5, 0, 0), Counts(5, 5, 5, 5), Counts(1, 0, 1, 0)]
    nothing = HalfSums.of(sum(map(Excess.of, mute), Excess()))
    assert nothing == HalfSums()
    assert (nothing + nothing).design_effect() is (nothing + nothing).estimate() is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 40)] * 4), max_size=6), st.randoms(use_true_random=False))
def test_strata_of_a_block_add_up_in_any_order(tables, random):
    strata = [Excess.of(Counts(n_b, n_c, min(k_b, n_b), min(k_c, n_c))) for n_b, n_c, k_b, k_c in tables]
    whole = sum(strata, Excess())
    random.shuffle(strata)
    shuffled = sum(strata, Excess())
    assert (shuffled.excess, shuffled.variance) == pytest.approx((whole.excess, whole.variance), abs=1e-9)
    assert whole.variance >= 0


def test_all_outcomes_of_a_stratum_have_the_mean_and_the_variance_that_it_says():
    n_b, n_c, k = 12, 8, 6
    tables = [Counts(n_b, n_c, k - j, j) for j in range(k + 1)]
    chance = np.exp([emix.log_likelihood(table, np.zeros(1))[0] for table in tables])
    found = np.array([Excess.of(table).excess for table in tables])
    assert chance @ found == pytest.approx(0, abs=1e-12)
    assert chance @ found**2 == pytest.approx(Excess.of(tables[0]).variance)


@pytest.mark.parametrize("icc", [0.1, 0.3])
def test_random_halves_show_the_same_design_effect_as_their_units(icc):
    rng, whole, halves = np.random.default_rng(52), [], HalfSums()
    for _ in range(400):
        bad, calls = sessions(rng, 300, icc)
        other = rng.random(300) < 0.5
        whole.append((bad, calls))
        counts = [int(sums[who].sum()) for sums in (calls, bad) for who in (~other, other)]
        halves += HalfSums.of(Excess.of(Counts(*counts)))
    assert halves.estimate() == pytest.approx(by_units(*np.hstack(whole)), rel=4 * math.sqrt(2 / 400))


def blocks(rng, effect, n):
    return sum((HalfSums.of(Excess(x, v)) for x, v in _excesses(rng, effect, n)), HalfSums())


def _excesses(rng, effect, n):
    variances = rng.uniform(1, 9, n)
    return zip(rng.normal(0, np.sqrt(effect * variances)), variances, strict=True)


def test_tempering_is_seldom_by_less_than_the_design_effect_that_few_blocks_let_pass():
    rng = np.random.default_rng(54)
    found = np.array([blocks(rng, 3.0, 60).design_effect() for _ in range(600)])
    assert binom.ppf(0.0005, 600, 0.2) <= (found < 3).sum() <= binom.ppf(0.9995, 600, 0.2)


def test_what_is_known_of_it_comes_nearer_with_more_blocks():
    rng = np.random.default_rng(55)
    beyond = [blocks(rng, 3.0, n).design_effect() / 3 for n in (40, 4_000)]
    assert beyond[1] == pytest.approx(1.02, abs=0.06)
    few = blocks(rng, 3.0, 40)
    assert few.design_effect() > 1.2 * few.estimate()
    assert blocks(rng, 0.2, 400).design_effect() == 1


def test_quiet_blocks_count_for_as_much_as_they_tell():
    loud, quiet = HalfSums.of(Excess(3.0, 9.0)), HalfSums.of(Excess(0.1, 0.01))
    assert sum([loud] * 40, HalfSums()).blocks == pytest.approx(40)
    assert sum([loud] * 20 + [quiet] * 20, HalfSums()).blocks == pytest.approx(20, rel=0.01)
    assert (sum([loud] * 40, HalfSums()).faded(0) + quiet).blocks == pytest.approx(1)


@given(st.floats(0.01, 1), st.integers(1, 50))
def test_what_fades_alike_says_the_same(share, n):
    sums = sum([HalfSums.of(Excess(2.0, 1.0))] * n, HalfSums())
    assert sums.faded(share).blocks == pytest.approx(n)


def test_tempered_evidence_of_independent_calls_is_still_evidence():
    """All outcomes of a stratum: the mean e-value under the null falls below one, and not to nothing."""
    at, n_b, n_c, k = emix.points(0.0, math.log(1.5)), 12, 8, 6
    tables = [Counts(n_b, n_c, k - j, j) for j in range(max(0, k - n_b), min(n_c, k) + 1)]
    curves = [emix.log_likelihood(table, at) for table in tables]
    chance = np.exp([curve[emix.HARM][0] for curve in curves])
    mean = sum(
        p * math.exp(emix.log_e_rollback(tempered(c, 2.0))) for p, c in zip(chance, curves, strict=True)
    )
    assert chance.sum() == pytest.approx(1)
    assert 0.9 < mean < 1


@pytest.mark.parametrize("effect", [0.99, 0.0, -1.0, math.nan, math.inf])
def test_evidence_is_never_sharpened(effect):
    with pytest.raises(InvariantBroken, match="at least 1"):
        tempered(np.zeros(3), effect)


def test_users_with_good_and_bad_days_roll_back_a_healthy_candidate_within_alpha_once_tempered():
    """Each user makes all calls within one stratum; without tempering alpha is exceeded severalfold."""
    rng, icc, runs, looks, per_look = np.random.default_rng(53), 0.3, 200, 120, 17
    effect = by_units(*sessions(rng, 20_000, icc))
    bad, calls = (part.reshape(runs, looks, per_look) for part in sessions(rng, runs * looks * per_look, icc))
    other = rng.random(bad.shape) < 0.5
    tables = np.stack(
        [(part * who).sum(axis=-1) for part in (calls, bad) for who in (~other, other)], axis=-1
    )
    at = emix.points(0.0, math.log(1.5))[emix.HARM]
    known, where = np.unique(tables.reshape(-1, 4), axis=0, return_inverse=True)
    rows = np.array([emix.log_likelihood(Counts(*row), at) for row in known.tolist()])
    curves = rows[where.ravel()].reshape(runs, looks, -1).cumsum(axis=1)

    def false_rollbacks(curves):
        log_e = np.log(np.exp(curves[..., 1:] - curves[..., :1]).mean(axis=-1))
        return int((log_e.max(axis=1) >= math.log(20)).sum())

    assert false_rollbacks(curves) > binom.ppf(0.999, runs, 0.05)
    assert false_rollbacks(tempered(curves, effect)) <= binom.ppf(0.999, runs, 0.05)
