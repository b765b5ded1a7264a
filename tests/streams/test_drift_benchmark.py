"""The benchmark of drift, in short; docs/drift-benchmark.md has all of it."""

import math

import numpy as np
import pytest
from benchmarks.drift import recorded, simulated
from benchmarks.drift.detectors import Limit, Ours
from benchmarks.drift.measured import Row, delay, run_length


@pytest.mark.parametrize("number", [0, 3])
def test_a_known_change_is_found_within_its_goal(number):
    usual, after, goal = simulated.CHANGES[number]
    late = simulated.delays(np.random.default_rng(number), usual, after, 20, 3_000)
    assert delay(late).value <= goal
    assert np.isfinite(late).all()


def test_streams_that_do_not_change_hardly_ever_ring():
    found = simulated.quiet(np.random.default_rng(4), simulated.QUIET[0], 30, 800)
    assert found.samples == 240_000
    assert found.alarms <= 3


def test_the_changes_of_a_series_of_mongodb_are_found_where_they_are_and_no_other():
    one = next(recorded.mongodb())
    first = one._replace(values=one.values[:500])
    at = recorded.alarms(first, Ours(one.policy, one.together))
    assert len(at) == 2
    assert np.abs(np.array(at) - [200, 400]).max() < 20


def test_of_code_after_chat_the_moment_is_found_and_in_chat_nothing():
    one = next(one for one in recorded.azure() if one.name == "output_tokens 0")
    judged = recorded.Judged(one, "tidegate", recorded.alarms(one, Ours(one.policy, one.together)))
    assert judged.false == (0, 1_200)
    assert judged.delays[0] < 500


def test_change_points_are_those_that_half_of_the_annotators_agree_on():
    changes = {one.name: one.changes for one in recorded.tcpd()}
    assert [first for first, _ in changes["well_log"]][:3] == [177, 255, 281]
    assert [first for first, _ in changes["jfk_passengers"]] == [299]


def test_a_limit_rings_when_the_mean_leaves_it_and_learns_anew():
    limit = Limit(10, 5, is_relative=True)
    rung = [limit.update(value) for value in [1.0] * 20 + [2.0] * 4 + [2.0] * 20]
    assert rung.count(True) == 1
    assert rung.index(True) == 22


def test_run_lengths_have_the_interval_of_poissons_law_and_goals_are_missed_beyond_it():
    none, some = run_length(0, 1_000), run_length(10, 1_000)
    assert (none.value, none.high) == (math.inf, math.inf)
    assert none.low == pytest.approx(1_000 / 3.689, rel=1e-3)
    assert (some.low, some.high) == (pytest.approx(54.4, rel=0.01), pytest.approx(208.6, rel=0.01))
    late = delay(np.array([100.0, 200.0, np.inf]))
    assert Row("a", "b", some, late, 2, 3, (100.0, 160.0)).misses == []
    assert len(Row("a", "b", some, late, 2, 3, (250.0, 140.0)).misses) == 2
