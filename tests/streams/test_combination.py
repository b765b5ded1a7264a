import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_streams.statistics.combination import average, to_blame, weights

e_values = st.dictionaries(st.sampled_from("abcde"), st.floats(-30, 30), min_size=1)


def test_the_average_of_e_values_is_weighted():
    assert average([math.log(100), math.log(1)], [1, 3]) == pytest.approx(math.log(25.75))
    assert average([]) == 0


def test_huge_evidence_does_not_overflow():
    assert average([5_000.0, 0.0]) == pytest.approx(5_000 - math.log(2))
    assert average([-math.inf, 0.0]) == pytest.approx(-math.log(2))


def test_critical_metrics_share_one_half():
    shares = weights({"errors": 1, "latency": 1, "cost": 2}, frozenset({"errors"}))
    assert shares == {"errors": 0.5, "latency": pytest.approx(1 / 6), "cost": pytest.approx(1 / 3)}
    assert weights({"a": 1, "b": 3}, frozenset({"a", "b"})) == {"a": 0.25, "b": 0.75}
    assert weights({"a": 2}, frozenset()) == {"a": 1.0}


@settings(max_examples=200, deadline=None)
@given(e_values, st.data())
def test_blame_is_closed_testing_over_all_groups(log_e, data):
    shares = {name: data.draw(st.floats(0.1, 5), label=name) for name in log_e}
    named = to_blame(log_e, shares, 0.01)
    for metric in log_e:
        others = [name for name in log_e if name != metric]
        groups = itertools.chain.from_iterable(
            itertools.combinations(others, n) for n in range(len(others) + 1)
        )
        lowest = min(
            average([log_e[m] for m in (metric, *group)], [shares[m] for m in (metric, *group)])
            for group in groups
        )
        if abs(lowest - math.log(100)) > 1e-9:
            assert (metric in named) == (lowest >= math.log(100))


def test_the_worst_metric_is_named_alone_when_the_others_do_not_hold_by_themselves():
    shares = {"a": 0.5, "b": 0.5}
    assert to_blame({"a": math.log(99), "b": math.log(120)}, shares, 0.01) == ["b"]


def test_evidence_can_be_enough_together_while_no_single_metric_can_be_named():
    log_e = {"a": math.log(110), "b": math.log(110), "c": math.log(85)}
    shares = dict.fromkeys(log_e, 1 / 3)
    assert average(list(log_e.values()), list(shares.values())) >= math.log(100)
    assert to_blame(log_e, shares, 0.01) == []
