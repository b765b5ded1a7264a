"""Tables that others wrote to the contract's columns, and every row that is no event with its reason."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from tidegate import records, versions
from tidegate.client.rules import TIMES
from tidegate.errors import ConfigError
from tidegate.vocabulary import CLOSED, OTHER
from tidegate_infra.kafka import blocks, evolution, rules
from tidegate_streams.aggregate import columns, ratings

ROW = "_row"
"""Column with the number of a row in its source, which names its place."""

COLUMNS = {
    "LLMCall": columns.CALL_COLUMNS,
    "Feedback": ratings.FEEDBACK_COLUMNS,
    "Evaluation": ratings.EVALUATION_COLUMNS,
}
"""Record -> the fields that stage 1 reads of it."""

RECORDS = {record.__name__: record for record in records.RECORDS.values()}
"""Name of a record -> its class."""

_RFC_3339 = "%Y-%m-%dT%H:%M:%S%.f%#z"


def fields(record: str) -> list[str]:
    """Fields of a record that count, or that a rule of the contract reads."""
    target = [] if record == "LLMCall" else ["target_event_id"]
    return list(dict.fromkeys(["event_id", *target, *COLUMNS[record], *rules.columns(record)]))


def fit(
    table: pl.DataFrame, record: str, stand_ins: Mapping[str, str], *, strict: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a table as events.

    Parameters
    ----------
    table
        `_row`, and columns with the names of the record's fields, in whatever types its writer chose: times
        are microseconds, timestamps or RFC 3339. Other columns are passed over.
    record
        Its name in the contract.
    stand_ins
        Field -> value of rows that have none.
    strict
        Refuse values outside the closed lists, which in a file are mistakes; otherwise they are `other`.

    Returns
    -------
    tuple
        The events with `_row` and `fields(record)`; and the refused rows: `_row`, `reason`, `detail`.

    Raises
    ------
    ConfigError
        A column is missing that every event must have, or holds something else altogether.
    """
    version = versions.latest(RECORDS[record])
    wanted = fields(record)
    schema = blocks.schema_of(version, wanted)
    known = {field["name"]: field for field in version.source["fields"]}
    table = _completed(table, record, stand_ins)
    check_there(table.columns, record, stand_ins)
    rows = table.get_column(ROW)
    fitted, refused = [rows], [rules.NONE]
    for name in wanted:
        column = _column(table, name, schema[name])
        if name in table.columns:
            written = table.get_column(name)
            gone = _is_value(written) & column.is_null()
            refused.append(_refused(rows, gone, f"{name} is no {_named(schema[name])}", written))
        default = stand_ins.get(name, known[name].get("default"))
        if default is not None:
            column = column.fill_null(pl.lit(default, dtype=schema[name]))
        elif "default" not in known[name]:
            refused.append(_refused(rows, column.is_null(), f"{name} is missing", reason="missing_field"))
        if strict and name in CLOSED[record]:
            strange = ~column.is_in([*CLOSED[record][name], OTHER])
            refused.append(
                _refused(rows, strange, f"{name} is none of {', '.join(CLOSED[record][name])}", column)
            )
        fitted.append(column.alias(name))
    events = evolution.closed(pl.DataFrame(fitted), record)
    broken = pl.concat([*refused, rules.violations(events, record)])
    if broken.height:
        broken = broken.unique(ROW, keep="first", maintain_order=True)
        events = events.join(broken, on=ROW, how="anti", maintain_order="left")
    return events, broken


def _completed(table: pl.DataFrame, record: str, stand_ins: Mapping[str, str]) -> pl.DataFrame:
    """Fill in what a client would have."""
    has = table.columns
    if record == "LLMCall":
        names = [pl.col(name).cast(pl.String) for name in ("deployment", "app") if name in has]
        routed = pl.coalesce(*names, pl.lit(stand_ins.get("app"), pl.String))
        return table.with_columns(routed.alias("deployment"))
    if record == "Feedback" and {"kind", "value"} <= set(has):
        kind, value = pl.col("kind").cast(pl.String), pl.col("value").cast(pl.Float64, strict=False)
        told = [pl.col("positive")] if "positive" in has else []
        stars = (kind == "stars") & ((value >= 4) | (value <= 2))
        good = pl.when(kind == "thumbs").then(value > 0).when(stars).then(value >= 4)
        return table.with_columns(pl.coalesce(*told, good).alias("positive"))
    return table


