"""The commonest names of guardrails, ratings and errors: of those that a bug makes up there is no end.

What has a rarer name is added up under `other`, whenever rows of a finer grain become one of a coarser, and
once more in a window. So neither the state nor a message grows with the number of names.
"""

import polars as pl

from tidegate.vocabulary import OTHER
from tidegate_streams import partials
from tidegate_streams.rollups import Frames

MOST_NAMES = 200
"""Most names of each kind in a row of calls, and most rows of ratings that differ in their names only."""

_LISTS = {"guardrails": (["name", "stage"], "checked"), "error_types": (["type"], "n")}


def few(table: Frames) -> Frames:
    """Rows with the commonest names; those of one key must be one, as `rollups.merge` returns them."""
    return {kind: _calls(rows) if kind == "calls" else _ratings(rows) for kind, rows in table.items()}


def _ratings(rows: pl.DataFrame) -> pl.DataFrame:
    if rows.height <= MOST_NAMES:
        return rows
    within = [name for name in rows.columns if name not in partials.MEASURES and name != "name"]
    if rows.group_by(within).len().filter(pl.col("len") > MOST_NAMES).is_empty():
        return rows
    return partials.merge(_renamed(rows, within, ["name"], "n"))


def _calls(rows: pl.DataFrame) -> pl.DataFrame:
    entries = {}
    for column, (names, most_by) in _LISTS.items():
        lists = rows.get_column(column)
        if (lists.list.len() > MOST_NAMES).any():
            listed = lists.to_frame().with_row_index("_group").explode(column).drop_nulls(column)
            entries[column] = _renamed(listed.unnest(column), ["_group"], names, most_by)
    return partials.with_lists(rows.with_row_index("_group"), entries) if entries else rows


def _renamed(rows: pl.DataFrame, within: list[str], names: list[str], most_by: str) -> pl.DataFrame:
    is_common = pl.int_range(pl.len()).over(within) < MOST_NAMES
    ranked = rows.sort(most_by, *names, descending=[True, *(False for _ in names)])
    return ranked.with_columns(
        pl.when(is_common).then(name).otherwise(pl.lit(OTHER)).alias(name) for name in names
    )
