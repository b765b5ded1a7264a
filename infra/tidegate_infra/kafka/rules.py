"""What a readable event must hold to count: one rule book, so that all readers count the same events."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from tidegate.limits import (
    COUNTS,
    DURATIONS,
    LATEST_US,
    LEAST_SHARE,
    LONGEST_NAME_BYTES,
    LONGEST_US,
    MOST,
    NAMES,
    THUMBS,
)

REASONS = (
    "missing_field",
    "oversized_field",
    "negative_duration",
    "negative_count",
    "implausible",
    "key_mismatch",
)
"""Why a readable event is refused; a closed list, since it becomes a metric label."""


class Rule(NamedTuple):
    """A condition under which an event is refused."""

    reason: str
    field: str
    broken: pl.Expr
    """Null where it does not apply."""
    value: pl.Expr


def columns(record: str) -> tuple[str, ...]:
    """Fields that the rules of a record read."""
    return _FIELDS.get(record, ())


def violations(frame: pl.DataFrame, record: str) -> pl.DataFrame:
    """Return the first broken rule of each row that breaks one: `_row`, `reason`, `detail`."""
    rules = _rules(record)
    if not rules or not frame.height:
        return NONE
    broken = frame.select(pl.any_horizontal(rule.broken for rule in rules).fill_null(value=False)).to_series()
    if not broken.any():
        return NONE
    reason, detail = (
        pl.coalesce(pl.when(rule.broken).then(each(rule)) for rule in rules) for each in (_reason, _detail)
    )
    # In one chunk: behind an empty one, `pl.format` panics on two or three rows (Polars 2.1).
    rows = frame.filter(broken).rechunk()
    return rows.select("_row", reason.alias("reason"), detail.alias("detail"))


NONE = pl.DataFrame(schema={"_row": pl.Int64, "reason": pl.String, "detail": pl.String})


def _reason(rule: Rule) -> pl.Expr:
    return pl.lit(rule.reason)


def _detail(rule: Rule) -> pl.Expr:
    return pl.format(f"{rule.field} is {{}}", rule.value.cast(pl.String).fill_null("null"))


def _named(field: str, value: pl.Expr | None = None) -> Iterator[Rule]:
    """Rules of a string that becomes part of a series or an identity."""
    text = pl.col(field) if value is None else value
    if field.rpartition(".")[2] not in _OPTIONAL_NAMES:
        yield Rule("missing_field", field, text == "", pl.lit("empty"))
    too_long = text.str.len_bytes() > LONGEST_NAME_BYTES
    yield Rule("oversized_field", field, too_long, text.str.head(40) + pl.lit("..."))


def _within(reason: str, field: str, value: pl.Expr, most: int) -> Iterator[Rule]:
    yield Rule(reason, field, value < 0, value)
    yield Rule("implausible", field, value > most, value)


def _share(field: str) -> Rule:
    return Rule("implausible", field, ~((pl.col(field) >= LEAST_SHARE) & (pl.col(field) <= 1)), pl.col(field))


def _number(field: str) -> Rule:
    return Rule("implausible", field, ~(pl.col(field).abs() <= MOST), pl.col(field))


_OPTIONAL_NAMES = frozenset({"prompt_name", "prompt_version"})
_CALL = (
    *NAMES["LLMCall"], "event_id", "ts_start", "ts_end", *DURATIONS["LLMCall"], *COUNTS["LLMCall"],
    "attempt", "retrieval", "sample_rate",
)  # fmt: skip
_RATING = ("event_id", "ts", "tenant", "name", "value", "series")
_FIELDS = {"LLMCall": _CALL, "Feedback": (*_RATING, "kind"), "Evaluation": (*_RATING, "sample_rate")}


@functools.cache
def _rules(record: str) -> list[Rule]:
    match record:
        case "LLMCall":
            return list(_call_rules())
        case "Feedback" | "Evaluation":
            return list(_rating_rules(record))
    return []


def _call_rules() -> Iterator[Rule]:
    for field in ("event_id", *NAMES["LLMCall"]):
        yield from _named(field)
    yield Rule("implausible", "ts_start", pl.col("ts_start") < 0, pl.col("ts_start"))
    yield Rule("implausible", "ts_end", pl.col("ts_end") > LATEST_US, pl.col("ts_end"))
    duration = pl.col("ts_end") - pl.col("ts_start")
    yield from _within("negative_duration", "ts_end - ts_start", duration, LONGEST_US)
    for field in DURATIONS["LLMCall"]:
        yield from _within("negative_duration", field, pl.col(field), LONGEST_US)
    retrieval = pl.col("retrieval").struct.field("duration_us")
    yield from _within("negative_duration", "retrieval.duration_us", retrieval, LONGEST_US)
    for field in COUNTS["LLMCall"]:
        yield from _within("negative_count", field, pl.col(field), MOST)
    yield Rule("implausible", "attempt", pl.col("attempt") < 1, pl.col("attempt"))
    yield _share("sample_rate")


def _rating_rules(record: str) -> Iterator[Rule]:
    for field in ("event_id", *NAMES[record]):
        yield from _named(field)
    for field in NAMES["Series"]:
        yield from _named(f"series.{field}", pl.col("series").struct.field(field))
    yield Rule("implausible", "ts", ~pl.col("ts").is_between(0, LATEST_US), pl.col("ts"))
    yield _number("value")
    if record == "Feedback":
        is_thumb = pl.any_horizontal(pl.col("value") == thumb for thumb in THUMBS)
        yield Rule("implausible", "value", (pl.col("kind") == "thumbs") & ~is_thumb, pl.col("value"))
    if record == "Evaluation":
        yield _share("sample_rate")
