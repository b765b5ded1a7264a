"""What a range of events shrinks to: sums, sparse histograms and sketches, one row a (shard, pane, series).

A frame is a value of a commutative monoid. `merge` adds rows that agree on every key column, and the result
does not depend on the order of the rows, on how events were split into ranges, or on which partial merges
came first: all sums are integers, wide enough to be exact. Key columns are simply all columns that are no
measure, so a roll-up is: drop or replace dimensions, then merge.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

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
        "name": pl.String,
        **dict.fromkeys(("n", "positive", "negative", "retracted"), pl.Int64),
        **VALUE_SUMS,
    },
    "evaluations": {
        **SERIES_KEY,
        "name": pl.String,
        **dict.fromkeys(("n", "errors", "skipped", "passed", "failed"), pl.Int64),
        **VALUE_SUMS,
    },
}
"""Columns of each kind of frame. `n` of feedback counts ratings without the retractions."""

WINDOW_SUMS = ("comparable_calls", "late")
"""Sums that stage 2 adds to calls: those that may decide, and those that came too late to be counted."""

MEASURES = frozenset(column for schema in SCHEMAS.values() for column in schema) - {*SERIES_KEY, "name"}
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
    lists = [column for column in frame.columns if column in LISTS]
    merged, group = number(frame, keys, [pl.col(column).sum() for column in sums])
    if lists:
        grouped = frame.select(*lists).with_columns(group)
        entries = {
            name: grouped.select("_group", name).explode(name).drop_nulls(name).unnest(name) for name in lists
        }
        if "distributions" in entries:
            entries["buckets"] = _buckets(entries["distributions"])
        merged = with_lists(merged, entries)
    return merged.select(frame.columns)


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
    rows = groups.select("_group", "_row").explode("_row").sort("_row")
    return groups.drop("_row"), rows.get_column("_group")


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
    for name in LISTS:
        if name not in entries:
            continue
        if entries[name].is_empty():
            groups = groups.with_columns(pl.lit([], dtype=_list_type(name)).alias(name))
            continue
        keys, values = _LISTS[name]
        by = ["_group", *keys]
        merged = (
            entries[name].group_by(by).agg(reduce(pl.col(column)) for column, (_, reduce) in values.items())
        )
        if name == "distributions":
            merged = merged.join(_histograms(entries["buckets"]), on=by, how="left").with_columns(
                pl.col(column).fill_null(pl.lit([], dtype=pl.List(dtype)))
                for column, dtype in _BUCKETS.items()
            )
        entry = pl.struct(pl.exclude("_group")).alias(name)
        lists = merged.sort(by).group_by("_group", maintain_order=True).agg(entry)
        lists = lists.with_columns(pl.col(name).cast(_list_type(name)))
        groups = groups.join(lists, on="_group", how="left", maintain_order="left").with_columns(
            pl.col(name).fill_null(pl.lit([], dtype=_list_type(name)))
        )
    return groups.drop("_group")


def _buckets(distributions: pl.DataFrame) -> pl.DataFrame:
    """Return the buckets of distributions, a row each."""
    return (
        distributions.select("_group", "metric", "index", "counts")
        .explode("index", "counts")
        .drop_nulls("index")
        .select(bucket_key(pl.col("metric").replace_strict(METRIC_CODES, return_dtype=pl.Int64)), "counts")
    )


def bucket_key(metric_code: pl.Expr) -> pl.Expr:
    """Return one number for `_group`, metric and `index`: quicker to group and sort by than three columns."""
    group = pl.col("_group").cast(pl.Int64)
    return ((group * _METRICS + metric_code) * _INDEXES + pl.col("index")).alias("_key")


METRIC_CODES = {metric: code for code, metric in enumerate(DISTRIBUTIONS)}
_METRICS, _INDEXES = 16, 4_096


def _histograms(buckets: pl.DataFrame) -> pl.DataFrame:
    """Return the sparse histogram of each group's metrics."""
    if not buckets.select((pl.col("_key").diff() > 0).all()).item():
        buckets = buckets.group_by("_key").agg(pl.col("counts").sum()).sort("_key")
    distribution = pl.col("_key") // _INDEXES
    return (
        buckets.select(
            (distribution // _METRICS).cast(pl.UInt32).alias("_group"),
            (distribution % _METRICS).alias("_code"),
            (pl.col("_key") % _INDEXES).cast(pl.Int16).alias("index"),
            "counts",
        )
        .group_by("_group", "_code", maintain_order=True)
        .agg("index", "counts")
        .with_columns(metric=pl.col("_code").replace_strict(_METRIC_NAMES, return_dtype=pl.String))
        .drop("_code")
    )


_METRIC_NAMES = dict(enumerate(DISTRIBUTIONS))
