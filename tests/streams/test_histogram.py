import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_streams import histogram

VALUES = st.lists(
    st.one_of(st.integers(0, 60), st.integers(1, 10**7), st.integers(1, histogram.LARGEST)),
    min_size=1,
    max_size=60,
)


def sketch(values: list[int]) -> tuple[np.ndarray, np.ndarray, int]:
    array = np.array(values, dtype=np.int64)
    index, counts = np.unique(histogram.bucket(array[array > 0]), return_counts=True)
    return index, counts, int((array == 0).sum())


@given(value=st.integers(1, histogram.LARGEST))
@settings(deadline=None)
def test_a_value_lies_between_the_edges_of_its_bucket(value: int) -> None:
    index = int(histogram.bucket([value])[0])
    assert value <= histogram.EDGES[index]
    assert index == 0 or value > histogram.EDGES[index - 1]


@given(values=st.lists(st.integers(1, 2**53 + 10), min_size=1))
@settings(deadline=None)
def test_the_quick_way_to_a_bucket_is_a_search_among_the_edges(values: list[int]) -> None:
    edges = histogram.EDGES
    near = [int(edge) + shift for edge in edges[edges < 2**52] for shift in (0, 1)]
    for chosen in (values, near):
        assert histogram.bucket(chosen).tolist() == np.searchsorted(edges, chosen, side="left").tolist()


def test_edges_are_powers_of_gamma_and_fit_an_int16() -> None:
    assert len(histogram.EDGES) < 2**15
    for index in (500, 1000, 2000):
        assert histogram.EDGES[index] == pytest.approx(1.02**index, rel=1e-9, abs=1)


@given(values=VALUES, q=st.floats(0, 1))
@settings(deadline=None)
def test_a_quantile_is_within_one_percent_of_the_value_of_its_rank(values: list[int], q: float) -> None:
    index, counts, zeros = sketch(values)
    truth = sorted(values)[max(math.ceil(q * len(values)), 1) - 1]
    for bounds in ((None, None), (min(values), max(values))):
        estimate = histogram.quantiles(q, index, counts, zeros, *bounds)[0]
        assert abs(estimate - truth) <= 0.01 * truth


@given(values=st.lists(st.integers(0, 50), min_size=1))
@settings(deadline=None)
def test_quantiles_of_small_whole_numbers_are_exact(values: list[int]) -> None:
    index, counts, zeros = sketch(values)
    wanted = [0.5, 0.9, 1.0]
    expected = np.quantile(values, wanted, method="inverted_cdf")
    assert histogram.quantiles(wanted, index, counts, zeros).tolist() == expected.tolist()


def test_nothing_counted_has_no_quantile() -> None:
    assert np.isnan(histogram.quantiles([0.5, 0.99], [], [])).all()
