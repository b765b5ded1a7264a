"""What a range of events shrinks to: sums, sparse histograms and sketches, one row a (shard, pane, series).

A frame is a value of a commutative monoid. `merge` adds rows that agree on every key column, and the result
does not depend on the order of the rows, on how events were split into ranges, or on which partial merges
came first: all sums are integers, wide enough to be exact. Key columns are simply all columns that are no
measure, so a roll-up is: drop or replace dimensions, then merge.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tidegate.series import DIMENSIONS

PANE_US = 10_000_000
"""Length of a pane, the shortest window, in microseconds of event time."""

SERIES_KEY: dict[str, Any] = {
    "shard": pl.String,
    "pane_us": pl.Int64,
    **dict.fromkeys(DIMENSIONS, pl.String),
    "comparable": pl.Boolean,
    "assignment_revision": pl.Int64,
    "aa": pl.Boolean,
}
"""Shard, start of the pane (us since the epoch), series, and the stratum of a decision."""

RATING_KEY: dict[str, Any] = {"call_us": pl.Int64, "name": pl.String}
"""When the rated call ended, as exactly as decisions ask (see `waits`); null where it is too old for them."""

CALL_SUMS = (
    "calls",
    "status_ok",
    "status_error",
    "status_timeout",
    "status_cancelled",
    "status_rate_limited",
    "status_filtered",
    "status_other",
    "cache_hits",
    "retries",
    "outcome_answered",
    "outcome_abstained",
    "outcome_refused",
    "outcome_empty",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "tokens_unreported",
    "priced",
    "unpriced",
    "clamped",
    "weighted_calls_micro",
    "cost_usd_nano",
)

DISTRIBUTIONS = (
    "latency_us",
    "ttft_us",
    "tpot_us",
    "retrieval_us",
    "cost_usd",
    "input_tokens",
    "output_tokens",
    "input_chars",
    "output_chars",
)
"""Metrics with a histogram; `cost_usd` counts nano-dollars, so that every value is a whole number."""

EXACT = pl.Decimal(38, 0)
"""Sums of squares: beyond int64, and yet exact. Arrow carries decimals everywhere, 128-bit integers it does
not."""

# A list column is a sub-frame: its own key, and how each of its values merges.
_SUM, _MIN, _MAX = pl.Expr.sum, pl.Expr.min, pl.Expr.max
_LISTS: dict[str, tuple[dict[str, Any], dict[str, tuple[Any, Any]]]] = {
    "guardrails": (
        {"name": pl.String, "stage": pl.String},
        {"checked": (pl.Int64, _SUM), "triggered": (pl.Int64, _SUM), "blocked": (pl.Int64, _SUM)},
    ),
    "error_types": ({"type": pl.String}, {"n": (pl.Int64, _SUM)}),
    "users": ({"register": pl.Int16}, {"rank": (pl.Int8, _MAX)}),
    "distributions": (
        {"metric": pl.String},
        {
            "n": (pl.Int64, _SUM),
            "sum": (pl.Int64, _SUM),
            "sumsq": (EXACT, _SUM),
            "min": (pl.Int64, _MIN),
            "max": (pl.Int64, _MAX),
            "zeros": (pl.Int64, _SUM),
        },
    ),
}
LISTS = tuple(_LISTS)
_BUCKETS = {"index": pl.Int16, "counts": pl.Int64}


def _list_type(name: str) -> pl.List:
    keys, values = _LISTS[name]
    fields = {**keys, **{column: dtype for column, (dtype, _) in values.items()}}
    if name == "distributions":
        fields |= {column: pl.List(dtype) for column, dtype in _BUCKETS.items()}
    return pl.List(pl.Struct(fields))


VALUE_SUMS: dict[str, Any] = {"valued": pl.Int64, "value_sum_micro": pl.Int64, "value_sumsq_micro": EXACT}
"""Of ratings with a number: how many, their sum in millionths, the sum of squares in millionths squared."""

SCHEMAS: dict[str, dict[str, Any]] = {
    "calls": {
        **SERIES_KEY,
        **dict.fromkeys(CALL_SUMS, pl.Int64),
        **{name: _list_type(name) for name in LISTS},
    },
    "feedback": {
        **SERIES_KEY,
        **RATING_KEY,
        **dict.fromkeys(("n", "positive", "negative", "retracted"), pl.Int64),
        **VALUE_SUMS,
    },
    "evaluations": {
        **SERIES_KEY,
        **RATING_KEY,
        **dict.fromkeys(("n", "errors", "skipped", "passed", "failed"), pl.Int64),
        **VALUE_SUMS,
    },
}
"""Columns of each kind of frame. `n` of feedback counts ratings without the retractions."""

WINDOW_SUMS = ("comparable_calls", "late")
"""Sums that stage 2 adds to calls: those that may decide, and those that came too late to be counted."""

MEASURES = frozenset(column for schema in SCHEMAS.values() for column in schema) - {*SERIES_KEY, *RATING_KEY}
MEASURES |= frozenset(WINDOW_SUMS)


def empty(kind: str) -> pl.DataFrame:
    """A frame of this kind without rows: the neutral element of `merge`."""
    return pl.DataFrame(schema=SCHEMAS[kind])


def pack(frame: pl.DataFrame) -> bytes:
    """Arrow IPC stream of a frame; the same rows in the same order are the same bytes."""
    stream = io.BytesIO()
    frame.rechunk().write_ipc_stream(stream, compression="zstd", compat_level=pl.CompatLevel.oldest())
    return stream.getvalue()


def unpack(rows: bytes) -> pl.DataFrame:
    """The frame that `pack` wrote."""
    return pl.read_ipc_stream(io.BytesIO(rows))


def merge(frame: pl.DataFrame) -> pl.DataFrame:
    """Add up all rows that agree on every key column.

    Parameters
    ----------
    frame
        Rows of any number of partials of one kind, concatenated; dimensions may have been dropped or
        replaced, and key columns added.

    Returns
    -------
    polars.DataFrame
        One row a key, sorted by the key columns in their order, inner lists sorted by their own keys: equal
        content is equal to the byte.
    """
    keys = [column for column in frame.columns if column not in MEASURES]
    sums = [column for column in frame.columns if column in MEASURES and column not in LISTS]
    merged, group = number(frame, keys, [pl.col(*sums).sum()])
    lists = [column for column in frame.columns if column in LISTS]
    if merged.height == frame.height:
        order = group.arg_sort()
        alone = [frame.get_column(name).gather(order) for name in lists]
        return merged.with_columns(alone).select(frame.columns)
    entries = {name: _entries(frame.get_column(name), group) for name in lists}
    if "distributions" in entries and entries["distributions"].height:
        entries["buckets"] = _buckets(entries["distributions"])
    return with_lists(merged, entries).select(frame.columns)


def number(
    frame: pl.DataFrame, keys: Sequence[str], aggregates: Sequence[pl.Expr]
) -> tuple[pl.DataFrame, pl.Series]:
    """Group rows by key, sorted, numbered from 0; and the number of each row's group."""
    groups = (
        frame.with_row_index("_row")
        .group_by(keys)
        .agg(*aggregates, "_row")
        .sort(keys)
        .with_row_index("_group")
    )
    rows = groups.get_column("_row")
    group = np.empty(frame.height, dtype=np.uint32)
    group[rows.explode().drop_nulls().to_numpy()] = np.repeat(
        np.arange(groups.height, dtype=np.uint32), rows.list.len().to_numpy()
    )
    return groups.drop("_row"), pl.Series("_group", group)


