"""Where rows belong by the watermark of their arrival: an open pane, the late ones, the too late."""

from collections.abc import Iterator

import polars as pl

from tidegate.errors import ContractError
from tidegate.records import Alert, PartialBatch
from tidegate_streams import alerts, partials, rollups
from tidegate_streams.panes import EMPTY, Overflow, Pool
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollups import Frames
from tidegate_streams.state import NEVER, State

_BY_OWN_TIME = {
    kind: pl.Schema({name: dtype for name, dtype in partials.SCHEMAS[kind].items() if name != "call_us"})
    for kind in ("feedback", "evaluations")
}
"""Columns from when ratings were compared by their own time: what stands in a journal from then still is."""


def unpack(batch: PartialBatch) -> Frames:
    """Return the rows of a message.

    Raises
    ------
    ContractError
        When they are not what the message says.
    """
    frames = dict(EMPTY)
    for frame in batch.frames:
        schema = partials.SCHEMAS.get(frame.kind)
        if schema is None:
            raise ContractError("invalid_field", f"a frame of kind {frame.kind!r} in a PartialBatch")
        try:
            rows = partials.unpack(frame.rows)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise ContractError("undecodable", f"{frame.kind} rows are no Arrow stream: {error}") from error
        if rows.schema == _BY_OWN_TIME.get(frame.kind):
            rows = rows.with_columns(call_us="pane_us").select(list(schema))
        if rows.schema != pl.Schema(schema):
            raise ContractError("undecodable", f"{frame.kind} rows have columns of another release")
        if frame.kind == "calls":
            rows = rows.with_columns(pl.lit(0, dtype=pl.Int64).alias("late"))
        frames[frame.kind] = rows if frames[frame.kind].is_empty() else pl.concat([frames[frame.kind], rows])
    return frames


def admit(state: State, frames: Frames) -> list[Alert]:
    """Put rows where they belong by the watermark of this moment: an open pane, the late, the too late."""
    drafts = []
    for pane_us, pane in _by_pane(frames):
        closed_us = NEVER if state.closed_us is None else state.closed_us
        if pane_us >= closed_us:
            pool = state.panes.setdefault(pane_us, Pool(state.rules.series_cap))
        elif pane_us + PANE_US + state.rules.allowed_lateness_us > closed_us:
            pool = state.late
        else:
            state.counts["too_late_calls"] += int(pane["calls"].get_column("calls").sum())
            state.counts["too_late_feedback"] += int(pane["feedback"].get_column("n").sum())
            state.counts["too_late_evaluations"] += int(pane["evaluations"].get_column("n").sum())
            pane = EMPTY | {"calls": _only_counted(pane["calls"], closed_us)}
            pool = state.panes.setdefault(closed_us, Pool(state.rules.series_cap))
        counted, overflows = pool.add(pane)
        state.arrived.append(counted)
        state.unshown.append(counted)
        drafts += [_overflowed(state, overflow, max(pane_us, closed_us)) for overflow in overflows]
    return drafts


def _by_pane(frames: Frames) -> Iterator[tuple[int, Frames]]:
    starts = sorted({start for rows in frames.values() for start in rows.get_column("pane_us").unique()})
    if len(starts) == 1:
        yield starts[0], frames
        return
    for start in starts:
        yield start, rollups.where(frames, pl.col("pane_us") == start)


def _only_counted(calls: pl.DataFrame, pane_us: int) -> pl.DataFrame:
    """Calls beyond the allowed lateness: no sum takes them in, the pane of their arrival says how many."""
    return calls.with_columns(
        pl.col("calls").alias("late"),
        *(pl.lit(0, dtype=pl.Int64).alias(name) for name in partials.CALL_SUMS),
        *(pl.lit([], dtype=calls.schema[name]).alias(name) for name in partials.LISTS),
        pl.lit(pane_us, dtype=pl.Int64).alias("pane_us"),
    )


def _overflowed(state: State, overflow: Overflow, pane_us: int) -> Alert:
    state.counts["series_overflow"] += overflow.series
    alert = alerts.series_overflow(
        overflow.shard, overflow.tenant, pane_us=pane_us, excess=overflow.series, cap=state.rules.series_cap
    )
    state.overflowed_us[alert.fingerprint] = pane_us
    return alert
