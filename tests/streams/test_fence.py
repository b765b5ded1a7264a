"""The fence after a process, or its whole machine, stood still."""

import time
from types import SimpleNamespace

import pytest

from tidegate_streams import fence
from tidegate_streams.fence import FENCE_SHARE, Fence

SESSION_MS = 6_000
MOST_S = SESSION_MS / 1_000 * FENCE_SHARE


@pytest.fixture
def clocks(monkeypatch):
    """Every clock of the system, to be set."""
    times = dict.fromkeys((time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC, time.CLOCK_REALTIME), 1_000.0)
    monkeypatch.setattr(fence, "time", SimpleNamespace(clock_gettime=times.__getitem__))
    return times


def test_nothing_is_sent_before_the_group_was_heard_of():
    assert Fence(SESSION_MS).is_shut


@pytest.mark.parametrize(
    "moved",
    [
        # Suspended, the machine's monotonic clock stands still.
        {time.CLOCK_BOOTTIME: MOST_S + 0.1, time.CLOCK_REALTIME: MOST_S + 0.1},
        # Paused from outside, all stand still; then the wall clock is set right.
        {time.CLOCK_REALTIME: MOST_S + 0.1},
        # Suspended, and the wall clock was set back.
        {time.CLOCK_BOOTTIME: MOST_S + 0.1, time.CLOCK_REALTIME: -3_600},
    ],
    ids=["suspended", "paused", "set back"],
)
def test_a_machine_that_stood_still_sends_nothing_until_the_group_is_heard_of_again(clocks, moved):
    one = Fence(SESSION_MS)
    one.heard(fence.now())
    assert not one.is_shut
    for clock, by_s in moved.items():
        clocks[clock] += by_s
    assert one.is_shut
    one.heard(fence.now())
    assert not one.is_shut


def test_the_group_counts_as_heard_of_for_half_a_session(clocks):
    one = Fence(SESSION_MS)
    one.heard(fence.now())
    for clock in clocks:
        clocks[clock] += MOST_S
    assert not one.is_shut
