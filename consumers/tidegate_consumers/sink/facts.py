"""Messages to rows: what each topic's messages say, by table. Pure: the same messages, the same rows."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import compress
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from tidegate import codec
from tidegate.codec import Registry
from tidegate.errors import ContractError
from tidegate.topics import (
    ALERTS,
    CALLS,
    CLAMP_US,
    DEPLOYMENTS,
    DLQ,
    DRIFT,
    EVALUATIONS,
    FEEDBACK,
    METRICS,
    PRODUCERS,
    PROGRESS,
    STATUS,
    TOPICS,
)
from tidegate_infra.kafka import dead_letters
from tidegate_infra.kafka.batches import Rejected, decode_batch
from tidegate_infra.kafka.dead_letters import DeadLetter
from tidegate_infra.kafka.ranges import Message, Range
from tidegate_infra.prices import PriceBook

Frames = dict[str, pl.DataFrame]
"""Table -> its rows."""

STAGE = "sink"
"""Who refused a record, when the sink itself could not store it."""

_NANO = pl.lit(Decimal("0.000000001"))
_MONEY = pl.Decimal(38, 9)


@dataclass(frozen=True, slots=True)
class Reading:
    """What else decides how messages are read.

    Parameters
    ----------
    copies
        For each message whether it is a duplicate; none in topics that know no duplicates.
    book
        Prices of the range.
    registry
        Where ids of Confluent framing are looked up.
    """

    copies: Sequence[bool] | None = None
    book: PriceBook | None = None
    registry: Registry | None = None


def facts(range_: Range, reading: Reading) -> Frames:
    """Return the rows of a range.

    Every message gives one row in one of its topic's tables, in `duplicates` or in `dead_letters`.
    Exceptions: a call's bodies are one more, windows come many in a message; the end of a replay, a tombstone
    and the mark of a dead letter that was put back give none.
    """
    return {name: frame for name, frame in FACTS[range_.topic](range_, reading).items() if frame.height}


def _calls(range_: Range, reading: Reading) -> Frames:
    first, again = _apart(range_, reading)
    batch = decode_batch(first, slow=range_.redo, registry=reading.registry)
    assert reading.book is not None
    frame = _timed(_sourced(batch.frame, batch.rows, first, range_), "ts_end")
    frame = reading.book.price(frame).with_columns(
        latency_us=pl.col("ts_end") - pl.col("ts_start"),
        has_content=pl.col("content").is_not_null(),
        cost_usd=pl.col("cost_usd_nano").cast(_MONEY) * _NANO,
        **_flat(frame, "routing"),
        **_flat(frame, "retrieval"),
    )
    bodies = frame.filter("has_content")
    return {
        "calls": frame,
        "call_bodies": bodies.select(pl.exclude("content"), pl.col("content").struct.unnest()),
        "duplicates": _copies(again, "LLMCall", range_, reading),
        "dead_letters": _refused(batch.rejected, range_, reading),
    }


def _ratings(record: str, table: str) -> Callable[[Range, Reading], Frames]:
    def rows(range_: Range, reading: Reading) -> Frames:
        first, again = _apart(range_, reading)
        batch = decode_batch(first, record, slow=range_.redo, registry=reading.registry)
        frame = _sourced(batch.frame, batch.rows, first, range_).with_columns(
            ts_reported="ts", has_series=pl.col("series").is_not_null()
        )
        return {
            table: _timed(frame, "ts").select(pl.exclude("series"), pl.col("series").struct.unnest()),
            "duplicates": _copies(again, record, range_, reading),
            "dead_letters": _refused(batch.rejected, range_, reading),
        }

    return rows


def _records(record: str, table: str, **renamed: str) -> Callable[[Range, Reading], Frames]:
    def rows(range_: Range, reading: Reading) -> Frames:
        living = [message for message in range_.messages if message.value() is not None]
        batch = decode_batch(living, record, slow=True, registry=reading.registry)
        # Renamed first: a record may have a field of the name that the source's coordinates need.
        frame = batch.frame.rename(renamed)
        return {
            table: _sourced(frame, batch.rows, living, range_),
            "dead_letters": _refused(batch.rejected, range_, reading),
        }

    return rows


def _windows(range_: Range, reading: Reading) -> Frames:
    frames, rows, rejected = [], [], []
    for row, message in enumerate(range_.messages):
        try:
            batch = codec.decode(message.value() or b"", reading.registry, TOPICS[METRICS].records)
            frame = pl.read_ipc_stream(io.BytesIO(batch.rows))
        except ContractError as error:
            rejected.append(Rejected(message, error.reason, error.detail))
        except (PolarsError, PanicException, OSError) as error:
            rejected.append(Rejected(message, "undecodable", f"the rows are no Arrow stream: {error}"))
        else:
            frames.append(frame.with_columns(_offset=pl.lit(message.offset(), dtype=pl.Int64)))
            rows += [row] * frame.height
    windows = pl.DataFrame()
    if frames:
        windows = _sourced(
            pl.concat(frames, how="diagonal_relaxed"),
            pl.Series(rows, dtype=pl.UInt32),
            range_.messages,
            range_,
        )
    return {"window_metrics": windows, "dead_letters": _refused(rejected, range_, reading)}


def _dead_letters(range_: Range, reading: Reading) -> Frames:
    letters = []
    for message in range_.messages:
        if dead_letters.is_mark(message.headers()):
            continue
        try:
            letter = dead_letters.read(message.headers())
        except ContractError as error:
            letter = _letter(Rejected(message, error.reason, error.detail), range_)
        letters.append((message, letter))
    return {"dead_letters": _lettered(letters, range_, reading)}


FACTS: dict[str, Callable[[Range, Reading], Frames]] = {
    CALLS: _calls,
    FEEDBACK: _ratings("Feedback", "feedback"),
    EVALUATIONS: _ratings("Evaluation", "evaluations"),
    METRICS: _windows,
    DRIFT: _records("DriftEvent", "drift_events"),
    ALERTS: _records("Alert", "alerts"),
    DEPLOYMENTS: _records("DeploymentCommand", "deployment_commands"),
    STATUS: _records("DeploymentStatus", "deployment_status"),
    PROGRESS: _records("RolloutProgress", "rollout_progress", partition="journal_partition"),
    PRODUCERS: _records("ProducerReport", "producer_reports"),
    DLQ: _dead_letters,
}
"""Topic -> how its messages become rows."""

TABLES: dict[str, tuple[str, ...]] = {
    CALLS: ("calls", "call_bodies", "duplicates", "dead_letters"),
    FEEDBACK: ("feedback", "duplicates", "dead_letters"),
    EVALUATIONS: ("evaluations", "duplicates", "dead_letters"),
    METRICS: ("window_metrics", "dead_letters"),
    DRIFT: ("drift_events", "dead_letters"),
    ALERTS: ("alerts", "dead_letters"),
    DEPLOYMENTS: ("deployment_commands", "dead_letters"),
    STATUS: ("deployment_status", "dead_letters"),
    PROGRESS: ("rollout_progress", "dead_letters"),
    PRODUCERS: ("producer_reports", "dead_letters"),
    DLQ: ("dead_letters",),
}
"""Topic -> the tables that its messages may have rows in."""

UPSERTED = frozenset({"window_metrics"})
"""Tables whose rows are told apart by a version, so that writing them again changes nothing."""

KEPT_DAYS = {"call_bodies": 14}
"""Tables whose rows the store drops by itself, and how many days after Kafka got them."""


def _sourced(
    frame: pl.DataFrame, rows: pl.Series, messages: Sequence[Message], range_: Range
) -> pl.DataFrame:
    """Add where each row's message stands; `append_ts` in milliseconds."""
    appended = pl.Series("append_ts", [message.timestamp()[1] for message in messages], dtype=pl.Int64)
    return frame.with_columns(
        appended.gather(rows),
        _topic_id=pl.lit(range_.topic_id),
        _partition=pl.lit(range_.partition, dtype=pl.UInt16),
    )


