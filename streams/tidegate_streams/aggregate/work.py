"""Everything that ranges of one topic cause, as data: messages for the journal, dead letters, event times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress

import polars as pl

from tidegate import codec
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka.batches import Batch, Rejected, decode_batch
from tidegate_infra.kafka.dead_letters import DeadLetter
from tidegate_infra.kafka.ranges import Message, Range
from tidegate_infra.prices import PriceBook
from tidegate_streams.aggregate import columns, journal, ratings
from tidegate_streams.aggregate.journal import Entry
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk

STAGE = "aggregate"

_READ = {
    CALLS: ("LLMCall", columns.CALL_COLUMNS),
    FEEDBACK: ("Feedback", ratings.FEEDBACK_COLUMNS),
    EVALUATIONS: ("Evaluation", ratings.EVALUATION_COLUMNS),
}


@dataclass(slots=True)
class Work:
    """What ranges of one topic cause.

    Parameters
    ----------
    ranges
        The ranges.
    entries
        Messages for the journal.
    dead
        What was refused, with the number of its range.
    latest_us, ends_us
        By number of the range: its latest event time, and the time of an end of stream in it.
    counted, duplicates, alone
        How many events count, how many are copies, and how many were decoded one by one.
    """

    ranges: Sequence[Range]
    entries: list[Entry] = field(default_factory=list)
    dead: list[tuple[int, Rejected]] = field(default_factory=list)
    latest_us: dict[int, int] = field(default_factory=dict)
    ends_us: dict[int, int] = field(default_factory=dict)
    counted: int = 0
    duplicates: int = 0
    alone: int = 0

    def dead_letters(self) -> Iterator[tuple[DeadLetter, Message]]:
        """What goes to the dead letters."""
        for number, (message, reason, detail) in self.dead:
            range_ = self.ranges[number]
            yield (
                DeadLetter(
                    topic=range_.topic,
                    topic_id=range_.topic_id,
                    partition=range_.partition,
                    offset=message.offset(),
                    stage=STAGE,
                    reason=reason,
                    error=detail,
                ),
                message,
            )


def forward(ranges: Sequence[Range], partitions: int) -> Work:
    """Forward specifications or actions.

    Parameters
    ----------
    ranges
        Of llm.rollouts or llm.actions.
    partitions
        Of the journal.
    """
    work = Work(ranges)
    for number, range_ in enumerate(ranges):
        forwarded, rejected = journal.control(range_, partitions)
        work.entries += forwarded
        work.dead += [(number, one) for one in rejected]
        work.counted += len(forwarded)
    return work


def shrink(
    ranges: Sequence[Range],
    duplicates: Sequence[Sequence[bool]],
    book: PriceBook,
    partitions: int,
    registry: codec.Registry | None = None,
) -> Work:
    """Shrink events.

    Parameters
    ----------
    ranges
        Of one topic, all redone or none.
    duplicates
        Of each range, which of its messages are copies.
    book
        Prices that the claims name.
    partitions
        Of the journal.
    registry
        Where ids of Confluent framing are looked up.
    """
    topic = ranges[0].topic
    record, wanted = _READ[topic]
    messages: list[Message] = []
    numbers: list[int] = []
    for number, (range_, copies) in enumerate(zip(ranges, duplicates, strict=True)):
        first = list(compress(range_.messages, (not copy for copy in copies)))
        messages += first
        numbers += [number] * len(first)
    batch = decode_batch(messages, record, wanted, slow=ranges[0].redo, registry=registry)
    shrunk = _shrunk(topic, batch, messages, numbers, book)
    places: dict[int, int] = {}
    if batch.rejected or batch.ends:
        places = {id(message): number for message, number in zip(messages, numbers, strict=True)}
    return Work(
        ranges,
        entries=list(journal.pack(ranges, shrunk, partitions)),
        dead=[(places[id(one.message)], one) for one in batch.rejected],
        latest_us=shrunk.latest_us,
        ends_us=_latest((places[id(message)], end.ts) for message, end in batch.ends),
        counted=batch.frame.height,
        duplicates=sum(map(sum, duplicates)),
        alone=batch.alone,
    )


def _shrunk(
    topic: str, batch: Batch, messages: Sequence[Message], numbers: Sequence[int], book: PriceBook
) -> Shrunk:
    times_ms = pl.Series([message.timestamp()[1] for message in messages], dtype=pl.Int64)
    append_us = times_ms.gather(batch.rows) * 1_000
    frame = batch.frame.with_columns(pl.Series(RANGE, numbers, dtype=pl.UInt32).gather(batch.rows))
    if topic == CALLS:
        return columns.calls(frame, append_us, book)
    return (ratings.feedback if topic == FEEDBACK else ratings.evaluations)(frame, append_us)


def _latest(ends: Iterator[tuple[int, int]]) -> dict[int, int]:
    latest: dict[int, int] = {}
    for number, ts_us in ends:
        latest[number] = max(ts_us, latest.get(number, ts_us))
    return latest
