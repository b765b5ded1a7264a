"""Decoded events to partials: the arithmetic of stage 1, on whole columns and without a clock."""

import numpy as np
import polars as pl

from tidegate.series import DIMENSIONS, comparable
from tidegate.topics import CLAMP_US
from tidegate.vocabulary import OTHER
from tidegate_infra import prices
from tidegate_infra.prices import PriceBook
from tidegate_streams import partials, users
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk
from tidegate_streams.histogram import bucket
from tidegate_streams.partials import PANE_US

CALL_COLUMNS = tuple(
    dict.fromkeys(
        (
            "ts_start",
            *prices.COLUMNS,
            *DIMENSIONS,
            "ttft_us",
            "user_hash",
            "assignment_hash",
            "assignment_reason",
            "assignment_revision",
            "attempt",
            "head_sampled",
            "sample_rate",
            "error_type",
            "outcome",
            "guardrails",
            "retrieval",
            "input_chars",
            "output_chars",
        )
    )
)
"""Fields of a call that stage 1 reads."""

LONGEST_TYPE = 128
"""Characters of an error's type that are kept."""

MOST_NAMES = 200
"""Most error types, and most guardrails, of one series in one range; the rest is counted as `other`."""

_STATUSES = ("ok", "error", "timeout", "cancelled", "rate_limited", "filtered", OTHER)
_OUTCOMES = ("answered", "abstained", "refused", "empty")
_MICRO = 1_000_000
_BY_HASH = ("split", "static")
"""Reasons of an assignment by which the unit was hashed, whether variants were compared or one served all."""

# Far from the bits that assign variants, whether those are the lowest or the highest.
_AA_BIT = 32


def calls(frame: pl.DataFrame, append_us: pl.Series, book: PriceBook) -> Shrunk:
    """Shrink calls.

    Parameters
    ----------
    frame
        Valid calls with `CALL_COLUMNS` and `_range`, without duplicates.
    append_us
        When the broker got each, in microseconds since the epoch.
    book
        Prices in force.
    """
    if not frame.height:
        return Shrunk(
            "calls", partials.empty("calls").insert_column(0, pl.Series(RANGE, [], dtype=pl.UInt32))
        )
    allowed = append_us + CLAMP_US
    rows = (
        book.price(frame)
        .with_columns(_clamped=pl.col("ts_end") > allowed, _time=pl.min_horizontal("ts_end", allowed))
        .select(RANGE, *_key(), *_sums(), *_values(), "user_hash", "error_type", "status", "guardrails")
    )
    keys = [RANGE, *partials.SERIES_KEY]
    groups, group = partials.number(rows, keys, [pl.col(name).sum() for name in partials.CALL_SUMS])
    rows = rows.with_columns(group)
    entries = {
        "guardrails": _guardrails(rows),
        "error_types": _error_types(rows),
        "users": _users(rows),
        **_distributions(rows),
    }
    return Shrunk(
        "calls",
        partials.with_lists(groups, entries).select(RANGE, *partials.SCHEMAS["calls"]),
        latest(rows),
    )


def latest(rows: pl.DataFrame) -> dict[int, int]:
    """Return the latest event time of each range."""
    return dict(rows.group_by(RANGE).agg(pl.col("_time").max()).iter_rows())


def _key() -> list[pl.Expr]:
    split = pl.col("assignment_reason") == "split"
    return [
        pl.col("tenant").alias("shard"),
        pane(),
        *(pl.col(name).fill_null("") for name in DIMENSIONS),
        comparable(
            pl.col("traffic"),
            pl.col("assignment_reason").fill_null(""),
            pl.col("attempt"),
            pl.col("cache_hit"),
            pl.col("head_sampled"),
        ).alias("comparable"),
        pl.when(split).then("assignment_revision").alias("assignment_revision"),
        pl.when(pl.col("assignment_reason").is_in(_BY_HASH)).then(aa(pl.col("assignment_hash"))).alias("aa"),
    ]


