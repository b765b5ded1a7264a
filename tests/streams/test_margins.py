import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate_streams.statistics.margins import SMALLEST_REFERENCE, log_odds_ratio, reference_rate

rates = st.floats(1e-4, 1 - 1e-4)
margins = st.floats(0, 0.5)


def odds(p):
    return p / (1 - p)


def test_an_odds_margin_needs_no_reference():
    assert log_odds_ratio("odds", 1.10, None) == math.log(1.10)


def test_two_points_are_large_odds_on_a_rare_rate_and_small_ones_on_a_common_rate():
    assert math.exp(log_odds_ratio("absolute", 0.02, 0.01)) == pytest.approx(odds(0.03) / odds(0.01))
    assert math.exp(log_odds_ratio("absolute", 0.02, 0.40)) == pytest.approx(odds(0.42) / odds(0.40))


def test_a_relative_margin_is_a_share_of_the_reference():
    assert math.exp(log_odds_ratio("relative", 0.5, 0.02)) == pytest.approx(odds(0.03) / odds(0.02))


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_a_margin_that_depends_on_the_base_rate_waits_for_one(kind):
    assert log_odds_ratio(kind, 0.02, None) is None
    assert reference_rate(SMALLEST_REFERENCE - 1, 3) is None
    assert reference_rate(SMALLEST_REFERENCE, 0) == pytest.approx(1 / 102)


@given(st.sampled_from(["relative", "absolute"]), rates, margins, margins)
def test_a_wider_margin_tolerates_more(kind, reference, one, other):
    narrow, wide = sorted((one, other))
    assert 0 <= log_odds_ratio(kind, narrow, reference) <= log_odds_ratio(kind, wide, reference) < 40
