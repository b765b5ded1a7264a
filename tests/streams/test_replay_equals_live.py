"""What was commanded live is commanded by a replay of the journal, and by a backtest over its events.

``REPLAY_TRACES=50`` draws so many; each takes some ten seconds of processor time in the three tests together.
"""

import dataclasses
import os
import random

import pytest
from tests.streams.folding import RULES
from tests.streams.traces import TENANTS, Trace, backtested, decided

from tidegate import codec
from tidegate.records import DeploymentCommand
from tidegate_streams import fold
from tidegate_streams.frozen import freeze, thaw

TRACES = range(int(os.environ.get("REPLAY_TRACES", "1")))


def replayed(journal, partition, restarts):
    """What a fold over a journal that was read back publishes, going on from snapshots at some offsets."""
    state, published = fold.State(partition, RULES), []
    for offset, record in enumerate(map(codec.decode, map(codec.encode, journal))):
        if offset in restarts:
            state = thaw(freeze(state).pack())
        published += decided(fold.apply(state, offset, record, windows=False))
    return published


def unplaced(commands):
    """Commands without their place in a journal: a file has none."""
    return [dataclasses.replace(command, offsets=[]) for command in commands]


@pytest.mark.parametrize("seed", TRACES)
def test_late_calls_and_ratings_of_several_partitions_give_the_same_decisions_in_a_replay(seed):
    trace = Trace(seed, late=True, windows=seed % 4 == 0).run()
    assert trace.came_late > 10
    for partition, journal in trace.journals.items():
        live = trace.published[partition]
        assert any(isinstance(one, DeploymentCommand) for one in live)
        restarts = random.Random(seed).sample(range(len(journal)), 5)
        assert replayed(journal, partition, restarts) == live
        if seed % 2:
            assert replayed(journal, partition, ()) == live


@pytest.mark.parametrize("seed", TRACES)
def test_a_backtest_commands_what_live_commanded_where_nothing_came_late(seed, tmp_path):
    trace = Trace(seed, late=False).run()
    assert not trace.came_late
    same_as_backtested(trace, tmp_path)


@pytest.mark.parametrize("seed", TRACES)
def test_a_backtest_of_late_events_commands_what_live_would_have_if_each_had_come_in_time(seed, tmp_path):
    late = Trace(seed, late=True).run()
    in_order = Trace(seed, late=False).run([event for events in late.emitted.values() for event in events])
    assert late.came_late > 10
    same_as_backtested(in_order, tmp_path)


def same_as_backtested(trace, folder):
    for tenant in TENANTS:
        events = trace.emitted[tenant]
        random.Random(7).shuffle(events)
        commands = backtested(trace.specs[tenant], events, folder / f"{tenant}.jsonl")
        assert commands
        assert unplaced(commands) == unplaced(trace.of(tenant))
