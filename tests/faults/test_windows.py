"""The histograms that runs are checked by, and those under test, are two pieces of work that agree."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.windows import Content, Histogram, Values

from tidegate_streams.histogram import bucket, quantiles

VALUES = st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=60)


@settings(deadline=None, max_examples=50)
@given(VALUES, st.data())
def test_a_slice_of_values_has_the_buckets_and_quantiles_that_windows_give_it(
    values: list[int], data: st.DataObject
) -> None:
    low = data.draw(st.integers(0, len(values) - 1))
    high = data.draw(st.integers(low + 1, len(values)))
    found = Values(values).histogram(low, high)
    own = values[low:high]
    index, counts = np.unique(bucket([value for value in own if value]), return_counts=True)
    levels = quantiles([0.5, 0.9, 0.95, 0.99], index, counts, own.count(0), min(own), max(own))
    assert found == Histogram(
        n=len(own),
        sum=sum(own),
        sumsq=float(sum(value**2 for value in own)),
        min=min(own),
        max=max(own),
        **dict(zip(("p50", "p90", "p95", "p99"), levels.tolist(), strict=True)),
        zeros=own.count(0),
        buckets=tuple(zip(index.tolist(), counts.tolist(), strict=True)),
    )


@settings(deadline=None, max_examples=50)
@given(VALUES)
def test_a_quantile_is_within_a_percent_of_the_value_of_its_rank(values: list[int]) -> None:
    found = Values(values).histogram(0, len(values))
    for name, percent in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        truth = sorted(values)[-(-percent * len(values) // 100) - 1]
        assert abs(getattr(found, name) - truth) <= 0.01 * truth


def test_what_differs_between_two_windows_is_named() -> None:
    one, other = (Values(values).histogram(0, 2) for values in ([1, 90], [2, 90]))
    counts = (2, *[0] * 11)
    here, there = (Content(counts, {"latency_us": histogram}) for histogram in (one, other))
    assert here.differences(there) == {"latency_us": (one, other)}
    assert here.differences(Content((3, *counts[1:]), {"latency_us": one})) == {"calls": (2, 3)}
    assert here.differences(here) == {}
