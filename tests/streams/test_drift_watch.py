"""One metric of one series: when it changed, and when it is as it was."""

from dataclasses import replace

import numpy as np
import pytest

from tidegate_streams.drift.policy import DAY_US, MINUTE_US, Policy
from tidegate_streams.drift.watch import MOST_KEPT, step, watch
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.histogram import EDGES, bucket
from tidegate_streams.statistics.exceedances import ZERO

QUICK = Policy(block_us=10 * MINUTE_US, blocks=36)
LEARNT = 420
"""Windows after which a change is found: edges, blocks, and those that are too new to be the past."""


def rated(rng, rate, n=20):
    k = int(rng.binomial(n, rate))
    return {bucket: count for bucket, count in ((ZERO, n - k), (0, k)) if count}


def timed(rng, factor, n=20):
    us = 1_200_000 * factor * np.exp(0.6 * rng.standard_normal(n))
    index, counts = np.unique(bucket(us.astype(np.int64)), return_counts=True)
    return dict(zip(index.tolist(), counts.tolist(), strict=True))


def told(policy, samples, one=None, start=0, is_rate=True, beside=None):
    """What is told of samples of consecutive windows."""
    one = one or watch(is_rate=is_rate)
    found = []
    for i, sample in enumerate(samples, start):
        other = beside[i] if beside else {}
        change = step(one, policy, i * policy.window_us, sample, beside=other)
        found += [change] if change else []
    return found


def rates(seed, *parts, n=20):
    rng = np.random.default_rng(seed)
    return [rated(rng, rate, n) for rate, windows in parts for _ in range(windows)]


def test_a_change_starts_is_updated_and_ends_once_each_near_its_moments():
    changes = told(QUICK, rates(3, (0.05, LEARNT), (0.15, 150), (0.05, 100)))
    assert [one.phase for one in changes] == ["started", *["updated"] * (len(changes) - 2), "ended"]
    assert [one.version for one in changes] == list(range(1, len(changes) + 1))
    assert {one.started_us for one in changes} == {changes[0].at_us}
    first, last = changes[0], changes[-1]
    assert LEARNT < first.at_us / MINUTE_US < LEARNT + 40
    assert first.changed_low_us <= LEARNT * MINUTE_US <= first.changed_high_us
    assert LEARNT + 150 < last.at_us / MINUTE_US < LEARNT + 200
    assert first.share_before == pytest.approx(0.05, abs=0.01)
    assert last.share_since == pytest.approx(0.15, abs=0.03)


def test_after_a_change_that_ended_the_past_rolls_on():
    one = watch(is_rate=True)
    told(QUICK, rates(3, (0.05, LEARNT), (0.15, 60), (0.05, 200)), one)
    assert one.change is None
    assert one.past.usual.to_us > (LEARNT + 200) * MINUTE_US
    assert one.past.usual.tally.above[0] / one.past.usual.tally.n == pytest.approx(0.05, abs=0.005)
    between = [start_us for start_us, _ in one.past.blocks if LEARNT <= start_us / MINUTE_US < LEARNT + 60]
    assert not between


def test_days_without_a_change_tell_nothing():
    assert not told(QUICK, rates(4, (0.05, 1_500)))
    assert not told(QUICK, rates(5, (0.0, 600)))


def test_a_fall_is_a_change_as_well():
    changes = told(QUICK, rates(6, (0.3, LEARNT), (0.1, 60)))
    assert changes[0].share_since < 0.2 < changes[0].share_before


def test_what_is_within_the_tolerance_is_no_change_however_many_calls_say_so():
    assert not told(QUICK, rates(7, (0.050, LEARNT), (0.052, 200), n=2_000))
    assert told(QUICK, rates(7, (0.050, LEARNT), (0.065, 100), n=2_000))


