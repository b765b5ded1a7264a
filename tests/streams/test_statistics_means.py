"""Mean differences with bounds at every look: strata, trends, skewness, and when not to believe them."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import means
from tidegate_streams.statistics.intervals import Effect
from tidegate_streams.statistics.means import Moments, effect, estimate, half_width, stratum

values = st.lists(st.integers(0, 1_000), max_size=12)
strata = st.lists(st.tuples(values, values), max_size=6)


def add_up(pairs):
    rows = [stratum(Moments.of(b), Moments.of(c)) for b, c in pairs]
    return sum(rows, np.zeros(means.ROWS))


@settings(max_examples=60, deadline=None)
@given(strata, st.randoms(use_true_random=False))
def test_strata_add_up_in_any_order_and_grouping(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    cut = random.randint(0, len(pairs))
    parts = add_up(shuffled[:cut]) + add_up(shuffled[cut:])
    assert parts == pytest.approx(add_up(pairs), rel=1e-9, abs=1e-6)
    one, other = (half_width(sums, 0.05, 1_000) for sums in (parts, add_up(pairs)))
    assert one == pytest.approx(other, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(values, values)
def test_sums_over_a_histogram_are_those_over_its_values(b, c):
    index, counts = np.unique(b, return_counts=True)
    histogram = stratum(Moments.of(index, counts), Moments.of(c))
    assert histogram == pytest.approx(stratum(Moments.of(b), Moments.of(c)), rel=1e-9, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(values, values, st.integers(-500, 500))
def test_a_level_that_both_share_moves_nothing(b, c, level):
    moved = add_up([([x + level for x in b], [x + level for x in c])])
    plain = add_up([(b, c)])
    assert estimate(moved) == pytest.approx(estimate(plain), abs=1e-6)
    assert half_width(moved, 0.05, 1_000) == pytest.approx(half_width(plain, 0.05, 1_000), rel=1e-6)


@pytest.mark.parametrize(
    "pair", [([], []), ([1, 2, 3], []), ([], [1, 2, 3]), ([5, 5, 5], [5, 5, 5]), ([1], [9]), ([1, 2], [9])]
)
def test_where_nothing_is_compared_or_varies_nothing_is_known(pair):
    found = effect(add_up([pair] * 50), 0.05, 1_000)
    assert found == (Effect(None, None, None), Effect(None, None, None), found.observations_needed, False)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_is_refused(wrong):
    with pytest.raises(InvariantBroken, match="no finite number"):
        stratum(Moments.of([1, 2]), Moments.of([1, wrong]))


def test_counts_below_zero_are_refused():
    with pytest.raises(InvariantBroken, match="count negative"):
        stratum(Moments.of([1, 2]), Moments(-1, 0, 0, 0))


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_sequence_is_narrowest_where_it_was_expected_to_decide(alpha):
    """Baseline and candidate of a thousand strata with a variance of one: width against its tuning."""
    pair = ([-1.0, 1.0], [-1.0, 1.0])
    sums = 1_000 * add_up([pair])
    widths = [half_width(sums, alpha, 1_000 * factor) for factor in (0.5, 0.9, 1, 1.1, 2)]
    assert min(widths) in widths[1:4]
    assert max(widths) < 1.05 * min(widths)


def test_the_ratio_is_bounded_only_where_the_baseline_is_not_zero():
    rng = np.random.default_rng(70)
    around_zero = add_up([(rng.normal(0, 1, 50), rng.normal(0, 1, 50)) for _ in range(20)])
    assert effect(around_zero, 0.05, 1_000).relative.high is None
    never = effect(add_up([([-1, 1], [2, 4])] * 900), 0.05, 1_000)
    assert never.relative == Effect(None, None, None)
    assert never.difference.low > 2


def test_bounds_of_the_ratio_agree_with_those_of_the_difference_about_what_is_excluded():
    rng = np.random.default_rng(71)
    for more in (1.0, 1.05, 1.2, 3.0):
        sums = add_up([(rng.gamma(4, 1, 80), more * rng.gamma(4, 1, 20)) for _ in range(40)])
        found = effect(sums, 0.05, 1_000)
        assert found.relative.low < found.relative.estimate < found.relative.high
        assert found.relative.low < more - 1 < found.relative.high
        if abs(more - 1) > 0.1:
            assert (found.relative.low > 0) == (found.difference.low > 0)


def test_few_or_skewed_observations_are_not_to_be_believed():
    rng = np.random.default_rng(72)
    few = effect(add_up([(rng.normal(9, 1, 40), rng.normal(9, 1, 10)) for _ in range(40)]), 0.05, 1_000)
    assert (few.observations_needed, few.is_trusted) == (500, False)
    many = effect(add_up([(rng.normal(9, 1, 40), rng.normal(9, 1, 10)) for _ in range(60)]), 0.05, 1_000)
    assert (many.observations_needed, many.is_trusted) == (500, True)
    skewed = [(rng.lognormal(0, 1.5, 40), rng.lognormal(0, 1.5, 10)) for _ in range(60)]
    wild = effect(add_up(skewed), 0.05, 1_000)
    assert wild.observations_needed > 1_000
    assert not wild.is_trusted


@dataclass
class Ended:
    """Runs over looks: lower and upper ends, shape (runs, looks)."""

    low: np.ndarray
    high: np.ndarray


def simulate(rng, runs, looks, n_b, n_c, sigma, factor=1.0, alpha=0.05, trend=1.0):
    """Lognormal costs; `trend` multiplies both variants' costs over the looks."""
    levels = np.geomspace(1, trend, looks)[:, None]

    def variant(n, scale):
        x = scale * levels * rng.lognormal(0, sigma, (runs, looks, n))
        return Moments(np.full((runs, looks), n), *((x**power).sum(axis=-1) for power in (1, 2, 3)))

    sums = stratum(variant(n_b, 1.0), variant(n_c, factor)).cumsum(axis=2)
    middle, width = estimate(sums), half_width(sums, alpha, 1_000)
    return Ended(middle - width, middle + width)


@pytest.mark.parametrize(("n_b", "n_c", "trend"), [(50, 50, 1.0), (80, 20, 4.0)])
def test_equal_means_are_seldom_ever_told_apart_even_while_both_rise_fourfold(n_b, n_c, trend):
    ended = simulate(np.random.default_rng(73), 200, 100, n_b, n_c, 0.6, trend=trend)
    # Bounds hold in the limit: the first looks, with fewer than 500 observations, are not counted.
    burnt = math.ceil(500 / min(n_b, n_c))
    wrong = ((ended.low > 0) | (ended.high < 0))[:, burnt:].any(axis=1).sum()
    assert wrong <= binom.ppf(0.999, 200, 0.05)


def test_a_quarter_more_is_seen_nearly_as_soon_as_by_a_test_that_knows_it():
    """A Gaussian test that knows both means and variances takes 1,509 observations at alpha 1 %."""
    ended = simulate(np.random.default_rng(74), 150, 60, 50, 50, 1.0, factor=1.25, alpha=0.02)
    seen = ended.low > 0
    assert seen.any(axis=1).all()
    assert 100 * (seen.argmax(axis=1) + 1).mean() <= 1.25 * 1_509
