import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import distances
from tidegate_streams.statistics.distances import Distance, binned, distance, log_e


def histogram(values):
    index, counts = np.unique(values, return_counts=True)
    return dict(zip(index.tolist(), counts.tolist(), strict=True))


@given(st.integers(1, 12), st.floats(0, 500))
def test_chance_is_that_of_the_chi_squared_law(freedom, x):
    assert distances._survival(x, freedom) == pytest.approx(chi2.sf(x, freedom), rel=1e-9, abs=1e-15)


def test_of_inputs_that_do_not_change_one_in_a_hundred_has_a_p_of_a_hundredth():
    rng, found = np.random.default_rng(2), []
    for _ in range(400):
        reference, current = (histogram(rng.poisson(60, n)) for n in (20_000, 500))
        found.append(distance(*binned(reference, current)))
    p, index = np.array([one.p for one in found]), np.array([one.psi for one in found])
    assert 0 < (p < 0.01).mean() < 0.03
    assert (p < 0.1).mean() == pytest.approx(0.1, abs=0.05)
    assert index.max() < 0.1
    assert np.mean([one.stretch for one in found]) == pytest.approx(1, abs=0.1)


def test_volume_alone_is_no_drift_and_a_real_shift_is():
    rng = np.random.default_rng(3)
    reference, alike, shifted = (
        histogram(rng.poisson(mean, n)) for mean, n in ((60, 10**6), (60.4, 10**6), (66, 2_000))
    )
    much, real = distance(*binned(reference, alike)), distance(*binned(reference, shifted))
    assert much.p < 1e-30
    assert log_e(much, 0.1) == -math.log(2)
    assert real.psi > 0.1
    assert log_e(real, 0.1) > math.log(1e6)


def test_calls_that_are_alike_are_less_evidence():
    reference, current = {"en": 5_000, "de": 5_000}, {"en": 600, "de": 400}
    assert distance(reference, current).p < 1e-8
    assert distance(reference, current, design_effect=10).p > 0.01


def test_rare_categories_count_as_one_and_too_few_observations_as_nothing():
    reference = {"en": 6_000, "de": 3_000} | {f"x{i}": 5 for i in range(200)}
    assert distance(reference, {"en": 600, "de": 300, "new": 100}).bins == 3
    assert distance(reference, {"en": 600, "de": 300, "new": 100}).p > 0.9
    assert distance(reference, {"en": 20}) is None
    assert distance({"en": 500}, {"en": 500}) is None
    assert distance({}, {"en": 500}) is None


def test_a_category_that_was_never_seen_before_is_a_distance_and_no_error():
    found = distance({"gpt": 10_000}, {"gpt": 500, "other": 500})
    assert found.psi > 1
    assert found.p < 1e-50


def test_bins_hold_all_observations_and_about_as_many_each():
    reference = histogram(np.random.default_rng(4).poisson(60, 20_000))
    first, second = binned(reference, {3: 7, 500: 2})
    assert sum(first.values()) == 20_000
    assert len(first) == distances.MOST_BINS
    assert max(first.values()) < 2 * min(first.values())
    assert second == {"0": 7, "9": 2}
    with pytest.raises(InvariantBroken):
        list(binned({}, {1: 1}))


def test_one_window_is_worth_one_on_average_where_nothing_changed():
    p = (np.arange(20_000) + 0.5) / 20_000
    worth = [math.exp(log_e(Distance(1.0, one, 1.0, 10), 0.0)) for one in p.tolist()]
    assert 0.9 < np.mean(worth) <= 1
