"""The fold: one partition of the journal in its order, in; windows, commands and alerts, out.

Nothing here reads a clock or a topic: the same messages give the same outputs, in the running process, after
a restart and in a notebook.
"""

from collections.abc import Iterable
from typing import Any

from tidegate.codec import decode
from tidegate.errors import ContractError
from tidegate.records import (
    Alert,
    Heartbeat,
    JournalAction,
    JournalRollout,
    PartialBatch,
    Rollout,
    RolloutAction,
    RolloutProgress,
)
from tidegate.series import deployment_key
from tidegate_streams import emissions, rollups
from tidegate_streams.admission import admit, unpack
from tidegate_streams.closing import batches, close, show
from tidegate_streams.deletion import DELETE
from tidegate_streams.forgotten import (
    effects_told,
    estrange,
    is_remembered,
    is_strange,
    take_up,
    taken_up,
    was_refused,
)
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import machine
from tidegate_streams.rollouts.outputs import is_news
from tidegate_streams.rollouts.state import State as Deployment
from tidegate_streams.state import Rules, State
from tidegate_streams.windows import form

__all__ = ["JOURNAL", "Rules", "State", "apply"]

JOURNAL = (PartialBatch, Heartbeat, JournalRollout, JournalAction)
"""Records that may stand in the journal."""


def apply(state: State, offset: int, record: Any, *, windows: bool = True) -> list[Any]:
    """Take in the next message of the journal.

    Parameters
    ----------
    state
        Changed in place.
    offset
        The message's offset.
    record
        One of `JOURNAL`.
    windows
        False leaves windows out of the outputs: for a replay of what was published already.

    Returns
    -------
    list
        Records to publish, in this order: `WindowMetricsBatch`, then commands, refusals and alerts, then the
        progress of rollouts.

    Raises
    ------
    ContractError
        When the message holds bytes that are not what it says; the state is unchanged.
    InvariantBroken
        When applying it would count something twice.
    """
    at = machine.Position(partition=state.partition, offset=offset, watermark_us=state.watermark.us)
    match record:
        case Heartbeat():
            return _hear(state, at, record, windows=windows)
        case PartialBatch():
            parts = state.ranges.take(record, unpack(record))
            decided = taken_up(state, at)
            if parts:
                decided += admit(state, rollups.concat(parts))
            return _published(state, decided)
        case JournalRollout():
            specs = state.ranges.take(record, decode(record.record, expect=Rollout))
            decided = taken_up(state, at)
            for spec in specs:
                key = deployment_key(spec.tenant, spec.environment, spec.deployment)
                if was_refused(state, spec, at):
                    state.rollouts.setdefault(key, Deployment(key))
                    continue
                if key in state.unproven and is_strange(state, key, spec, at):
                    estrange(state, key)
                if key in state.forgotten and not is_remembered(state, key, spec, at):
                    past = state.forgotten[key]
                    if key not in state.strange or spec.generation <= past.last.generation:
                        continue
                    decided += take_up(state, key, past, at)
                state.rollouts[key], outputs = machine.on_spec(
                    state.rollouts.get(key), spec, at, effects_told(state, key, spec, at)
                )
                decided += outputs
            return _published(state, decided)
        case JournalAction():
            actions = state.ranges.take(record, decode(record.record, expect=RolloutAction))
            decided = taken_up(state, at)
            for action in actions:
                if action.key in state.forgotten:
                    past = state.forgotten[action.key]
                    if action.key in state.strange and past.awaits(action.generation, offset):
                        decided += take_up(state, action.key, past, at)
                    elif past.has_answered(action.generation, offset):
                        continue
                known = state.rollouts.get(action.key)
                if action.action != DELETE:
                    state.rollouts[action.key], outputs = machine.on_action(known, action, at)
                elif known is not None:
                    state.rollouts[action.key], outputs = machine.on_deleted(known, at)
                else:
                    continue
                decided += outputs
            return _published(state, decided)
        case _:
            raise ContractError("unexpected_record", f"{type(record).__name__} is no record of the journal")


def _hear(state: State, at: machine.Position, beat: Heartbeat, *, windows: bool) -> list[Any]:
    decided = taken_up(state, at)
    state.watermark.hear(beat)
    due: list[emissions.Due] = []
    if state.watermark.us is not None:
        if state.hears_from_us is None:
            state.hears_from_us = state.watermark.us
        until_us = state.watermark.us // PANE_US * PANE_US
        if state.closed_us is None or until_us > state.closed_us:
            due, looked = close(state, at.offset, until_us, windows=windows)
            decided += looked
    if state.ticks.tick(beat):
        due += show(state, windows=windows)
    shown = batches(state, at.offset, form(due)) if due else []
    return [*shown, *_published(state, decided)]


def _published(state: State, decided: Iterable[Any]) -> list[Any]:
    """What goes out of what was decided: alerts numbered, and of each rollout's progress the last word."""
    records = []
    progress: dict[str, RolloutProgress] = {}
    for record in decided:
        match record:
            case Alert():
                numbered = state.alerts.number(record)
                if numbered is not None:
                    records.append(numbered)
            case RolloutProgress():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                if is_news(progress.get(key) or state.told.get(key), record):
                    progress[key] = record
            case _:
                records.append(record)
    state.told |= progress
    return [*records, *progress.values()]
