"""Which messages of a partition are copies of earlier ones.

A message is a duplicate when an earlier one of the same partition, in the present or the previous block of
offsets, has the same identity. That is a function of the log alone: a redo, another process and the other
stage see the same duplicates, and after an assignment two blocks of the log rebuild what must be known.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, TopicPartition

from tidegate import codec
from tidegate.errors import DependencyUnavailable
from tidegate.registry import SchemaRegistry
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import client
from tidegate_infra.kafka.batches import decode_batch
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER
from tidegate_infra.kafka.ranges import Message, Place, Range
from tidegate_infra.settings import Settings

_STALLED_S = 30.0
_BATCH = 10_000

Identity = Hashable | None


_RATINGS = {FEEDBACK: "Feedback", EVALUATIONS: "Evaluation"}
_TOPICS = (CALLS, *_RATINGS)


def identities(
    topic: str, messages: Sequence[Message], registry: codec.Registry | None = None, *, slow: bool = False
) -> list[Identity]:
    """Return what tells whether messages are copies, for each; None for what is nobody's copy.

    Parameters
    ----------
    topic
        Calls, feedback or evaluations. A call's identity is its Kafka key, whether or not the value can be
        read. A rating's is the record's id, and whether its series is there: it may come a second time with
        the series that it lacked, and both are taken. It is read as what counts is read, so that no copy
        counts twice.
    messages
        Messages of one or several partitions.
    registry
        Where ids of Confluent framing are looked up.
    slow
        Read with the decoder that no bytes can crash.
    """
    if topic == CALLS:
        return [_key(message) for message in messages]
    columns = ("event_id", "series")
    # One that breaks a rule has copies too: put back under a milder rule, they must not all count.
    batch = decode_batch(messages, _RATINGS[topic], columns, slow=slow, ruled=False, registry=registry)
    ids, series = batch.frame.get_column("event_id"), batch.frame.get_column("series")
    found: list[Identity] = [None] * len(messages)
    for row, event_id, has_series in zip(batch.rows, ids, series.is_not_null(), strict=True):
        found[row] = (event_id, has_series, _requeued(messages[row]))
    return found


def _key(message: Message) -> Identity:
    key = message.key()
    if key is None:
        return None
    source = _requeued(message)
    return key if source is None else (key, source)


def _requeued(message: Message) -> bytes | None:
    headers = message.headers()
    return dict(headers).get(REQUEUED_HEADER) if headers else None


class Seen:
    """Identities of the present and the previous block of offsets of one partition.

    Parameters
    ----------
    block
        Offsets in a block.

    Notes
    -----
    Exact: identities are kept as they are, about 120 bytes for each offset of two blocks when they are keys
    of 36 bytes. Time is one look-up in a set an offset.

    Examples
    --------
    >>> seen = Seen(block=4)
    >>> seen.mark([0, 1, 2, 9], ["a", "b", "a", "a"])
    [False, False, True, False]
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._number = -1
        self._present: set[Identity] = set()
        self._previous: set[Identity] = set()

    def mark(self, offsets: Iterable[int], identities: Iterable[Identity]) -> list[bool]:
        """Say of messages, in the order of their offsets, which are duplicates, and remember them."""
        marks = []
        for offset, identity in zip(offsets, identities, strict=True):
            if offset // self._block != self._number:
                self._turn(offset // self._block)
            present = self._present
            marks.append(identity is not None and (identity in present or identity in self._previous))
            present.add(identity)
        return marks

    def _turn(self, number: int) -> None:
        self._previous = self._present if number == self._number + 1 else set()
        self._present = set()
        self._number = number


class Duplicates:
    """Duplicates among calls, feedback and evaluations, partition by partition.

    Parameters
    ----------
    settings
        Where Kafka is, and `duplicate_block`, the offsets in a block.
    meanwhile
        Called at least once a second while the log is read again, which can take minutes.
    """

    def __init__(self, settings: Settings, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._meanwhile = meanwhile
        url = settings.schema_registry_url
        self._registry = SchemaRegistry(url) if url else None
        self._epoch = -1
        self._partitions: dict[Place, tuple[int, Seen]] = {}

    def mark(self, ranges: Sequence[Range]) -> dict[str, list[bool]]:
        """Say of each message of each range whether it is a duplicate, by the range's name.

        Ranges of other topics are left out.

        What was seen before is read from the log whenever a range does not follow the last one marked of its
        partition: after an assignment, a redo or a lost claim.

        Raises
        ------
        DependencyUnavailable
            The log could not be read.
        """
        known = [range_ for range_ in ranges if range_.topic in _TOPICS]
        # What was claimed when the process died is redone: whatever crashed it is then read slowly.
        slow = any(range_.redo for range_ in known)
        self._load({range_.place: range_.lo for range_ in known if not self._follows(range_)}, slow=slow)
        marks = {}
        for topic in _TOPICS:
            alike = [range_ for range_ in known if range_.topic == topic]
            messages = [message for range_ in alike for message in range_.messages]
            found = iter(identities(topic, messages, self._registry, slow=slow) if messages else ())
            for range_ in alike:
                seen = self._partitions[range_.place][1]
                marks[range_.name] = seen.mark(_offsets(range_.messages), islice(found, len(range_.messages)))
                self._partitions[range_.place] = range_.hi + 1, seen
        return marks

    def _follows(self, range_: Range) -> bool:
        if range_.epoch != self._epoch:
            self._epoch = range_.epoch
            self._partitions.clear()
        known = self._partitions.get(range_.place)
        return known is not None and known[0] == range_.lo

    def _load(self, before: Mapping[Place, int], *, slow: bool) -> None:
        """Read the log again, from the beginning of the block before the one of each offset."""
        block = self._settings.duplicate_block
        seen = {place: Seen(block) for place in before}
        spans = {
            place: (max(0, (offset // block - 1) * block), offset)
            for place, offset in before.items()
            if offset
        }
        if spans:
            for place, messages in _read(self._settings, spans, self._meanwhile):
                found = identities(place[0], messages, self._registry, slow=slow)
                seen[place].mark(_offsets(messages), found)
        self._partitions |= {place: (offset, seen[place]) for place, offset in before.items()}


def _offsets(messages: Iterable[Message]) -> list[int]:
    return [message.offset() or 0 for message in messages]


def _read(
    settings: Settings, spans: Mapping[Place, tuple[int, int]], meanwhile: Callable[[], None]
) -> Iterator[tuple[Place, Sequence[Message]]]:
    """Messages of each `[first, before)` that the log still has, in batches of one partition."""
    topics = {settings.topic_prefix + topic: topic for topic, _ in spans}
    positions = {place: first for place, (first, _) in spans.items()}
    consumer = client.consumer(
        settings, "duplicates", enable_partition_eof=True, fetch_wait_max_ms=20, fetch_queue_backoff_ms=10
    )
    try:
        consumer.assign([_at(settings, place, first) for place, first in positions.items()])
        moved_s = time.monotonic()
        while positions:
            meanwhile()
            # Asked for more than there is, it would wait until the time is over.
            most = min(_BATCH, sum(spans[place][1] - position for place, position in positions.items()))
            runs: defaultdict[Place, list[Message]] = defaultdict(list)
            ended = set()
            read: list[Any] = consumer.consume(most, 0.1)
            for message in read:
                place = (topics[message.topic()], message.partition()) if message.topic() else None
                error = message.error()
                if place not in positions:
                    continue
                if error is None:
                    positions[place] = message.offset() + 1
                    if message.offset() < spans[place][1]:
                        runs[place].append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(place)
            yield from runs.items()
            done = ended | {place for place, at in positions.items() if at >= spans[place][1]}
            if done:
                consumer.pause([_at(settings, place) for place in done])
            for place in done:
                del positions[place]
            if runs or done:
                moved_s = time.monotonic()
            elif time.monotonic() - moved_s > _STALLED_S:
                (topic, partition), position = next(iter(positions.items()))
                raise DependencyUnavailable(
                    f"{settings.topic_prefix}{topic}[{partition}]: nothing read from offset {position} for "
                    f"{_STALLED_S:.0f} s, {spans[topic, partition][1]} was to be reached; is Kafka up?"
                )
    finally:
        consumer.close()


def _at(settings: Settings, place: Place, offset: int = OFFSET_INVALID) -> TopicPartition:
    return TopicPartition(settings.topic_prefix + place[0], place[1], offset)
