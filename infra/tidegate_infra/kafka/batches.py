"""Kafka messages to columns: whole blocks where it goes, record by record where it must.

A record that can be read must also hold what the contract asks (`rules`), so that every reader counts the
same ones. A block with a corrupt datum is halved until little of it is left, and only that is read one record
at a time, by another decoder; what fails there alone is refused. Both ways give the same rows.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import fastavro
import polars as pl
from polars.exceptions import PolarsError

from tidegate import codec, versions
from tidegate.errors import ContractError
from tidegate.records import RECORDS, EndOfStream
from tidegate.versions import Version
from tidegate_infra.kafka import blocks, evolution, rules

ALONE = 64
"""A broken block of at most so many records is read one by one."""

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
    """What messages of one partition hold.

    Parameters
    ----------
    frame
        `_offset` and the fields, a row a record, in the order of offsets. Times are integers of microseconds;
        a value outside a closed list is `other`.
    rejected
        Messages without a row.
    ends
        Ends of a replay, which stand among calls.
    alone
        How many records were decoded one by one: the slow way.
    """

    frame: pl.DataFrame
    rejected: list[Rejected] = field(default_factory=list)
    ends: list[tuple[Any, EndOfStream]] = field(default_factory=list)
    alone: int = 0


def decode_batch(
    messages: Sequence[Message],
    record: str = "LLMCall",
    columns: Sequence[str] | None = None,
    *,
    slow: bool = False,
    registry: codec.Registry | None = None,
) -> Batch:
    """Decode messages of one partition into a frame.

    Parameters
    ----------
    messages
        Messages in the order of their offsets.
    record
        Name of the record that belongs there.
    columns
        Fields to decode; all when not given. Of the others only the lengths are looked at.
    slow
        Decode each record alone, with the decoder that no bytes can crash: for a range whose first try did
        not come to an end.
    registry
        Where ids of Confluent framing are looked up.
    """
    reader = versions.latest(_RECORDS[record])
    wanted = list(columns) if columns is not None else [f["name"] for f in reader.source["fields"]]
    needed = list(dict.fromkeys([*wanted, *rules.columns(record)]))
    decoder = _Decoder(reader, needed, registry, slow)
    decoder.read(messages)
    frames = decoder.frames or [pl.DataFrame(schema=blocks.schema_of(reader, needed))]
    frame = evolution.closed(pl.concat(frames), record)
    if len(frames) > 1:
        frame = frame.sort("_offset")
    refused = _refused(frame, messages, record)
    if refused:
        frame = frame.filter(~pl.col("_offset").is_in([one.message.offset() for one in refused]))
    return Batch(frame.select("_offset", *wanted), decoder.rejected + refused, decoder.ends, decoder.alone)


def _refused(frame: pl.DataFrame, messages: Sequence[Message], record: str) -> list[Rejected]:
    """Readable records that break a rule of the contract."""
    broken = rules.violations(frame, record)
    if record == "LLMCall":
        broken = pl.concat([broken, _misplaced(frame, messages)]).unique("_offset", keep="first")
    if not broken.height:
        return []
    by_offset = {message.offset(): message for message in messages}
    return [Rejected(by_offset[offset], reason, detail) for offset, reason, detail in broken.iter_rows()]


def _misplaced(frame: pl.DataFrame, messages: Sequence[Message]) -> pl.DataFrame:
    """Calls whose Kafka key is not their id, so that copies of them could not be recognised."""
    keys = pl.DataFrame(
        {
            "_offset": [message.offset() for message in messages],
            "_key": [message.key() for message in messages],
        },
        schema={"_offset": pl.Int64, "_key": pl.Binary},
    )
    if keys.height != frame.height:
        keys = frame.select("_offset").join(keys, on="_offset", how="left", maintain_order="left")
    other = frame.get_column("event_id").cast(pl.Binary).ne_missing(keys.get_column("_key"))
    return frame.filter(other).select(
        "_offset",
        pl.lit("key_mismatch").alias("reason"),
        pl.format("the Kafka key is not the event_id {}", "event_id").alias("detail"),
    )


@dataclass(slots=True)
class _Datums:
    """Messages that one schema wrote; no schema for JSON."""

    version: Version | None
    messages: list[Any] = field(default_factory=list)
    datums: list[bytes] = field(default_factory=list)

    def halves(self) -> "Iterator[_Datums]":
        middle = len(self.datums) // 2
        for part in (slice(middle), slice(middle, None)):
            yield _Datums(self.version, self.messages[part], self.datums[part])


class _Decoder:
    def __init__(
        self, reader: Version, columns: list[str], registry: codec.Registry | None, slow: bool
    ) -> None:
        self.reader = reader
        self.columns = columns
        self.registry = registry
        self.slow = slow
        self.frames: list[pl.DataFrame] = []
        self.rejected: list[Rejected] = []
        self.ends: list[tuple[Any, EndOfStream]] = []
        self.alone = 0

    def read(self, messages: Sequence[Message]) -> None:
        # By the first ten bytes, which in single-object encoding name the schema: one look-up a message.
        known: dict[bytes, tuple[_Datums, int]] = {}
        by_schema: dict[bytes, _Datums] = {}
        for message in messages:
            value = message.value() or b""
            entry = known.get(value[:10])
            if entry is None:
                try:
                    version, start = self._writer(value)
                except ContractError as error:
                    self.rejected.append(Rejected(message, error.reason, error.detail))
                    continue
                if version is not None and version.record is not self.reader.record:
                    self._end(message, value)
                    continue
                schema = version.fingerprint if version else b"{"
                entry = by_schema.setdefault(schema, _Datums(version)), start
                if value[:2] == codec.SINGLE_OBJECT:
                    known[value[:10]] = entry
            datums, start = entry
            datums.messages.append(message)
            datums.datums.append(value[start:])
        for datums in by_schema.values():
            self._decode(datums)

    def _writer(self, value: bytes) -> tuple[Version | None, int]:
        if value[:1] == b"{":
            return None, 0
        version, start = codec.writer(value, self.registry)
        beside = EndOfStream if self.reader.name == "LLMCall" else None
        if version.record not in (self.reader.record, beside):
            raise ContractError("unexpected_record", f"{version.name} where {self.reader.name} belongs")
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
        offsets = [message.offset() for message in datums.messages]
        present = evolution.shared(datums.version, self.columns)
        try:
            frame = blocks.read_block(datums.version, offsets, datums.datums, present)
        except blocks.BrokenBlock:
            if len(offsets) <= ALONE:
                self._decode_alone(datums)
            else:
                for half in datums.halves():
                    self._decode(half)
            return
        self.frames.append(evolution.aligned(frame, datums.version, self.reader, self.columns))

    def _decode_alone(self, datums: _Datums) -> None:
        rows = []
        for message, datum in zip(datums.messages, datums.datums, strict=True):
            try:
                rows.append((message, {"_offset": message.offset(), **self._row(datum, datums.version)}))
            except ContractError as error:
                self.rejected.append(Rejected(message, error.reason, error.detail))
        self.alone += len(datums.messages)
        self._frame(rows)

    def _frame(self, rows: list[tuple[Any, dict[str, Any]]]) -> None:
        schema = blocks.schema_of(self.reader, self.columns)
        try:
            self.frames.append(pl.DataFrame([row for _, row in rows], schema=schema))
        except (OverflowError, TypeError, ValueError, PolarsError) as error:
            # A value that its column cannot hold, such as an int of 64 bits: refuse its record alone.
            if len(rows) == 1:
                self.rejected.append(Rejected(rows[0][0], "invalid_field", str(error)))
                return
            middle = len(rows) // 2
            self._frame(rows[:middle])
            self._frame(rows[middle:])

    def _row(self, datum: bytes, version: Version | None) -> dict[str, Any]:
        if version is None:
            record = codec.as_dict(codec.decode(datum, expect=self.reader.record))
            return {column: record[column] for column in self.columns}
        stream = io.BytesIO(datum)
        wanted = evolution.projection(self.reader, self.columns)
        try:
            row: Any = fastavro.schemaless_reader(stream, version.parsed, wanted)
        except Exception as error:
            what = str(error) or type(error).__name__
            raise ContractError("undecodable", f"not a {version.name} v{version.number}: {what}") from error
        if stream.tell() != len(datum):
            raise ContractError(
                "trailing_bytes", f"{len(datum) - stream.tell()} bytes follow the {version.name}"
            )
        return dict(row)
