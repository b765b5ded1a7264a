"""Partials to decisions: a journal as stage 1 would have written it, folded as stage 2 folds it."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import polars as pl

from tidegate import codec
from tidegate.records import (
    Frame,
    Heartbeat,
    JournalAction,
    JournalRollout,
    PartialBatch,
    Rollout,
    RolloutAction,
    RolloutProgress,
    SourceProgress,
)
from tidegate.series import DIMENSIONS, ROLLUPS, deployment_key
from tidegate.topics import ACTIONS, CALLS, ROLLOUTS
from tidegate_streams import fold, looks
from tidegate_streams.partials import PANE_US, merge, pack
from tidegate_streams.rollouts.state import State as Deployment
from tidegate_streams.rollouts.transitions import FINISHED
from tidegate_streams.rollups import Frames


def decide(
    spec: Rollout,
    rows: Frames,
    *,
    start_us: int | None = None,
    revision: int = 1,
    actions: Sequence[RolloutAction] = (),
) -> Iterator[Any]:
    """Yield what stage 2 publishes of a rollout's decisions, pane by pane in the order of event time.

    Nothing comes late: each pane is looked at when all of its events are there. The rollout's end is the end.

    Parameters
    ----------
    spec
        The rollout.
    rows
        Kind -> partials of its deployment, as `released` returns them.
    start_us
        Event time from which it runs, in microseconds since the epoch, rounded up to a pane; the first event
        unless given.
    revision
        Of its first command. Calls count for the command whose revision they name.
    actions
        What people ask for, in the order of their time; each is taken up then, but not before the start.

    Yields
    ------
    DeploymentCommand, RolloutProgress, Alert or DeploymentStatus
        In order.
    """
    state = fold.State(0)
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    if revision > 1:
        state.rollouts[key] = Deployment(key, revision=revision - 1)
    for offset, record in enumerate(journal_of(spec, rows, start_us, actions)):
        yield from fold.apply(state, offset, record, windows=False)
        # No windows will be shown, which these rows are kept for.
        state.put_off.clear()
        if key in state.rollouts and state.rollouts[key].state in FINISHED:
            return


def journal_of(
    spec: Rollout, rows: Frames, start_us: int | None, actions: Sequence[RolloutAction] = ()
) -> Iterator[Any]:
    """Yield the journal of some partials, in which the rollout is applied at `start_us`, and people act."""
    by_pane: dict[int, list[Frame]] = {}
    for kind, frame in rows.items():
        for (pane_us,), part in frame.partition_by("pane_us", as_dict=True).items():
            by_pane.setdefault(int(pane_us), []).append(Frame(kind=kind, rows=pack(part)))
    if not by_pane:
        return
    first_us, last_us = min(by_pane), max(by_pane)
    begins_us = first_us if start_us is None else -(-start_us // PANE_US) * PANE_US
    first_us = min(first_us, begins_us)
    is_applied = False
    due = deque(enumerate(actions))
    yield _beat(first_us)
    for pane_us in looks.panes_between(first_us, last_us + PANE_US, {*by_pane, begins_us}, first_us):
        if pane_us >= begins_us and not is_applied:
            is_applied = True
            yield JournalRollout(**_head(ROLLOUTS, 0), record=codec.encode(spec))
        if pane_us in by_pane:
            yield PartialBatch(**_head(CALLS, pane_us), prices="", frames=by_pane[pane_us])
        while is_applied and due and due[0][1].ts < pane_us + PANE_US:
            number, action = due.popleft()
            yield _beat(max(action.ts, begins_us))
            yield JournalAction(**_head(ACTIONS, number), record=codec.encode(action))
        yield _beat(pane_us + PANE_US)


def last_pane_us(rows: Frames) -> int | None:
    """Return when the last pane with events begins, in microseconds since the epoch; None without events."""
    return max((pane for frame in rows.values() for pane in frame["pane_us"].unique()), default=None)


def first_pane_us(rows: Frames) -> int | None:
    """Return when the first pane with events begins, in microseconds since the epoch; None without events."""
    return min((pane for frame in rows.values() for pane in frame["pane_us"].unique()), default=None)


def share_of(rows: Frames) -> Callable[[Any], float | None]:
    """Return what tells of a record of `decide` how much of these panes has been looked at, 0 to 1."""
    first_us = first_pane_us(rows) or 0
    whole_us = (last_pane_us(rows) or 0) + PANE_US - first_us

    def share(record: Any) -> float | None:
        if not isinstance(record, RolloutProgress) or record.watermark is None:
            return None
        return min(max((record.watermark - first_us) / whole_us, 0.0), 1.0)

    return share


def by_variant(rows: Frames) -> dict[str, int]:
    """Return how many calls each variant served."""
    return dict(rows["calls"].group_by("variant").agg(pl.col("calls").sum()).sort("variant").rows())


def released(rows: Frames, *, as_if_assigned: bool = False, asked: Collection[str] = ()) -> Frames:
    """Add up what decisions do not tell apart, for all panes at once.

    Parameters
    ----------
    rows
        Kind -> partials.
    as_if_assigned
        Let every call that may decide count for the command in force, whatever command it obeyed: for a
        rollout that is a dry run, which judges what others assigned.
    asked
        Dimensions that the rollout's filters ask for.
    """
    kept = {*ROLLUPS["release"], *asked}
    alike: dict[str, pl.Expr] = {name: pl.lit("") for name in DIMENSIONS if name not in kept}
    alike["aa"] = pl.lit(None, pl.Boolean)
    if as_if_assigned:
        alike["assignment_revision"] = pl.when("comparable").then(pl.lit(1, pl.Int64))
    return {kind: merge(frame.with_columns(**alike)) for kind, frame in rows.items()}


def obeyed(rows: Frames) -> dict[int, int]:
    """Return how many calls that may decide name each revision as that of the command they obeyed."""
    calls = rows["calls"].filter("comparable", pl.col("assignment_revision").is_not_null())
    return dict(
        calls.group_by("assignment_revision").agg(pl.col("calls").sum()).sort("assignment_revision").rows()
    )


def _head(topic: str, number: int) -> dict[str, Any]:
    """Return what says of which range a message is: each is one of its own."""
    place = {"topic_id": topic, "topic": topic, "partition": 0, "lo": number, "hi": number}
    return place | {"part": 0, "parts": 1, "digest": 0}


def _beat(watermark_us: int) -> Heartbeat:
    calls = SourceProgress(topic_id=CALLS, topic=CALLS, partition=0, next_offset=0, watermark=watermark_us)
    return Heartbeat(worker="backtest", epoch=1, sources=[calls], partition_count=1, ts=watermark_us)