def check_there(names: Sequence[str], record: str, stand_ins: Mapping[str, str]) -> None:
    """Check that a table with these columns can hold a record.

    Raises
    ------
    ConfigError
        A column is missing that every event must have.
    """
    known = {field["name"]: field for field in versions.latest(RECORDS[record]).source["fields"]}
    own = {*names, *stand_ins, "deployment", "event_id"}
    missing = [name for name in fields(record) if "default" not in known[name] and name not in own]
    if not missing:
        return
    near = {name: difflib.get_close_matches(name, names, 1) for name in missing}
    said = [f"{name} (is {near[name][0]} meant?)" if near[name] else name for name in missing]
    raise ConfigError(
        f"there is no column {', '.join(said)}, and every {record} has one: "
        f"`tidegate schema explain {record}` tells what it holds"
    )


def _column(table: pl.DataFrame, name: str, want: Any) -> pl.Series:
    """Return a column in the contract's type, null where it holds no such value."""
    if name not in table.columns:
        return pl.repeat(None, table.height, dtype=want, eager=True)
    have = table.schema[name]
    value = pl.col(name)
    if have == pl.String and name in TIMES:
        value = value.str.to_datetime(_RFC_3339, time_unit="us", time_zone="UTC", strict=False)
        have = pl.Datetime("us", "UTC")
    try:
        return table.select(_read(value, have, want)).to_series()
    except PolarsError as error:
        raise ConfigError(f"column {name} holds {have}, which is no {_named(want)}: {error}") from None


def _read(value: pl.Expr, have: Any, want: Any) -> pl.Expr:
    if have == want:
        return value
    if isinstance(want, pl.List) and isinstance(have, pl.List):
        return value.list.eval(_read(pl.element(), have.inner, want.inner))
    if isinstance(want, pl.Struct) and isinstance(have, pl.Struct):
        old = {field.name: field.dtype for field in have.fields}
        parts = (
            _read(value.struct.field(field.name), old[field.name], field.dtype)
            if field.name in old
            else pl.lit(None, dtype=field.dtype)
            for field in want.fields
        )
        named = [part.alias(field.name) for part, field in zip(parts, want.fields, strict=True)]
        return pl.when(value.is_not_null()).then(pl.struct(named))
    if isinstance(have, pl.Datetime):
        return value.dt.cast_time_unit("us").cast(pl.Int64)
    if have.is_float() and want.is_integer():
        # What Python writes of whole numbers when some are unknown.
        return pl.when(value == value.round()).then(value).cast(want, strict=False)
    return value.cast(want, strict=False)


def _is_value(written: pl.Series) -> pl.Series:
    there = written.is_not_null()
    return there & written.is_not_nan().fill_null(value=False) if written.dtype.is_float() else there


def _named(dtype: Any) -> str:
    return {pl.Int64: "whole number", pl.Float64: "number", pl.String: "text", pl.Boolean: "truth value"}.get(
        dtype, "list of the contract"
    )


def _refused(
    rows: pl.Series,
    which: pl.Series,
    what: str,
    values: pl.Series | None = None,
    reason: str = "invalid_field",
) -> pl.DataFrame:
    if not which.any():
        return rules.NONE
    hit = which.fill_null(value=False)
    found = pl.DataFrame({ROW: rows.filter(hit)}).with_columns(pl.lit(reason).alias("reason"))
    if values is None or values.dtype.is_nested():
        return found.with_columns(pl.lit(what).alias("detail"))
    shown = values.filter(hit).cast(pl.String).str.head(40).fill_null("null")
    return found.with_columns((pl.lit(f"{what}: ") + shown).alias("detail"))
