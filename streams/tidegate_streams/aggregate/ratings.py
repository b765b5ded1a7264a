"""Feedback and evaluations to partials: counted at their own time, under the series of the call they rate."""

from typing import Any

import polars as pl

from tidegate.series import DIMENSIONS
from tidegate.topics import CLAMP_US
from tidegate_streams import partials
from tidegate_streams.aggregate.columns import aa, latest, pane
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk
from tidegate_streams.waits import call_time

_COLUMNS = ("ts", "tenant", "name", "value", "series")
FEEDBACK_COLUMNS = (*_COLUMNS, "positive", "retracted")
EVALUATION_COLUMNS = (*_COLUMNS, "status", "passed")
"""Fields that stage 1 reads."""

_MICRO = 1_000_000


def feedback(frame: pl.DataFrame, append_us: pl.Series) -> Shrunk:
    """Shrink feedback with `FEEDBACK_COLUMNS`; it counts at its own time, under the call's series."""
    given = ~pl.col("retracted")
    return _ratings(
        "feedback",
        frame,
        append_us,
        valued=given,
        sums={
            "n": given,
            "positive": given & pl.col("positive"),
            "negative": given & ~pl.col("positive"),
            "retracted": pl.col("retracted"),
        },
    )


def evaluations(frame: pl.DataFrame, append_us: pl.Series) -> Shrunk:
    """Shrink evaluations with `EVALUATION_COLUMNS`; a judge that failed says nothing of the answer."""
    done = pl.col("status") == "ok"
    return _ratings(
        "evaluations",
        frame,
        append_us,
        valued=done,
        sums={
            "n": pl.lit(1),
            "errors": pl.col("status") == "error",
            "skipped": pl.col("status") == "skipped",
            "passed": done & pl.col("passed"),
            "failed": done & ~pl.col("passed"),
        },
    )


def _ratings(
    kind: str, frame: pl.DataFrame, append_us: pl.Series, valued: pl.Expr, sums: dict[str, pl.Expr]
) -> Shrunk:
    frame = frame.with_columns(_time=pl.min_horizontal("ts", append_us + CLAMP_US))
    lonely = frame.filter(pl.col("series").is_null()).group_by(RANGE, "tenant").len()
    rows = frame.filter(pl.col("series").is_not_null())
    value = pl.when(valued).then((pl.col("value") * _MICRO).round().cast(pl.Int64))
    exact = value.cast(partials.EXACT)
    measures: dict[str, Any] = {
        **{name: summed.cast(pl.Int64) for name, summed in sums.items()},
        "valued": value.is_not_null().cast(pl.Int64),
        "value_sum_micro": value,
        "value_sumsq_micro": exact * exact,
    }
    return Shrunk(
        kind,
        partials.merge(rows.select(RANGE, *_key(), **measures)),
        latest(frame),
        {(number, tenant): n for number, tenant, n in lonely.iter_rows()},
    )


def _key() -> list[pl.Expr]:
    series = pl.col("series").struct
    revision = series.field("assignment_revision")
    return [
        pl.col("tenant").alias("shard"),
        pane(),
        pl.col("tenant"),
        *(series.field(name).fill_null("").alias(name) for name in DIMENSIONS if name != "tenant"),
        series.field("comparable"),
        revision,
        pl.when(revision.is_not_null()).then(aa(series.field("assignment_hash"))).alias("aa"),
        call_time(pl.min_horizontal(series.field("call_ts_end"), "_time"), pl.col("_time")),
        pl.col("name"),
    ]
