"""Avro datums of one writer's schema to columns at once, and never one datum's bytes read as another's.

Datums that share a schema are, joined, the body of an Avro container block, so `polars.read_avro` decodes
them all. A datum carries no boundary, and one corrupt datum could shift its neighbours silently. Therefore
the block's schema wraps each datum between two fixed fields, its number in front and a nonce of the block
behind, and both must come back as they were written.
"""

import io
import itertools
import os
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import fastavro
import polars as pl
from polars.exceptions import PanicException, PolarsError

from tidegate import versions
from tidegate.versions import Version

_NUMBER = struct.Struct("<q")
_SYNC_BYTES = 16
_TYPES = ("type", "items", "fields")
# What `read_avro` raises on bytes that are no such datum. PanicException is a BaseException.
_BROKEN = (PolarsError, PanicException, OSError)


class BrokenBlock(ValueError):
    """Some datum of the block is not of its schema; which one, a block cannot tell."""


def read_block(
    version: Version, start: int, rows: Sequence[int], values: Sequence[bytes], columns: Sequence[str]
) -> pl.DataFrame:
    """Decode datums that one schema wrote.

    Parameters
    ----------
    version
        The writer's schema.
    start
        Bytes of framing before each datum; they are passed over inside the block, which copies less.
    rows
        Number of each value, put into column `_row`.
    values
        Framed Avro datums.
    columns
        Fields to decode; the others are skipped, and only their lengths are looked at.

    Returns
    -------
    polars.DataFrame
        `_row` and the columns, a row a datum. Times are integers of microseconds.

    Raises
    ------
    BrokenBlock
        When a datum is malformed, or longer or shorter than its schema says.
    """
    nonce = os.urandom(8)
    header, schema = _container(version, start)
    size = sum(map(len, values)) + len(values) * (_NUMBER.size + len(nonce))
    wrapped = zip(map(_NUMBER.pack, rows), values, itertools.repeat(nonce))
    head = (header, _long(len(values)), _long(size))
    block = b"".join(itertools.chain(head, itertools.chain.from_iterable(wrapped), (header[-_SYNC_BYTES:],)))
    try:
        frame = pl.read_avro(io.BytesIO(block), columns=["_row", *columns, "_nonce"])
    except _BROKEN as error:
        raise BrokenBlock(str(error)) from error
    read = frame.get_column("_row").bin.reinterpret(dtype=pl.Int64, endianness="little")
    intact = (
        frame.height == len(values)
        and read.equals(pl.Series("_row", rows, dtype=pl.Int64))
        and frame.select((pl.col("_nonce") == pl.lit(nonce)).all()).item()
    )
    if not intact:
        raise BrokenBlock("a datum is longer or shorter than its schema says")
    narrow = [(column, schema[column]) for column in columns if frame.schema[column] != schema[column]]
    try:
        return frame.select(read, *columns).cast(pl.Schema(narrow))
    except PolarsError as error:
        raise BrokenBlock(str(error)) from error


def schema_of(version: Version, columns: Sequence[str]) -> pl.Schema:
    """Return the columns that `read_block` gives for a schema."""
    whole = _container(version, 0).schema
    columns_of: dict[str, Any] = {column: whole[column] for column in columns}
    return pl.Schema({"_row": pl.Int64, **columns_of})


class _Container(NamedTuple):
    header: bytes
    schema: pl.Schema


_containers: dict[tuple[bytes, int], _Container] = {}


def _container(version: Version, start: int) -> _Container:
    """Return the file header for framed datums of a writer's schema, and the columns that come of them."""
    key = version.fingerprint, start
    if key not in _containers:
        datum: Any = versions.plain_times(versions.container_schema(version))
        columns = [field["name"] for field in datum["fields"]]
        schema = pl.read_avro(io.BytesIO(_header(start, datum)), columns=columns).schema
        _containers[key] = _Container(_header(start, _widened(datum)), schema)
    return _containers[key]


def _header(start: int, datum: Any) -> bytes:
    fields = [_fixed("_row", 8), _fixed("_framing", start), *datum["fields"], _fixed("_nonce", 8)]
    file = io.BytesIO()
    fastavro.writer(file, {"type": "record", "name": "Framed", "fields": fields}, [])
    return file.getvalue()


def _widened(schema: Any) -> Any:
    """Return a schema with every int as a long, whose bytes are the same.

    Of an int that has more than 32 bits `read_avro` keeps the lowest, without a word.
    """
    if isinstance(schema, list):
        return [_widened(one) for one in schema]
    if isinstance(schema, dict):
        return {name: _widened(one) if name in _TYPES else one for name, one in schema.items()}
    return "long" if schema == "int" else schema


def _fixed(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "type": {"type": "fixed", "name": f"{name}_bytes", "size": size}}


def _long(value: int) -> bytes:
    """Return a non-negative number as Avro writes a long."""
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
