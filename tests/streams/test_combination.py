import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics.combination import average, to_blame, to_blame_together, weights

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


@settings(max_examples=100, deadline=None)
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
    assert to_blame_together(log_e, shares, 0.01) == ["b", "a"]


@settings(max_examples=100, deadline=None)
@given(e_values, st.data())
def test_whenever_all_metrics_together_are_certain_some_group_is_to_blame(log_e, data):
    shares = {name: data.draw(st.floats(0.1, 5), label=name) for name in log_e}
    together = average(list(log_e.values()), list(shares.values()))
    group, alone = to_blame_together(log_e, shares, 0.01), to_blame(log_e, shares, 0.01)
    if abs(together - math.log(100)) > 1e-9:
        assert bool(group) == (together >= math.log(100))
    assert not alone or group
    for size in range(1, len(log_e) + 1):
        for larger in itertools.combinations(log_e, size):
            if group and set(group) <= set(larger):
                mean = average([log_e[m] for m in larger], [shares[m] for m in larger])
                assert mean >= math.log(100) - 1e-9


def test_a_metric_without_evidence_is_never_to_blame():
    log_e = {"quiet": -math.inf, "loud": 20.0}
    shares = dict.fromkeys(log_e, 0.5)
    assert to_blame(log_e, shares, 0.01) == to_blame_together(log_e, shares, 0.01) == ["loud"]
    assert to_blame_together({"quiet": -math.inf}, {"quiet": 1.0}, 0.01) == []


def test_what_is_no_number_is_refused():
    with pytest.raises(InvariantBroken, match="no number"):
        average([math.nan, 3.0])


def test_a_harmless_metric_is_named_within_alpha_however_the_metrics_depend_on_each_other():
    """Three copies of one fair bet beside a truly harmful metric: named wrongly at most once in 1/alpha."""
    rng, alpha, wrong = random.Random(81), 0.05, 0
    for _ in range(1_000):
        fair = math.log(1 / alpha) if rng.random() < alpha else -math.inf
        log_e = {"copy 1": fair, "copy 2": fair, "copy 3": fair, "harmful": rng.gauss(4, 3)}
        wrong += set(to_blame(log_e, dict.fromkeys(log_e, 0.25), alpha)) > {"harmful"}
    assert 0 < wrong <= binom.ppf(0.999, 1_000, alpha)