def _timed(frame: pl.DataFrame, reported: str) -> pl.DataFrame:
    return frame.with_columns(ts=pl.min_horizontal(reported, pl.col("append_ts") * 1_000 + CLAMP_US))


def _apart(range_: Range, reading: Reading) -> tuple[list[Message], list[Message]]:
    """Return first copies, and the others."""
    assert reading.copies is not None
    first = list(compress(range_.messages, (not copy for copy in reading.copies)))
    return first, list(compress(range_.messages, reading.copies))


def _copies(again: Sequence[Message], record: str, range_: Range, reading: Reading) -> pl.DataFrame:
    """Return what the ledger needs of copies; one that breaks a rule, or cannot be read, has what it can."""
    if not again:
        return pl.DataFrame()
    whose = ("event_id", "producer_id", "seq")
    batch = decode_batch(again, record, whose, slow=range_.redo, registry=reading.registry)
    unread = [one.message for one in batch.rejected] + [message for message, _ in batch.ends]
    keys = pl.DataFrame(
        [
            _producer(range_.topic, message.value(), reading.registry)
            | {
                "_offset": message.offset(),
                "event_id": (message.key() or b"").decode(errors="replace"),
            }
            for message in unread
        ],
        schema={"_offset": pl.Int64, **{name: _LETTER[name] for name in whose}},
    )
    frame = pl.concat([batch.frame, keys], how="diagonal")
    places = {message.offset(): row for row, message in enumerate(again)}
    rows = pl.Series([places[offset] for offset in frame.get_column("_offset")], dtype=pl.UInt32)
    return _sourced(frame, rows, again, range_).with_columns(topic=pl.lit(range_.topic))


