"""The commonest names of guardrails, ratings and errors: of those that a bug makes up there is no end.

What has a rarer name is added up under `other`, whenever rows of a finer grain become one of a coarser or
late rows make it too many, and once more in a window. So neither the state nor a message grows with the
number of names.
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


def outgrow(table: Frames) -> bool:
    """Whether the rows of a key, which may be many here, list more than `few` would keep of them."""
    return any(_outgrow(rows) for rows in table.values())


def _outgrow(rows: pl.DataFrame) -> bool:
    listed = [pl.col(column).list.len().sum() for column in _LISTS if column in rows.columns]
    most = pl.max_horizontal(listed or [pl.len()]).alias("_most")
    # Seldom are there so many in all that keys need be told apart.
    if rows.select(most).item() <= MOST_NAMES:
        return False
    return bool(rows.group_by(_within(rows)).agg(most).select(pl.col("_most").max() > MOST_NAMES).item())


def _within(rows: pl.DataFrame) -> list[str]:
    return [name for name in rows.columns if name not in partials.MEASURES and name != "name"]


def _ratings(rows: pl.DataFrame) -> pl.DataFrame:
    return partials.merge(_renamed(rows, _within(rows), ["name"], "n")) if _outgrow(rows) else rows


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
