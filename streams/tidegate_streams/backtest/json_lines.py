"""JSON lines of events: whole pieces as columns where every line is in order, line by line where one is not.

What `tidegate emit` would refuse is refused here with the same words; only how quickly that is found differs.
"""

import dataclasses
import io
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import polars as pl
from polars.exceptions import PolarsError

from tidegate import intake, versions
from tidegate.client.rules import (
    AT_MOST,
    FILLED_IN,
    IDS,
    INT32,
    MAX_FLOAT,
    SHARES,
    SIGNED,
    TARGETS,
    TIMES,
    UUID,
    Event,
    Field,
    fields_of,
)
from tidegate.errors import ConfigError
from tidegate.limits import LEAST_SHARE
from tidegate.vocabulary import CLOSED, OTHER
from tidegate_infra.kafka import blocks, rules
from tidegate_streams.backtest import fitting
from tidegate_streams.backtest.fitting import ROW
from tidegate_streams.backtest.pieces import MOST_NAMED, Piece, identified

_BYTES = 32 << 20
_ALONE = 1_000
_RECORDS = {kind: record.__name__ for kind, record in intake.KINDS.items()}


class Defaults(NamedTuple):
    """What holds for lines that do not say it; see `tidegate.client.completion.Defaults`."""

    tenant: str
    app: str
    environment: str
    app_version: str | None = None


def read(file: IO[bytes], name: str, size: int, stand_ins: Mapping[str, str]) -> Iterator[Piece]:
    """Read JSON lines.

    Parameters
    ----------
    file
        A line is a call unless its ``type`` says feedback or evaluation.
    name
        What places in it are called by.
    size
        In bytes.
    stand_ins
        Field -> value of events that have none.
    """
    first, done = 1, 0
    while lines := file.readlines(_BYTES):
        done += sum(map(len, lines))
        for record, events, refused in _read(lines, first, stand_ins):
            yield Piece(record, events, refused, done / max(size, done), name)
        first += len(lines)


_Read = tuple[str, pl.DataFrame, pl.DataFrame]


def _read(lines: list[bytes], first: int, stand_ins: Mapping[str, str]) -> Iterator[_Read]:
    """Read lines at once; where that fails, halve them until few are left to be looked at one by one."""
    data, middle = b"".join(lines), len(lines) // 2
    if (columns := _as_columns(data, first, len(lines), stand_ins)) is not None:
        yield from columns
    elif len(lines) <= _ALONE:
        yield from _line_by_line(data, first, stand_ins)
    else:
        yield from _read(lines[:middle], first, stand_ins)
        yield from _read(lines[middle:], first + middle, stand_ins)


def _as_columns(data: bytes, first: int, lines: int, stand_ins: Mapping[str, str]) -> list[_Read] | None:
    """Read all lines at once; None when there is anything about them that only a look at each can tell."""
    try:
        table = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except (PolarsError, pl.exceptions.PanicException):
        return None
    if table.height != lines:
        return None
    table = table.with_row_index(ROW, first).cast({ROW: pl.Int64})
    if "type" not in table.columns:
        table = table.with_columns(pl.lit("call").alias("type"))
    elif table.schema["type"] != pl.String:
        return None
    if not _are_texts(table, data):
        return None
    read = []
    for (kind,), part in (
        table.with_columns(pl.col("type").fill_null("call"))
        .partition_by("type", as_dict=True, include_key=False)
        .items()
    ):
        part = part.select(column for column in part if column.null_count() < part.height)
        record = _RECORDS.get(str(kind))
        if record is None or not _is_in_order(part.drop(ROW), fitting.RECORDS[record]):
            return None
        try:
            events, refused = fitting.fit(identified(part), record, stand_ins)
        except ConfigError:
            return None
        if refused.height:
            return None
        read.append((record, events, refused))
    return read