def _flat(frame: pl.DataFrame, record: str) -> dict[str, pl.Expr]:
    """Return the fields of a nested record as columns of their own."""
    dtype = frame.schema[record]
    assert isinstance(dtype, pl.Struct)
    return {f"{record}_{field.name}": pl.col(record).struct.field(field.name) for field in dtype.fields}


def _refused(rejected: Sequence[Rejected], range_: Range, reading: Reading) -> pl.DataFrame:
    return _lettered([(one.message, _letter(one, range_)) for one in rejected], range_, reading)


def _letter(rejected: Rejected, range_: Range) -> DeadLetter:
    return DeadLetter(
        topic=range_.topic,
        topic_id=range_.topic_id,
        partition=range_.partition,
        offset=rejected.message.offset(),
        stage=STAGE,
        reason=rejected.reason,
        error=rejected.detail,
    )


def _lettered(letters: Sequence[tuple[Any, DeadLetter]], range_: Range, reading: Reading) -> pl.DataFrame:
    if not letters:
        return pl.DataFrame()
    rows = [
        {
            "_offset": message.offset(),
            "source_topic": letter.topic,
            "source_topic_id": letter.topic_id,
            "source_partition": letter.partition,
            "source_offset": letter.offset,
            "stage": letter.stage,
            "reason": letter.reason,
            "error": letter.error,
            "size_bytes": len(message.value() or b""),
            **_producer(letter.topic, message.value(), reading.registry),
        }
        for message, letter in letters
    ]
    frame = pl.DataFrame(rows, schema_overrides=_LETTER)
    each = pl.Series(range(frame.height), dtype=pl.UInt32)
    return _sourced(frame, each, [message for message, _ in letters], range_)


_LETTER: Mapping[str, Any] = {
    "_offset": pl.Int64,
    "event_id": pl.String,
    "producer_id": pl.String,
    "seq": pl.Int64,
}


def _producer(topic: str, value: bytes | None, registry: Registry | None) -> dict[str, Any]:
    """Return whose event a refused record is, where it can be read."""
    try:
        expected = TOPICS[topic].records if topic in TOPICS else None
        record = codec.decode(value or b"", registry, expected, mend=True)
    except ContractError:
        record = None
    return {name: getattr(record, name, None) for name in ("event_id", "producer_id", "seq")}
