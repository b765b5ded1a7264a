"""Files of events: which format a file has, and its rows in pieces."""

import io
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import fastavro
import polars as pl
from polars.exceptions import PanicException, PolarsError

from tidegate import versions
from tidegate.errors import ConfigError
from tidegate_streams.backtest import ahead, fitting, json_lines
from tidegate_streams.backtest.ahead import Part
from tidegate_streams.backtest.fitting import ROW
from tidegate_streams.backtest.pieces import Piece, identified

ROWS = 100_000
"""Rows of a piece: few enough for memory, enough for columns to be quick."""

_AVRO_BYTES = 32 << 20


def read(path: Path, stand_ins: Mapping[str, str]) -> Iterator[Piece]:
    """Read a file of events.

    Parameters
    ----------
    path
        JSON lines as `tidegate emit` takes them, or Parquet or an Avro container file with a record's fields
        as columns; its first bytes tell which.
    stand_ins
        Field -> value of events that have none.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            head, size = file.read(4), path.stat().st_size
            file.seek(0)
            if head == b"PAR1":
                yield from _parquet(path, stand_ins)
            elif head == b"Obj\x01":
                yield from _avro(file, path, size, stand_ins)
            else:
                yield from ahead.read(json_lines.read(file, str(path), size, stand_ins))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None


def _record_of(columns: Iterable[str]) -> str:
    """Say what a table with these columns holds."""
    there = set(columns)
    # Calls of the store have a ts besides.
    if "ts" not in there or "ts_end" in there:
        return "LLMCall"
    return "Feedback" if there & {"given_by", "positive", "retracted"} else "Evaluation"


def _fitted(
    table: pl.DataFrame, record: str, first: int, stand_ins: Mapping[str, str], share: float, path: Path
) -> list[Piece]:
    numbered = table.with_row_index(ROW, first).cast({ROW: pl.Int64})
    return [Piece(record, *fitting.fit(identified(numbered), record, stand_ins), share, str(path))]


def _parquet(path: Path, stand_ins: Mapping[str, str]) -> Iterator[Piece]:
    try:
        yield from ahead.read(_slices(path, stand_ins))
    except PolarsError as error:
        raise ConfigError(f"{path} is no Parquet file that can be read: {error}") from None


def _slices(path: Path, stand_ins: Mapping[str, str]) -> Iterator[Part]:
    whole = pl.scan_parquet(path, glob=False)
    names = whole.collect_schema().names()
    record = _record_of(names)
    fitting.check_there(names, record, stand_ins)
    columns = whole.select(name for name in fitting.fields(record) if name in names)
    rows, done = whole.select(pl.len()).collect().item(), 0
    for held in _row_groups(path):
        # A row group is decoded at once: slices of it would be, again and again.
        group = columns.slice(done, held).collect()
        for table in group.iter_slices(ROWS):
            first = done + 1
            done += table.height
            yield partial(_fitted, table, record, first, stand_ins, done / rows, path)


def _row_groups(path: Path) -> list[int]:
    """Rows of each row group."""
    from pyarrow.parquet import read_metadata

    metadata = read_metadata(path)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def _avro(file: IO[bytes], path: Path, size: int, stand_ins: Mapping[str, str]) -> Iterator[Piece]:
    try:
        yield from ahead.read(_decoded(file, path, size, stand_ins))
    except (ValueError, EOFError, PolarsError, PanicException) as error:
        raise ConfigError(f"{path}: the Avro file cannot be read: {error}") from None


def _decoded(file: IO[bytes], path: Path, size: int, stand_ins: Mapping[str, str]) -> Iterator[Part]:
    blocks = fastavro.block_reader(file)
    columns = _Columns(blocks.writer_schema)

    def part(group: list[Any], first: int, share: float) -> list[Piece]:
        return _fitted(columns.of(group), columns.record, first, stand_ins, share, path)

    first = 1
    for group in _groups(blocks):
        yield partial(part, group, first, file.tell() / size)
        first += sum(block.num_records for block in group)


def _groups(blocks: Iterable[Any]) -> Iterator[list[Any]]:
    """Gather blocks, which writers make small."""
    group: list[Any] = []
    size = 0
    for block in blocks:
        group.append(block)
        size += len(block.bytes_.getbuffer())
        if size >= _AVRO_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Columns:
    """Reads blocks of one writer's schema at once, by a header that leaves out what Polars refuses."""

    def __init__(self, schema: Any) -> None:
        version = versions.load("file", 0, schema)
        file = io.BytesIO()
        fastavro.writer(file, versions.plain_times(versions.container_schema(version)), [])
        self.header = file.getvalue()
        self.record = _record_of(field["name"] for field in version.source["fields"])
        self.wanted = [
            field["name"]
            for field in version.source["fields"]
            if field["name"] in fitting.fields(self.record)
        ]

    def of(self, blocks: Iterable[Any]) -> pl.DataFrame:
        sync = self.header[-16:]
        parts = [self.header]
        for block in blocks:
            data = block.bytes_.getvalue()
            parts += [_long(block.num_records), _long(len(data)), data, sync]
        return pl.read_avro(io.BytesIO(b"".join(parts)), columns=self.wanted)


def _long(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()
