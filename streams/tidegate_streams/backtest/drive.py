"""Partials to decisions: a journal as stage 1 would have written it, folded as stage 2 folds it."""

import itertools
from collections.abc import Iterator
from typing import Any

import polars as pl

from tidegate import codec
from tidegate.records import Heartbeat, JournalRollout, Rollout, SourceProgress
from tidegate.series import deployment_key
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK, ROLLOUTS
from tidegate_infra.kafka.ranges import Range
from tidegate_streams import fold, looks
from tidegate_streams.aggregate import journal
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk
from tidegate_streams.partials import PANE_US, merge
from tidegate_streams.rollouts.state import State as Deployment
from tidegate_streams.rollouts.transitions import FINISHED
from tidegate_streams.rollups import Frames

_TOPICS = {"calls": CALLS, "feedback": FEEDBACK, "evaluations": EVALUATIONS}


def decide(spec: Rollout, rows: Frames, *, start_us: int | None = None, revision: int = 1) -> Iterator[Any]:
    """Yield what stage 2 publishes of a rollout's decisions, pane by pane in the order of event time.

    Nothing comes late: each pane is looked at when all of its events are there. The rollout's end is the end.

    Parameters
    ----------
    spec
        The rollout.
    rows
        Kind -> partials of its deployment.
    start_us
        Event time from which it runs, in microseconds since the epoch, rounded up to a pane; the first event
        unless given.
    revision
        Of its first command. Calls count for the command whose revision they name.

    Yields
    ------
    DeploymentCommand, RolloutProgress, Alert or DeploymentStatus
        In order.
    """
    state = fold.State(0)
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    if revision > 1:
        state.rollouts[key] = Deployment(key, revision=revision - 1)
    for offset, record in enumerate(journal_of(spec, rows, start_us)):
        yield from fold.apply(state, offset, record, windows=False)
        if key in state.rollouts and state.rollouts[key].state in FINISHED:
            return


def journal_of(spec: Rollout, rows: Frames, start_us: int | None) -> Iterator[Any]:
    """Yield the journal of some partials, in which the rollout is applied at `start_us`."""
    by_pane = {kind: _by_pane(frame) for kind, frame in rows.items()}
    filled = sorted(set().union(*by_pane.values()))
    if not filled:
        return
    begins_us = filled[0] if start_us is None else -(-start_us // PANE_US) * PANE_US
    offsets = itertools.count()
    first_us = min(filled[0], begins_us)
    is_applied = False
    yield _beat(first_us)
    for pane_us in looks.panes_between(first_us, filled[-1] + PANE_US, {*filled, begins_us}, first_us):
        if pane_us >= begins_us and not is_applied:
            is_applied = True
            yield _applied(spec)
        for kind, panes in by_pane.items():
            if pane_us in panes:
                yield from _batches(kind, panes[pane_us], next(offsets))
        yield _beat(pane_us + PANE_US)


def obeyed(rows: Frames) -> dict[int, int]:
    """Return how many calls that may decide name each revision as that of the command they obeyed."""
    calls = rows["calls"].filter("comparable", pl.col("assignment_revision").is_not_null())
    return dict(
        calls.group_by("assignment_revision").agg(pl.col("calls").sum()).sort("assignment_revision").rows()
    )


def as_if_assigned(rows: Frames) -> Frames:
    """Let every call that may decide count for the command in force, whatever command it obeyed.

    For a rollout that is a dry run: it judges what others assigned.
    """
    anyone = pl.when("comparable").then(pl.lit(1, pl.Int64)).alias("assignment_revision")
    return {kind: merge(frame.with_columns(anyone)) for kind, frame in rows.items()}


def _by_pane(frame: pl.DataFrame) -> dict[int, pl.DataFrame]:
    return {int(pane_us): part for (pane_us,), part in frame.partition_by("pane_us", as_dict=True).items()}


def _batches(kind: str, rows: pl.DataFrame, offset: int) -> Iterator[Any]:
    range_ = Range(
        topic=_TOPICS[kind], topic_id=_TOPICS[kind], partition=0, lo=offset, hi=offset, messages=[],
        redo=False, epoch=1,
    )  # fmt: skip
    numbered = Shrunk(kind, rows.with_columns(pl.lit(0, pl.UInt32).alias(RANGE)))
    return (codec.decode(entry.value) for entry in journal.pack([range_], numbered, 1))


def _applied(spec: Rollout) -> JournalRollout:
    record = codec.encode(spec)
    return JournalRollout(
        topic_id=ROLLOUTS, topic=ROLLOUTS, partition=0, lo=0, hi=0, part=0, parts=1, digest=0, record=record
    )


def _beat(watermark_us: int) -> Heartbeat:
    calls = SourceProgress(topic_id=CALLS, topic=CALLS, partition=0, next_offset=0, watermark=watermark_us)
    return Heartbeat(worker="backtest", epoch=1, sources=[calls], partition_count=1, ts=watermark_us)