def pane() -> pl.Expr:
    """Return the start of the pane of event time `_time`."""
    return (pl.col("_time") // PANE_US * PANE_US).alias("pane_us")


def aa(assignment_hash: pl.Expr) -> pl.Expr:
    """Return which half of an A/A comparison a unit is in."""
    return (assignment_hash // (1 << _AA_BIT)) % 2 == 1


def _sums() -> list[pl.Expr]:
    leaf = pl.col("is_leaf")
    unreported = pl.col("input_tokens").is_null() | (
        pl.col("output_tokens").is_null() & (pl.col("operation") != "embeddings")
    )
    sums = {
        "calls": pl.lit(1),
        **{f"status_{status}": pl.col("status") == status for status in _STATUSES},
        "cache_hits": pl.col("cache_hit"),
        "retries": pl.col("attempt") > 1,
        **{f"outcome_{outcome}": pl.col("outcome") == outcome for outcome in _OUTCOMES},
        # A wrapper's tokens are those of the calls inside it.
        **{name: pl.when(leaf).then(name) for name in _TOKENS},
        "tokens_unreported": leaf & ~pl.col("cache_hit") & (pl.col("status") == "ok") & unreported,
        "priced": pl.col("cost_status") == "priced",
        "unpriced": pl.col("cost_status") == "unpriced",
        "clamped": pl.col("_clamped"),
        "weighted_calls_micro": (_MICRO / pl.col("sample_rate")).round(),
        "cost_usd_nano": pl.col("cost_usd_nano"),
    }
    return [sums[name].cast(pl.Int64).alias(name) for name in partials.CALL_SUMS]


_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def _values() -> list[pl.Expr]:
    """Return what goes into distributions, null where a call has no such value."""
    latency = pl.col("ts_end") - pl.col("ts_start")
    leaf, output = pl.col("is_leaf"), pl.col("output_tokens")
    rest = latency - pl.col("ttft_us")
    values = {
        "latency_us": latency,
        "ttft_us": pl.col("ttft_us"),
        "tpot_us": pl.when((output > 1) & (rest >= 0)).then(rest // (output - 1)),
        "retrieval_us": pl.col("retrieval").struct.field("duration_us"),
        "cost_usd": pl.when(pl.col("cost_status") == "priced").then("cost_usd_nano"),
        "input_tokens": pl.when(leaf).then("input_tokens"),
        "output_tokens": pl.when(leaf).then(output),
        "input_chars": pl.when(leaf).then("input_chars"),
        "output_chars": pl.when(leaf).then("output_chars"),
    }
    return [pl.col("_time"), *(values[name].alias(f"_{name}") for name in partials.DISTRIBUTIONS)]


def _distributions(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    statistics, buckets = [], []
    for metric in partials.DISTRIBUTIONS:
        values = rows.select("_group", value=f"_{metric}").drop_nulls("value")
        if not values.height:
            continue
        value = pl.col("value")
        square = value.cast(pl.Int128) * value.cast(pl.Int128)
        statistics.append(
            values.group_by("_group").agg(
                pl.len().cast(pl.Int64).alias("n"),
                value.sum().alias("sum"),
                square.sum().cast(partials.EXACT).alias("sumsq"),
                value.min().alias("min"),
                value.max().alias("max"),
                (value == 0).sum().cast(pl.Int64).alias("zeros"),
            ).with_columns(pl.lit(metric).alias("metric"))
        )  # fmt: skip
        positive = values.filter(value > 0)
        positive = positive.with_columns(index=pl.Series(bucket(positive.get_column("value").to_numpy())))
        code = pl.lit(partials.METRIC_CODES[metric], dtype=pl.Int64)
        buckets.append(_counted(positive.select(partials.bucket_key(code)).to_series().sort()))
    return {"distributions": pl.concat(statistics), "buckets": pl.concat(buckets).sort("_key")}


def _counted(keys: pl.Series) -> pl.DataFrame:
    """Return how often each of some sorted keys occurs."""
    sorted_keys = keys.to_numpy()
    first = np.flatnonzero(np.diff(sorted_keys, prepend=-1))
    return pl.DataFrame({"_key": sorted_keys[first], "counts": np.diff(first, append=len(sorted_keys))})


def _users(rows: pl.DataFrame) -> pl.DataFrame:
    known = rows.filter(pl.col("user_hash").is_not_null())
    scoped = known.select(pl.concat_str("tenant", "user_hash", separator="\0").cast(pl.Binary)).to_series()
    register, rank = users.registers(users.hash_users(scoped.to_list()))
    return known.select("_group", pl.Series("register", register), pl.Series("rank", rank))


def _error_types(rows: pl.DataFrame) -> pl.DataFrame:
    failed = rows.filter((pl.col("status") != "ok") & pl.col("error_type").is_not_null())
    counted = failed.group_by("_group", type=pl.col("error_type").str.head(LONGEST_TYPE)).agg(
        pl.len().cast(pl.Int64).alias("n")
    )
    return _few(counted, ["type"], "n")


def _guardrails(rows: pl.DataFrame) -> pl.DataFrame:
    ran = (
        rows.select("_group", "guardrails")
        .filter(pl.col("guardrails").list.len() > 0)
        .explode("guardrails")
        .unnest("guardrails")
        .select(
            "_group",
            pl.col("name").str.head(LONGEST_TYPE),
            "stage",
            checked=pl.col("triggered").is_not_null().cast(pl.Int64),
            triggered=pl.col("triggered").fill_null(value=False).cast(pl.Int64),
            blocked=(pl.col("action") == "block").cast(pl.Int64),
        )
    )
    counted = ran.group_by("_group", "name", "stage").agg(pl.col("checked", "triggered", "blocked").sum())
    return _few(counted, ["name", "stage"], "checked")


def _few(counted: pl.DataFrame, names: list[str], most_by: str) -> pl.DataFrame:
    """Keep the commonest names of each group; a bug that makes up names must not fill the journal."""
    if counted.group_by("_group").len().filter(pl.col("len") > MOST_NAMES).is_empty():
        return counted
    place = pl.int_range(pl.len()).over("_group")
    ranked = counted.sort("_group", most_by, *names, descending=[False, True, *(False for _ in names)])
    return ranked.with_columns(
        pl.when(place < MOST_NAMES).then(pl.col(name)).otherwise(pl.lit(OTHER)).alias(name) for name in names
    )
