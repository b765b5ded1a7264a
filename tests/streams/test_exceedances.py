import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_streams.histogram import bucket
from tidegate_streams.statistics.exceedances import GAMMA, ZERO, above, below_limit, shifted, threshold

values = st.lists(st.integers(0, 10_000_000), min_size=1, max_size=400)


def histogram(observed):
    observed = np.asarray(observed, dtype=np.int64)
    indexes, counts = np.unique(bucket(observed[observed > 0]), return_counts=True)
    zeros = int((observed == 0).sum())
    return dict(zip(indexes.tolist(), counts.tolist(), strict=True)) | ({ZERO: zeros} if zeros else {})


@settings(max_examples=100, deadline=None)
@given(values, st.sampled_from([0.5, 0.9, 0.95]))
def test_the_threshold_is_the_bucket_of_the_quantile(observed, level):
    index = threshold(histogram(observed), level)
    if len(observed) * (1 - level) < 1 - 1e-9:
        assert index is None
        return
    value = int(np.quantile(observed, level, method="inverted_cdf"))
    assert index == (ZERO if value == 0 else int(bucket([value])[0]))


@settings(max_examples=100, deadline=None)
@given(values, st.integers(2, 10_000_000))
def test_what_lies_above_a_bucket_is_counted_exactly(observed, edge):
    index = int(bucket([edge])[0])
    largest = int(GAMMA**index * (1 + 1e-12))
    assert above(histogram(observed), index) == sum(value > largest for value in observed)


def test_where_nothing_was_ever_above_a_promotion_is_tested_one_bucket_lower():
    limited = {300: 95, 900: 5}
    assert [below_limit(limited, threshold(limited, level)) for level in (0.5, 0.99)] == [300, 899]
    assert above(limited, 899) == 5
    assert below_limit({ZERO: 200}, ZERO) == ZERO - 1


def test_a_tail_quantile_waits_until_one_value_beyond_it_is_expected():
    assert threshold({300: 99}, 0.99) is None
    assert threshold({300: 99, 400: 1}, 0.99) == 300
    assert threshold({}, 0.5) is None


@pytest.mark.parametrize(("margin", "rollback", "promotion"), [(0.05, 3, 2), (0.10, 5, 4), (0.20, 10, 9)])
def test_a_rollback_margin_is_never_narrower_and_a_promotion_margin_never_wider_than_stated(
    margin, rollback, promotion
):
    assert shifted(500, "relative", margin, strict=False) == 500 + rollback
    assert shifted(500, "relative", margin, strict=True) == 500 + promotion
    assert GAMMA**promotion <= 1 + margin <= GAMMA**rollback


@settings(max_examples=100, deadline=None)
@given(st.integers(100, 900), st.floats(0.1, 5e5))
def test_an_absolute_margin_is_kept_in_the_unit_of_the_metric(index, margin):
    edge = GAMMA**index
    wide = shifted(index, "absolute", margin, strict=False)
    narrow = shifted(index, "absolute", margin, strict=True)
    assert index <= narrow <= wide <= narrow + 1
    assert GAMMA**narrow <= (edge + margin) * (1 + 1e-9)
    assert GAMMA**wide >= (edge + margin) * (1 - 1e-9)


def test_a_margin_downwards_mirrors_one_upwards():
    assert shifted(500, "relative", -0.05, strict=False) == 497
    assert shifted(500, "relative", -0.05, strict=True) == 498
    assert GAMMA ** shifted(500, "absolute", -1_000, strict=False) <= GAMMA**500 - 1_000
    assert GAMMA ** shifted(500, "absolute", -1_000, strict=True) >= GAMMA**500 - 1_000


def test_zero_times_anything_stays_zero_and_odds_move_no_edge():
    assert shifted(ZERO, "relative", 0.2, strict=False) == ZERO
    assert shifted(500, "odds", 1.5, strict=False) == 500
    assert shifted(ZERO, "absolute", 1_000_000, strict=False) == int(bucket([1_000_000])[0])
