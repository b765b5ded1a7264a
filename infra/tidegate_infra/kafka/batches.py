"""Kafka messages to columns: whole blocks where it goes, record by record where it must.

A record that can be read must also hold what the contract asks (`rules`), so that every reader counts the
same ones, whichever fields they ask for: text of an event that is no UTF-8 is refused where a rule reads it,
and mended elsewhere; what only its reader could find broken everybody reads. A block with a corrupt datum is
halved until little of it is left, and only that is read one record at a time, by another decoder; what fails
there alone is refused. Both ways give the same rows.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import polars as pl
from polars.exceptions import PolarsError

from tidegate import codec, versions
from tidegate.errors import ContractError
from tidegate.records import RECORDS, EndOfStream
from tidegate.versions import Version
from tidegate_infra.kafka import blocks, evolution, foreign, rules
from tidegate_infra.kafka.datums import read_datum

BLOCK = 8_192
"""Most records of a block: larger ones leave the processor's caches, and are half as fast."""

ALONE = 64
"""A broken block of at most so many records is read one by one."""

_PASSED_OVER = frozenset({"content", "routing"})
"""What takes too long to read for the sake of the few numbers in it."""

_RECORDS = {record.__name__: record for record in RECORDS.values()}


class Message(Protocol):
    """What is read of a `confluent_kafka.Message`."""

    def key(self) -> bytes | None:
        """Return the key as sent."""

    def value(self) -> bytes | None:
        """Return the bytes; none for a tombstone."""

    def offset(self) -> int | None:
        """Return the offset in the partition; a message that was consumed has one."""


class Rejected(NamedTuple):
    """A message that holds no record of the expected kind."""

    message: Any
    reason: str
    """One of `tidegate.codec.REASONS` or `tidegate_infra.kafka.rules.REASONS`."""
    detail: str


@dataclass(slots=True)
class Batch:
    """What messages hold.

    Parameters
    ----------
    frame
        `_offset` and the fields, a row a record, in the order of the messages. Times are integers of
        microseconds; a value outside a closed list is `other`.
    rows
        Which message each row came of, by its place in the sequence.
    rejected
        Messages without a row.
    ends
        Ends of a replay, which stand among calls.
    alone
        How many records were decoded one by one: the slow way.
    """

    frame: pl.DataFrame
    rows: pl.Series
    rejected: list[Rejected] = field(default_factory=list)
    ends: list[tuple[Any, EndOfStream]] = field(default_factory=list)
    alone: int = 0


def decode_batch(
    messages: Sequence[Message],
    record: str = "LLMCall",
    columns: Sequence[str] | None = None,
    *,
    slow: bool = False,
    ruled: bool = True,
    registry: codec.Registry | None = None,
) -> Batch:
    """Decode messages into a frame.

    Parameters
    ----------
    messages
        Messages of one or several partitions.
    record
        Name of the record that belongs there.
    columns
        Fields to decode; all when not given. Of the others only the lengths are looked at; in bodies and in
        what a router chose that lets a number of over 32 bits pass.
    slow
        Decode each record alone, with the decoder that no bytes can crash: for a range whose first try did
        not come to an end.
    ruled
        Refuse records that can be read and break a rule of the contract.
    registry
        Where ids of Confluent framing are looked up.
    """
    reader = versions.latest(_RECORDS[record])
    wanted = list(columns) if columns is not None else [f["name"] for f in reader.source["fields"]]
    needed = list(dict.fromkeys([*wanted, *rules.columns(record), *(_judged(record) if ruled else ())]))
    decoder = _Decoder(messages, reader, needed, registry, slow)
    decoder.read()
    frames = decoder.frames or [pl.DataFrame(schema=blocks.schema_of(reader, needed))]
    frame = evolution.closed(pl.concat(frames), record)
    if not frame.get_column("_row").is_sorted():
        frame = frame.sort("_row")
    broken = _broken(frame, messages, record) if ruled else rules.NONE
    if broken.height:
        frame = frame.join(broken, on="_row", how="anti", maintain_order="left")
    refused = [Rejected(messages[row], reason, detail) for row, reason, detail in broken.iter_rows()]
    rows = frame.get_column("_row")
    offsets = pl.Series("_offset", [message.offset() for message in messages], dtype=pl.Int64)
    return Batch(
        frame.select(offsets.gather(rows), *wanted),
        rows,
        decoder.rejected + refused,
        decoder.ends,
        decoder.alone,
    )