def with_lists(groups: pl.DataFrame, entries: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Attach list columns to numbered groups.

    Parameters
    ----------
    groups
        Rows with `_group`, as `number` returns them.
    entries
        Per list column its entries in long form: `_group`, the columns of the entry's own key, its values.
        Entries of one key are merged here. `distributions` come with another part, `buckets`: the
        `bucket_key` and `counts`.
    """
    columns = []
    for name in LISTS:
        if name not in entries:
            continue
        if entries[name].is_empty():
            columns.append(pl.repeat([], groups.height, dtype=_list_type(name), eager=True).alias(name))
            continue
        keys, values = _LISTS[name]
        merged = (
            entries[name]
            .group_by("_group", *keys)
            .agg(reduce(pl.col(column)) for column, (_, reduce) in values.items())
            .sort("_group", *keys)
        )
        if name == "distributions":
            merged = merged.with_columns(_histograms(merged, entries["buckets"]))
        columns.append(_lists(name, merged, groups.height))
    return groups.drop("_group").with_columns(columns)


def _entries(lists: pl.Series, group: pl.Series) -> pl.DataFrame:
    """Return the entries of lists, a row each, with the group of their list."""
    entries = lists.explode().drop_nulls().struct.unnest()
    return entries.with_columns(_group=np.repeat(group.to_numpy(), lists.list.len().to_numpy()))


def _lists(name: str, entries: pl.DataFrame, n: int) -> pl.Series:
    """Return n lists of sorted entries, empty where a group has none."""
    held = entries.group_by("_group", maintain_order=True).agg(pl.struct(pl.exclude("_group")).alias(name))
    lists = held.get_column(name).cast(_list_type(name))
    return lists if held.height == n else _spread(lists, held.get_column("_group").to_numpy(), n)


def _spread(lists: pl.Series, places: npt.NDArray[np.integer[Any]], n: int) -> pl.Series:
    """Return n lists, those given in their places, the others empty."""
    at = np.full(n, len(lists))
    at[places] = np.arange(len(lists))
    return lists.append(pl.Series([[]], dtype=lists.dtype)).gather(at)


def _buckets(distributions: pl.DataFrame) -> pl.DataFrame:
    """Return the buckets of distributions, a row each."""
    place = distributions.select(_distribution_key(_METRIC_CODE)).to_series().to_numpy()
    index, counts = distributions.get_column("index"), distributions.get_column("counts")
    key = np.repeat(place, index.list.len().to_numpy()) * _INDEXES
    key += index.explode().drop_nulls().to_numpy()
    return pl.DataFrame({"_key": key, "counts": counts.explode().drop_nulls()})


def bucket_key(metric_code: pl.Expr) -> pl.Expr:
    """Return one number for `_group`, metric and `index`: quicker to group and sort by than three columns."""
    return (_distribution_key(metric_code) * _INDEXES + pl.col("index")).alias("_key")


def _distribution_key(metric_code: pl.Expr) -> pl.Expr:
    return pl.col("_group").cast(pl.Int64) * _METRICS + metric_code


METRIC_CODES = {metric: code for code, metric in enumerate(sorted(DISTRIBUTIONS))}
_METRIC_CODE = pl.col("metric").replace_strict(METRIC_CODES, return_dtype=pl.Int64)
_METRICS, _INDEXES = 16, 4_096


def _histograms(distributions: pl.DataFrame, buckets: pl.DataFrame) -> list[pl.Series]:
    """Return `index` and `counts` of distributions from their buckets."""
    key = buckets.get_column("_key").to_numpy()
    counts = buckets.get_column("counts").to_numpy()
    if not (np.diff(key) > 0).all():
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        key, counts = key[first], np.add.reduceat(counts[order], first)
    histograms = (
        pl.DataFrame({"_place": key // _INDEXES, "index": key % _INDEXES, "counts": counts})
        .cast({"index": pl.Int16})
        .group_by("_place", maintain_order=True)
        .agg("index", "counts")
    )
    places = distributions.select(_distribution_key(_METRIC_CODE)).to_series().to_numpy()
    at = np.searchsorted(places, histograms.get_column("_place").to_numpy())
    return [_spread(histograms.get_column(name), at, distributions.height) for name in _BUCKETS]