def test_slower_answers_are_found_at_once_and_said_by_a_quantile():
    rng = np.random.default_rng(8)
    samples = [timed(rng, factor) for factor, n in ((1.0, LEARNT + 100), (1.5, 60)) for _ in range(n)]
    changes = told(QUICK, samples, is_rate=False)
    first = changes[0]
    assert first.at_us / MINUTE_US < LEARNT + 100 + 10
    assert first.share_since > first.share_before
    if first.edge == 0:
        assert EDGES[first.bucket] == pytest.approx(1_200_000, rel=0.1)
    assert sum(first.since.values()) >= 20


def test_a_change_that_lasts_becomes_the_usual_and_the_next_one_is_told_beside_it():
    changes = told(QUICK, rates(9, (0.05, LEARNT), (0.2, 500), (0.2, 200), (0.05, 60)))
    ends = [one for one in changes if one.phase == "ended"]
    starts = [one for one in changes if one.phase == "started"]
    assert len(starts) == 2
    assert LEARNT + 360 <= ends[0].at_us / MINUTE_US <= LEARNT + 420
    assert starts[1].share_before == pytest.approx(0.2, abs=0.02)
    assert starts[1].at_us / MINUTE_US > LEARNT + 700


def test_a_day_is_compared_with_the_same_hour_of_other_weeks_once_there_are_two():
    policy = Policy(window_us=60 * MINUTE_US, block_us=60 * MINUTE_US, blocks=48)
    day, rng = 24, np.random.default_rng(10)
    usual = 0.2 + 0.15 * np.sin(np.arange(17 * day) / day * 2 * np.pi)
    more = np.where(np.arange(17 * day) >= 16.6 * day, 0.1, 0.0)
    changes = told(policy, [rated(rng, rate, 600) for rate in usual + more])
    assert changes[0].usual.is_same_hour
    assert 16.6 * DAY_US <= changes[0].at_us <= 16.9 * DAY_US
    assert not [one for one in changes if one.at_us < 16.6 * DAY_US]


def test_a_pinned_range_stays_the_reference_whatever_comes_later():
    pinned = replace(QUICK, reference="pinned", pinned_from_us=0, pinned_to_us=LEARNT * MINUTE_US)
    changes = told(pinned, rates(11, (0.05, LEARNT), (0.15, 900), (0.05, 60)))
    assert [one.phase for one in changes if one.phase != "updated"] == ["started", "ended"]
    assert changes[-1].at_us / MINUTE_US > LEARNT + 900
    assert {one.usual.to_us for one in changes} <= {(LEARNT - 50) * MINUTE_US, (LEARNT - 40) * MINUTE_US}


def test_a_release_is_compared_with_what_another_does_at_the_same_time():
    beside = replace(QUICK, reference="release")
    both = [(0.05, LEARNT), (0.2, 100)]
    assert not told(beside, rates(12, (0.05, 500)), beside=rates(13, (0.05, 500)))
    assert not told(beside, rates(12, *both))
    changes = told(beside, rates(12, (0.2, LEARNT + 30)), beside=rates(13, (0.05, LEARNT + 30)))
    assert changes[0].share_before == pytest.approx(0.05, abs=0.01)
    assert changes[0].share_since == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("at", [200, LEARNT + 25, LEARNT + 70])
def test_a_state_that_was_kept_and_taken_up_again_goes_on_as_if_nothing_had_been(at):
    samples = rates(14, (0.05, LEARNT), (0.15, 60), (0.05, 60))
    whole, one = told(QUICK, samples), watch(is_rate=True)
    before = told(QUICK, samples[:at], one)
    again = thaw(freeze(one).pack())
    assert before + told(QUICK, samples[at:], again, at) == whole


def test_what_is_kept_has_an_end():
    one = watch(is_rate=False)
    rng = np.random.default_rng(15)
    told(QUICK, [timed(rng, 1.0, 5) for _ in range(600)], one)
    assert len(one.kept) <= MOST_KEPT
    assert len(one.past.blocks) <= QUICK.blocks + 4
    assert not one.past.first