@functools.cache
def _judged(record: str) -> tuple[str, ...]:
    """Fields of an event that whoever passes over them could take for sound where their reader does not."""
    if not rules.columns(record):
        return ()
    fields = versions.latest(_RECORDS[record]).source["fields"]
    judged = (field["name"] for field in fields if _is_judged(field["type"]))
    return tuple(name for name in judged if name not in _PASSED_OVER)


def _is_judged(schema: Any) -> bool:
    """Whether a type may be broken although its length is right, or its length wrong although it is sound."""
    match schema:
        case "int" | {"type": "array"} | {"logicalType": "decimal"}:
            return True
        case {"type": "record", "fields": fields}:
            return any(_is_judged(field["type"]) for field in fields)
        case [*branches]:
            return any(_is_judged(branch) for branch in branches)
        case {"type": inner}:
            return _is_judged(inner)
    return False


def _broken(frame: pl.DataFrame, messages: Sequence[Message], record: str) -> pl.DataFrame:
    """Readable records that break a rule of the contract, each with the first rule that it breaks."""
    broken = rules.violations(frame, record)
    if record != "LLMCall":
        return broken
    # Copies of a call under another key could not be recognised.
    keys = pl.Series("key", [message.key() for message in messages], dtype=pl.Binary)
    key = keys.gather(frame.get_column("_row"))
    strangers = frame.filter(frame.get_column("event_id").cast(pl.Binary).ne_missing(key))
    # In one chunk, as the rules: `pl.format` would panic.
    misplaced = strangers.rechunk().select(
        "_row",
        pl.lit("key_mismatch").alias("reason"),
        pl.format("the Kafka key is not the event_id {}", "event_id").alias("detail"),
    )
    return pl.concat([broken, misplaced]).unique("_row", keep="first", maintain_order=True)


def _widened(dtype: Any) -> Any:
    """Return a column's type with integers of 64 bits, which the decoder gives."""
    match dtype:
        case pl.List():
            return pl.List(_widened(dtype.inner))
        case pl.Struct():
            return pl.Struct({field.name: _widened(field.dtype) for field in dtype.fields})
    return pl.Int64 if dtype == pl.Int32 else dtype


def _by_head(values: Sequence[bytes]) -> list[list[int]]:
    """Group values that one schema wrote: in single-object encoding the head says so, others stand alone."""
    heads = [value[:10] for value in values]
    if len(set(heads)) == 1 and heads[0].startswith(codec.SINGLE_OBJECT):
        return [list(range(len(heads)))]
    groups: dict[bytes, list[int]] = {}
    for row, head in enumerate(heads):
        groups.setdefault(head if head.startswith(codec.SINGLE_OBJECT) else values[row], []).append(row)
    return list(groups.values())


@dataclass(slots=True)
class _Datums:
    """Messages that one schema wrote, with as much framing; no schema for JSON."""

    version: Version | None
    start: int
    rows: list[int] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def pieces(self, size: int) -> "Iterator[_Datums]":
        for first in range(0, len(self.rows), size):
            part = slice(first, first + size)
            yield _Datums(self.version, self.start, self.rows[part], self.values[part])


