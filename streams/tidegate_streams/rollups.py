"""From the finest series to the roll-ups that people read, and from panes to minutes and hours.

A table of rolled-up rows is a multiset: late rows are simply appended, and rows that agree on their key are
added up when a window is formed.
"""

from collections.abc import Sequence

import polars as pl

from tidegate.series import DIMENSIONS, ROLLED_UP, ROLLUPS
from tidegate_streams import partials

Frames = dict[str, pl.DataFrame]
"""Kind (calls, feedback, evaluations) -> rows."""

KINDS = tuple(partials.SCHEMAS)

SERIES_COLUMNS = ("rollup", *DIMENSIONS)

WITH_USERS = ("release", "app")
"""Roll-ups that count distinct users: a sketch is by far the widest thing in a row."""

_USERS = partials.SCHEMAS["calls"]["users"]
_STRATUM = ("shard", "comparable", "assignment_revision", "aa", "call_us")


def _schema(kind: str) -> dict[str, pl.DataType]:
    schema = {"rollup": pl.String(), "start_us": pl.Int64()}
    columns = {name: dtype for name, dtype in partials.SCHEMAS[kind].items() if name not in _STRATUM}
    del columns["pane_us"]
    schema |= columns
    if kind == "calls":
        schema |= dict.fromkeys(partials.WINDOW_SUMS, pl.Int64())
    return schema


SCHEMAS = {kind: _schema(kind) for kind in KINDS}
"""Columns of rolled-up rows: roll-up, start of the pane, minute or hour (us), dimensions, sums."""


EMPTY: Frames = {kind: pl.DataFrame(schema=SCHEMAS[kind]) for kind in KINDS}
"""No rolled-up rows."""


def concat(tables: Sequence[Frames]) -> Frames:
    """All rows of several tables, at least one."""
    return {kind: _concat([table[kind] for table in tables if kind in table]) for kind in KINDS}


def _concat(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    held = [table for table in tables if table.height]
    if len(held) > 1:
        return pl.concat(held)
    return held[0] if held else tables[0]


def merge(table: Frames) -> Frames:
    """Add up rows that agree on their key."""
    return {kind: partials.merge(rows) if rows.height > 1 else rows for kind, rows in table.items()}


def roll_up(frames: Frames) -> Frames:
    """Rows of the finest series as rows of every roll-up, one a (roll-up, pane, dimensions)."""
    return merge(
        {
            kind: pl.concat([rows.select(columns) for columns in _LEVELS[kind]])
            if rows.height
            else EMPTY[kind]
            for kind, rows in frames.items()
        }
    )


def _series_of(rollup: str) -> dict[str, pl.Expr]:
    kept = ROLLUPS[rollup]
    dimensions = {name: pl.col(name) if name in kept else pl.lit(ROLLED_UP) for name in DIMENSIONS}
    return {"rollup": pl.lit(rollup), **dimensions}


def _level(kind: str, rollup: str) -> list[pl.Expr]:
    """Columns of a roll-up, out of those of the finest series."""
    columns = _series_of(rollup) | {
        "start_us": pl.col("pane_us"),
        "comparable_calls": pl.when("comparable").then("calls").otherwise(0).cast(pl.Int64),
    }
    if rollup not in WITH_USERS:
        columns["users"] = pl.lit([], dtype=_USERS)
    return [columns.get(name, pl.col(name)).alias(name) for name in SCHEMAS[kind]]


_LEVELS = {kind: [_level(kind, rollup) for rollup in ROLLUPS] for kind in KINDS}


def where(table: Frames, condition: pl.Expr) -> Frames:
    """The rows of a table that satisfy a condition."""
    return {kind: _where(rows, condition) if rows.height else rows for kind, rows in table.items()}


def _where(rows: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    held = rows.select(condition).to_series()
    # Mostly all rows or none: then the many columns need not be copied.
    if held.all():
        return rows
    return rows.filter(held) if held.any() else rows.clear()


def split(table: Frames, at_us: int) -> tuple[Frames, Frames]:
    """The rows that start before a time, and the others."""
    return where(table, pl.col("start_us") < at_us), where(table, pl.col("start_us") >= at_us)


def coarsen(table: Frames, length_us: int) -> Frames:
    """The same rows under the start of the minute or hour that they fall in, not yet added up."""
    floor = (pl.col("start_us") // length_us) * length_us
    return {kind: rows.with_columns(floor.alias("start_us")) for kind, rows in table.items()}


def series(table: Frames) -> pl.DataFrame:
    """The distinct roll-ups and dimensions in a table."""
    return distinct(table, SERIES_COLUMNS).sort(SERIES_COLUMNS)


def distinct(table: Frames, columns: Sequence[str]) -> pl.DataFrame:
    """The distinct values of some columns in a table."""
    return _concat([rows.select(columns) for rows in table.values()]).unique()


def series_in(tables: Sequence[Frames]) -> pl.DataFrame:
    """The distinct roll-ups and dimensions that rows of the finest series add to, without adding them up."""
    dimensions = [rows.select(DIMENSIONS) for frames in tables for rows in frames.values() if rows.height]
    if not dimensions:
        return series(EMPTY)
    finest = pl.concat(dimensions).unique()
    levels = [finest.select(**_series_of(rollup)).unique() for rollup in ROLLUPS]
    return pl.concat(levels).sort(SERIES_COLUMNS)
