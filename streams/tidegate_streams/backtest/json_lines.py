"""JSON lines of events: whole pieces as columns where every line is in order, line by line where one is not.

What `tidegate emit` would refuse is refused here with the same words; only how quickly that is found differs.
"""

import dataclasses
import io
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import IO, Any, NamedTuple

import polars as pl
import pyarrow as pa
from pyarrow.json import ParseOptions, ReadOptions, read_json

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
from tidegate_streams.backtest.ahead import Part
from tidegate_streams.backtest.fitting import ROW
from tidegate_streams.backtest.pieces import MOST_NAMED, Piece, identified

_BYTES = 32 << 20
_BLOCK_BYTES = 1 << 20
"""Of the parser: what it works on stays in the cache."""
_HEAD_BYTES = 64 << 10
_ALONE = 1_000
_RECORDS = {kind: record.__name__ for kind, record in intake.KINDS.items()}


class Defaults(NamedTuple):
    """What holds for lines that do not say it; see `tidegate.client.completion.Defaults`."""

    tenant: str
    app: str
    environment: str
    app_version: str | None = None


def read(file: IO[bytes], name: str, size: int, stand_ins: Mapping[str, str]) -> Iterator[Part]:
    """Yield what has to be done to read JSON lines, part by part.

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
    while data := file.read(_BYTES):
        data += file.readline()
        done += len(data)
        lines = _lines(data)
        yield partial(_part, data, lines, first, stand_ins, done / max(size, done), name)
        first += lines


def _part(
    data: bytes, lines: int, first: int, stand_ins: Mapping[str, str], share: float, name: str
) -> list[Piece]:
    return [Piece(*read, share, name) for read in _read(data, lines, first, stand_ins)]


def _lines(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n"))


_Read = tuple[str, pl.DataFrame, pl.DataFrame]


def _read(data: bytes, lines: int, first: int, stand_ins: Mapping[str, str]) -> Iterator[_Read]:
    """Read lines at once; where that fails, halve them until few are left to be looked at one by one."""
    if (columns := _as_columns(data, first, lines, stand_ins)) is not None:
        yield from columns
    elif lines <= _ALONE:
        yield from _line_by_line(data, first, stand_ins)
    else:
        half = data.rfind(b"\n", 0, len(data) // 2) + 1 or data.find(b"\n") + 1
        before = _lines(data[:half])
        yield from _read(data[:half], before, first, stand_ins)
        yield from _read(data[half:], lines - before, first + before, stand_ins)


def _as_columns(data: bytes, first: int, lines: int, stand_ins: Mapping[str, str]) -> list[_Read] | None:
    """Read all lines at once; None when there is anything about them that only a look at each can tell."""
    table = _table(data, lines)
    if table is None:
        return None
    table = table.with_row_index(ROW, first).cast({ROW: pl.Int64})
    if "type" not in table.columns:
        table = table.with_columns(pl.lit("call").alias("type"))
    elif table.schema["type"] != pl.String:
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


def _table(data: bytes, lines: int) -> pl.DataFrame | None:
    """Parse lines that hold one object each; None when any does not, or holds a type of value amiss."""
    between = data.count(b"}\n{") + (data.count(b"}\r\n{") if b"\r" in data else 0)
    if between != lines - 1:
        return None
    try:
        if not data.isascii():
            # The parser takes text as it comes, and its columns would hold what is none.
            data.decode()
        table = read_json(
            pa.BufferReader(data),
            ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            ParseOptions(explicit_schema=_types(data[:_HEAD_BYTES]), unexpected_field_behavior="infer"),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    return None if table.num_rows != lines else pl.DataFrame(pl.from_arrow(table)).rechunk()


def _types(head: bytes) -> pa.Schema:
    """Types of the contract for the fields that some lines have: a text is not to be taken for a time."""
    named = {key.decode() for key in re.findall(rb'"(\w+)"\s*:', head)}
    texts = {key.decode() for key in re.findall(rb'"(\w+)"\s*:\s*"', head)}
    return pa.schema(
        {
            name: pa.string() if name in TIMES & texts else kind
            for name, kind in _known_types().items()
            if name in named
        }
    )


@cache
def _known_types() -> dict[str, pa.DataType]:
    """Field -> its type, of those that have one type in all records."""
    types: dict[str, set[pa.DataType]] = {"type": {pa.string()}}
    for record in _RECORDS.values():
        for field in fields_of(fitting.RECORDS[record]):
            types.setdefault(field.name, set()).add(_type(field))
    return {name: next(iter(one)) for name, one in types.items() if len(one) == 1 and None not in one}


def _type(field: Field) -> pa.DataType | None:
    if field.element is str:
        return pa.list_(pa.string())
    if field.element is not None:
        inner = pa.struct({one.name: kind for one in fields_of(field.element) if (kind := _type(one))})
        return pa.list_(inner) if list in field.types else inner
    scalars = {str: pa.string(), bool: pa.bool_(), float: pa.float64(), int: pa.int64()}
    return next((scalars[kind] for kind in scalars if kind in field.types), None)


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