class _Decoder:
    def __init__(
        self,
        messages: Sequence[Message],
        reader: Version,
        columns: list[str],
        registry: codec.Registry | None,
        slow: bool,
    ) -> None:
        self.messages = messages
        self.reader = reader
        self.columns = columns
        self.exact = frozenset(rules.columns(reader.name) or columns)
        self.registry = registry
        self.slow = slow
        self.frames: list[pl.DataFrame] = []
        self.rejected: list[Rejected] = []
        self.ends: list[tuple[Any, EndOfStream]] = []
        self.alone = 0

    def read(self) -> None:
        values = [message.value() or b"" for message in self.messages]
        by_schema: dict[tuple[bytes, int], _Datums] = {}
        for rows in _by_head(values):
            try:
                version, start = self._writer(values[rows[0]])
            except ContractError as error:
                self.rejected += [Rejected(self.messages[row], error.reason, error.detail) for row in rows]
                continue
            if version is not None and version.record is not self.reader.record:
                for row in rows:
                    self._end(self.messages[row], values[row])
                continue
            key = version.fingerprint if version else b"{", start
            datums = by_schema.setdefault(key, _Datums(version, start))
            datums.rows += rows
            datums.values += [values[row] for row in rows]
        for datums in by_schema.values():
            for piece in datums.pieces(BLOCK):
                self._decode(piece)

    def _writer(self, value: bytes) -> tuple[Version | None, int]:
        if value[:1] == b"{":
            return None, 0
        version, start = codec.writer(value, self.registry)
        beside = EndOfStream if self.reader.name == "LLMCall" else None
        if version.record not in (self.reader.record, beside):
            raise ContractError("unexpected_record", f"{version.name} where {self.reader.name} belongs")
        foreign.check(version)
        return version, start

    def _end(self, message: Message, value: bytes) -> None:
        try:
            self.ends.append((message, codec.decode(value, self.registry, EndOfStream)))
        except ContractError as error:
            self.rejected.append(Rejected(message, error.reason, error.detail))

    def _decode(self, datums: _Datums) -> None:
        if datums.version is None or self.slow:
            self._decode_alone(datums)
            return
        present = evolution.shared(datums.version, self.columns)
        try:
            frame = blocks.read_block(datums.version, datums.start, datums.rows, datums.values, present)
        except blocks.BrokenBlock:
            if len(datums.rows) <= ALONE:
                self._decode_alone(datums)
            else:
                for half in datums.pieces(-(-len(datums.rows) // 2)):
                    self._decode(half)
            return
        self.frames.append(evolution.aligned(frame, datums.version, self.reader, self.columns))

    def _decode_alone(self, datums: _Datums) -> None:
        version = datums.version
        present = self.columns if version is None else evolution.shared(version, self.columns)
        rows = []
        for row, value in zip(datums.rows, datums.values, strict=True):
            try:
                if version is None:
                    record = codec.as_dict(codec.decode(value, expect=self.reader.record))
                    rows.append({"_row": row, **{column: record[column] for column in present}})
                else:
                    rows.append(
                        {"_row": row, **read_datum(version, datums.start, value, present, self.exact)}
                    )
            except ContractError as error:
                self.rejected.append(Rejected(self.messages[row], error.reason, error.detail))
        self.alone += len(datums.rows)
        self._frame(rows, version or self.reader, present)

    def _frame(self, rows: list[dict[str, Any]], version: Version, present: list[str]) -> None:
        schema = blocks.schema_of(version, present)
        wide = {column: _widened(dtype) for column, dtype in schema.items()}
        try:
            # A number that is too long for a field inside a record would become null.
            frame = pl.DataFrame(rows, schema=wide).cast(schema)
        except (OverflowError, TypeError, ValueError, PolarsError) as error:
            # A value that its column cannot hold, such as an int of 64 bits: refuse its record alone.
            if len(rows) == 1:
                self.rejected.append(Rejected(self.messages[rows[0]["_row"]], "invalid_field", str(error)))
                return
            middle = len(rows) // 2
            self._frame(rows[:middle], version, present)
            self._frame(rows[middle:], version, present)
        else:
            self.frames.append(evolution.aligned(frame, version, self.reader, self.columns))
