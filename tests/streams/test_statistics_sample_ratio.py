"""The check of the split: no false alarm at any look, shares that ramp, several variants, sketches."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from tidegate.errors import InvariantBroken
from tidegate_streams import users
from tidegate_streams.statistics.sample_ratio import TILTS, first_seen, log_e, log_factors

ALARM = math.log(1_000)

splits = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9_999)), min_size=2, max_size=4)


def outcomes(n, arms):
    return [units for units in itertools.product(range(n + 1), repeat=arms) if sum(units) == n]


@pytest.mark.parametrize("shares", [(1, 1), (90, 10), (9_900, 100), (50, 30, 20), (1, 0)])
def test_at_the_asked_shares_every_tilt_has_mean_one(shares):
    mean = 0.0
    for units in outcomes(9, len(shares)):
        chance = multinomial.pmf(units, 9, np.array(shares) / sum(shares))
        mean = mean + chance * np.exp(log_factors(units, shares))
    assert mean == pytest.approx(np.ones((len(shares), len(TILTS))), abs=1e-12)


def test_shares_that_ramp_between_strata_leave_the_mean_at_one():
    mean = 0.0
    for early, late in itertools.product(outcomes(6, 2), outcomes(5, 2)):
        chance = binom.pmf(early[1], 6, 0.05) * binom.pmf(late[1], 5, 0.5)
        mean += chance * math.exp(log_e(log_factors(early, [95, 5]) + log_factors(late, [1, 1])))
    assert mean == pytest.approx(1, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(splits, st.data())
def test_strata_of_the_same_shares_may_be_cut_and_ordered_at_will(split, data):
    units, shares = [n for n, _ in split], [share for _, share in split]
    part = [data.draw(st.integers(0, n)) for n in units]
    rest = [n - some for n, some in zip(units, part, strict=True)]
    parts = log_factors(rest, shares) + log_factors(part, shares)
    assert parts == pytest.approx(log_factors(units, shares), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(splits, st.randoms(use_true_random=False), st.floats(1e-3, 1e3))
def test_neither_the_order_of_the_variants_nor_the_unit_of_the_shares_matters(split, random, scale):
    shuffled = random.sample(split, len(split))
    one = log_e(log_factors([n for n, _ in split], [share for _, share in split]))
    other = log_e(log_factors([n for n, _ in shuffled], [scale * share for _, share in shuffled]))
    assert one == pytest.approx(other, abs=1e-9)


def test_no_units_are_no_evidence():
    assert log_e(log_factors([0, 0, 0], [1, 2, 3])) == 0


@pytest.mark.parametrize(("units", "shares"), [((40, 0), (1, 1)), ((0, 40), (1, 1)), ((20, 20), (1, 0))])
def test_a_variant_that_gets_everything_or_nothing_is_an_alarm_within_forty_units(units, shares):
    assert log_e(log_factors(units, shares)) >= ALARM


def test_a_billion_units_at_the_asked_shares_are_fine_and_one_percent_off_is_not():
    assert log_e(log_factors([900_000_000, 100_000_000], [9_000, 1_000])) < 0
    assert ALARM < log_e(log_factors([899_000_000, 101_000_000], [9_000, 1_000])) < math.inf


@pytest.mark.parametrize(
    ("units", "shares"),
    [
        ((math.nan, 1), (1, 1)),
        ((1, 1), (1, math.nan)),
        ((math.inf, 1), (1, 1)),
        ((-1, 1), (1, 1)),
        ((1, 1), (1, -1)),
        ((1, 1), (0, 0)),
        ((1, 1), (1, 1, 1)),
    ],
)
def test_what_is_no_count_or_share_is_refused(units, shares):
    with pytest.raises(InvariantBroken, match="one count and one share a variant"):
        log_factors(units, shares)


def simulate(rng, runs, looks, shares, asked, per_look=100):
    """Log e-values, shape (runs, looks), of two variants; factors are linear in counts."""
    candidate = rng.binomial(per_look, shares, size=(runs, looks))
    tables = np.array([[log_factors(one, [1 - r, r]) for one in ((1, 0), (0, 1))] for r in asked])
    steps = (per_look - candidate)[..., None, None] * tables[:, 0] + candidate[..., None, None] * tables[:, 1]
    total = steps.cumsum(axis=1).reshape(runs, looks, -1)
    peak = total.max(axis=-1)
    return peak + np.log(np.exp(total - peak[..., None]).mean(axis=-1))


def test_a_split_as_asked_is_hardly_ever_void_however_often_one_looks_while_it_ramps():
    asked = np.repeat([0.05, 0.1, 0.25, 0.5], 50)
    alarms = (simulate(np.random.default_rng(41), 400, 200, asked, asked).max(axis=1) >= math.log(20)).sum()
    assert alarms <= binom.ppf(0.999, 400, 0.05)


def test_nine_percent_instead_of_ten_are_found_within_eighteen_thousand_units():
    asked = np.full(500, 0.1)
    late = simulate(np.random.default_rng(42), 100, 500, asked - 0.01, asked) >= ALARM
    assert late.any(axis=1).all()
    assert 100 * (late.argmax(axis=1) + 1).mean() <= 18_000


def sketch(hashes):
    """Sketch of users: register -> rank."""
    merged = {}
    for register, rank in zip(*(column.tolist() for column in users.registers(hashes)), strict=True):
        merged[register] = max(rank, merged.get(register, 0))
    return merged


def hashes(rng, n):
    return rng.integers(0, 2**64, n, dtype=np.uint64)


def test_nobody_is_counted_twice():
    rng = np.random.default_rng(43)
    known, new = hashes(rng, 300), hashes(rng, 20)
    assert first_seen(sketch(known), [sketch(known[:200]), sketch(known[200:])]) == [0, 0]
    assert first_seen({}, [{}, {}]) == [0, 0]
    counted = first_seen(sketch(known), [sketch(known), sketch(np.concatenate([known[:50], new]))])
    assert counted[0] == 0
    assert 15 <= counted[1] <= 20


@pytest.mark.parametrize(("panes", "per_pane"), [(60, 100), (8, 20_000)])
def test_newcomers_that_a_sketch_shows_fall_to_the_variants_as_all_units_do(panes, per_pane):
    rng, share, total, seen = np.random.default_rng(44), 0.1, np.zeros(2), {}
    for _ in range(panes):
        units = hashes(rng, per_pane)
        chosen = rng.random(per_pane) < share
        baseline, candidate = sketch(units[~chosen]), sketch(units[chosen])
        total += first_seen(seen, [baseline, candidate])
        for pane in (baseline, candidate):
            seen |= {register: max(rank, seen.get(register, 0)) for register, rank in pane.items()}
    n = total.sum()
    assert n > 900
    assert abs(total[1] - share * n) < 3.5 * math.sqrt(share * (1 - share) * n)


def test_in_a_crowd_only_rare_hashes_count_so_that_newcomers_do_not_meet():
    """20,000 users a stratum are five a register: those of rank 5 are a sixteenth of them."""
    units = hashes(np.random.default_rng(45), 20_000)
    baseline, candidate = first_seen({}, [sketch(units[2_000:]), sketch(units[:2_000])])
    assert 0.75 * 20_000 / 16 < baseline + candidate <= 20_000 / 16