def _is_in_order(table: pl.DataFrame, cls: type) -> bool:
    """Whether each line would be found to be in order alone, by the rules of `emit`."""
    known = {field.name: field for field in fields_of(cls)}
    needed = (field.name for field in known.values() if field.required and field.name not in FILLED_IN)
    return (
        all(name in table.columns and not table.get_column(name).null_count() for name in needed)
        and all(name in known and _holds(table.get_column(name), known[name]) for name in table.columns)
        and all(
            table.get_column(name).is_in([None, *values, OTHER], nulls_equal=True).all()
            for name, values in CLOSED.get(cls.__name__, {}).items()
            if name in table.columns
        )
        and _have_a_target(table, cls)
    )


def _holds(values: pl.Series, field: Field) -> bool:
    have, values = values.dtype, values.drop_nulls()
    if have == pl.Null:
        return True
    if list in field.types:
        if not isinstance(have, pl.List):
            return False
        if field.name in AT_MOST and (values.list.len() > AT_MOST[field.name]).any():
            return False
        values = values.explode(empty_as_null=False)
        if field.element is str or values.dtype == pl.Null:
            return values.dtype in (pl.String, pl.Null) and not values.null_count()
    if field.element is not None:
        return isinstance(values.dtype, pl.Struct) and _is_in_order(values.struct.unnest(), field.element)
    if have == pl.String:
        return _is_text(values, field)
    if have == pl.Boolean:
        return bool in field.types
    if not (have.is_integer() and int in field.types) and not (have.is_float() and float in field.types):
        return False
    most = field.most or (2**31 - 1 if field.name in INT32 else MAX_FLOAT)
    least = LEAST_SHARE if field.name in SHARES else 0
    if field.name == SIGNED or (float in field.types and field.name not in SHARES):
        least = -most
    return values.is_between(least, 1 if field.name in SHARES else most).all()


def _is_text(values: pl.Series, field: Field) -> bool:
    if field.longest_bytes is not None and (values.str.len_bytes() > field.longest_bytes).any():
        return False
    if field.name in IDS:
        return values.str.contains(f"^(?:{UUID.pattern})$").all()
    return str in field.types or field.name in TIMES


def _have_a_target(table: pl.DataFrame, cls: type) -> bool:
    if cls not in TARGETS:
        return True
    given = [pl.col(name).fill_null("") != "" for name in TARGETS[cls] if name in table.columns]
    return bool(given) and bool(table.select((pl.sum_horizontal(given) == 1).all()).item())


def _are_texts(table: pl.DataFrame, data: bytes) -> bool:
    """Whether no number or truth value stands where some lines have a text: a column makes texts of all."""
    like = r"^(-?\d|true$|false$)"
    doubtful = [c.name for c in table if c.dtype == pl.String and c.str.contains(like).any()]
    if not doubtful:
        return True
    return re.search(rb'"(?:%b)"\s*:\s*[-\dtf]' % "|".join(doubtful).encode(), data) is None


def _line_by_line(data: bytes, first: int, stand_ins: Mapping[str, str]) -> Iterator[_Read]:
    defaults = Defaults(stand_ins["tenant"], stand_ins["app"], stand_ins["environment"])
    events: dict[str, list[tuple[int, Event]]] = {}
    refused: list[tuple[int, str, str]] = []
    for line in intake.read(io.BytesIO(data), defaults):
        number = first + line.number - 1
        if line.event is not None:
            events.setdefault(type(line.event).__name__, []).append((number, line.event))
        else:
            # Words take longer than all the rest, and are for people.
            detail = "; ".join(map(str, line.problems)) if len(refused) < MOST_NAMED else ""
            refused.append((number, line.problems[0].reason, detail))
    yield "LLMCall", pl.DataFrame(), pl.DataFrame(refused, schema=rules.NONE.schema, orient="row")
    for record, found in events.items():
        wanted = fitting.fields(record)
        schema = blocks.schema_of(versions.latest(fitting.RECORDS[record]), wanted)
        rows = [
            {ROW: number, **{name: _plain(getattr(event, name)) for name in wanted}}
            for number, event in found
        ]
        yield record, *fitting.fit(pl.DataFrame(rows, schema=schema), record, stand_ins, strict=False)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_record else value
