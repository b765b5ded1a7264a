"""The columns of WindowMetrics: what formed windows say, in the units that people read.

What is not known is null: a cost when nothing was priced, users when nobody named them.
"""

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import polars as pl
import xxhash

from tidegate.series import DIMENSIONS
from tidegate_streams import commonest, partials
from tidegate_streams.histogram import GAMMA, representative
from tidegate_streams.partials import CALL_SUMS, LISTS
from tidegate_streams.rollups import SERIES_COLUMNS, Frames
from tidegate_streams.users import estimate
from tidegate_streams.windows import PHASES

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

TOP_ERROR_TYPES = 10

_KEY = [*SERIES_COLUMNS, "window", "window_start", "window_end", "phase"]
_MONEY = pl.Decimal(38, 9)
_NANO = pl.lit(Decimal("0.000000001"))
_TIME = pl.Datetime("us", "UTC")
_COUNTS = [name for name in CALL_SUMS if name not in ("weighted_calls_micro", "cost_usd_nano")]
_EMPTY_LISTS = {name: partials.SCHEMAS["calls"][name] for name in LISTS}
_RATINGS = {"feedback": ("positive", "negative"), "evaluations": ("errors", "passed", "failed")}


def table(formed: Frames, offset: int, watermark_us: int | None) -> pl.DataFrame:
    """Formed windows as rows of WindowMetrics.

    Parameters
    ----------
    formed
        What `windows.form` returned.
    offset
        Offset of the journal message that caused it; with the phase it makes the version.
    watermark_us
        Watermark at that message.

    Returns
    -------
    polars.DataFrame
        Full upserts, in the order of their keys.
    """
    formed = commonest.few(formed)
    keys = pl.concat([rows.select(_KEY) for rows in formed.values()]).unique().sort(_KEY)
    rows = keys.join(formed["calls"], on=_KEY, how="left", maintain_order="left").with_columns(
        pl.col(*CALL_SUMS, *partials.WINDOW_SUMS).fill_null(0),
        *(pl.col(name).fill_null(pl.lit([], dtype=dtype)) for name, dtype in _EMPTY_LISTS.items()),
    )
    for kind in _RATINGS:
        rows = rows.join(_ratings(kind, formed[kind]), on=_KEY, how="left", maintain_order="left")
    ranks = {name: rank for rank, name in enumerate(PHASES)}
    phase = pl.col("phase").replace_strict(ranks, return_dtype=pl.Int64)
    return rows.select(
        "rollup",
        pl.Series("series_id", series_ids(keys), dtype=pl.Int64),
        *DIMENSIONS,
        "window",
        pl.col("window_start", "window_end").cast(_TIME),
        (phase + 4 * offset).alias("version"),
        "phase",
        pl.lit(watermark_us, dtype=pl.Int64).cast(_TIME).alias("watermark"),
        "calls",
        pl.col("comparable_calls").alias("comparable"),
        *(name for name in _COUNTS if name not in ("calls", "clamped")),
        "late",
        "clamped",
        (pl.col("weighted_calls_micro") / 1e6).alias("weighted_calls"),
        pl.when(pl.col("priced") > 0).then(pl.col("cost_usd_nano").cast(_MONEY) * _NANO).alias("cost_usd"),
        _users(rows.get_column("users")),
        "guardrails",
        *(pl.col(kind).fill_null(pl.lit([], dtype=pl.List(_rating_type(kind)))) for kind in _RATINGS),
        _top_errors(rows.get_column("error_types")),
        _distributions(rows.get_column("distributions")),
    )


def batches(rows: pl.DataFrame, limit: int) -> Iterator[bytes]:
    """Rows as Arrow IPC streams of at most so many bytes each, unless a single row is longer."""
    data = partials.pack(rows)
    if len(data) <= limit or rows.height <= 1:
        yield data
        return
    half = rows.height // 2
    yield from batches(rows[:half], limit)
    yield from batches(rows[half:], limit)


def series_ids(keys: pl.DataFrame) -> list[int]:
    """Id of each row's series: xxh64 of the roll-up and its dimensions, joined by zero bytes, as int64.

    In ClickHouse: ``reinterpretAsInt64(xxHash64(arrayStringConcat([rollup, tenant, ...], char(0))))``.
    """
    known: dict[tuple[str, ...], int] = {}
    ids = []
    for series in keys.select(SERIES_COLUMNS).iter_rows():
        if series not in known:
            digest = xxhash.xxh64_intdigest("\0".join(series).encode())
            known[series] = digest - (1 << 64) if digest >> 63 else digest
        ids.append(known[series])
    return ids


def _rating_type(kind: str) -> pl.Struct:
    counts = dict.fromkeys(("n", *_RATINGS[kind], "valued"), pl.Int64)
    return pl.Struct({"name": pl.String, **counts, "sum": pl.Float64, "sumsq": pl.Float64})


def _ratings(kind: str, rows: pl.DataFrame) -> pl.DataFrame:
    entry = pl.struct(
        "name",
        "n",
        *_RATINGS[kind],
        "valued",
        (pl.col("value_sum_micro") / 1e6).alias("sum"),
        (pl.col("value_sumsq_micro").cast(pl.Float64) / 1e12).alias("sumsq"),
    )
    return rows.sort(*_KEY, "name").group_by(_KEY, maintain_order=True).agg(entry.alias(kind))


def _users(sketches: pl.Series) -> pl.Series:
    ranks = [sketch.struct.field("rank").to_numpy() if len(sketch) else None for sketch in sketches]
    users = [None if touched is None else estimate(touched) for touched in ranks]
    return pl.Series("users_estimate", users, dtype=pl.Int64)


def _top_errors(lists: pl.Series) -> pl.Series:
    entries = _entries(lists)
    if entries.is_empty():
        return lists
    top = (
        entries.sort("_row", "n", "type", descending=[False, True, False])
        .group_by("_row", maintain_order=True)
        .agg(pl.struct(pl.exclude("_row")).head(TOP_ERROR_TYPES).alias(lists.name))
    )
    return _relist(lists, top, lists.dtype)


def _distributions(lists: pl.Series) -> pl.Series:
    fields: dict[str, pl.DataType] = {"metric": pl.String(), "n": pl.Int64(), "sum": _MONEY}
    fields |= dict.fromkeys(("sumsq", "min", "max", *QUANTILES, "gamma"), pl.Float64())
    fields |= {"zeros": pl.Int64(), "index": pl.List(pl.Int32), "counts": pl.List(pl.Int64)}
    dtype = pl.List(pl.Struct(fields))
    entries = _entries(lists)
    if entries.is_empty():
        return pl.Series(lists.name, [[]] * len(lists), dtype=dtype)
    in_nano = pl.col("metric") == "cost_usd"
    scale = pl.when(in_nano).then(1e-9).otherwise(1.0)
    entries = entries.with_columns(
        pl.when(in_nano).then(pl.col("sum").cast(_MONEY) * _NANO).otherwise(pl.col("sum").cast(_MONEY)),
        pl.col("sumsq").cast(pl.Float64) * scale * scale,
        pl.col("min", "max").cast(pl.Float64) * scale,
        *(pl.Series(name, values) * scale for name, values in _quantiles(entries).items()),
        pl.lit(GAMMA).alias("gamma"),
        pl.col("index").cast(pl.List(pl.Int32)),
    )
    entry = pl.struct(pl.col(name).cast(kind) for name, kind in fields.items())
    return _relist(lists, entries.group_by("_row", maintain_order=True).agg(entry.alias(lists.name)), dtype)


def _quantiles(entries: pl.DataFrame) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Quantiles of all histograms at once: one search in the counts added up over all of them."""
    index = entries.get_column("index").explode().drop_nulls().to_numpy()
    added = np.cumsum(entries.get_column("counts").explode().drop_nulls().to_numpy())
    n, zeros, least, most = (
        entries.get_column(name).to_numpy().astype(np.int64) for name in ("n", "zeros", "min", "max")
    )
    before = np.cumsum(n - zeros) - (n - zeros)
    quantiles = {}
    for name, q in QUANTILES.items():
        rank = np.clip(np.ceil(q * n).astype(np.int64), 1, n)
        estimates = np.zeros(len(n))
        positive = rank > zeros
        place = np.searchsorted(added, (before + rank - zeros)[positive], side="left")
        estimates[positive] = representative(index[place].astype(np.int64))
        quantiles[name] = np.clip(estimates, least, most)
    return quantiles


def _entries(lists: pl.Series) -> pl.DataFrame:
    return (
        lists.to_frame().with_row_index("_row").explode(lists.name).drop_nulls(lists.name).unnest(lists.name)
    )


def _relist(lists: pl.Series, grouped: pl.DataFrame, dtype: pl.DataType) -> pl.Series:
    rows = pl.DataFrame({"_row": np.arange(len(lists), dtype=np.uint32)})
    joined = rows.join(grouped, on="_row", how="left", maintain_order="left").get_column(lists.name)
    return joined.cast(dtype).fill_null(pl.Series([[]], dtype=dtype))
