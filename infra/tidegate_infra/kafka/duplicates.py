"""Which messages of a partition are copies of earlier ones.

A message is a duplicate when an earlier one of the same partition, in the present or the previous block of
offsets, has the same identity. That is a function of the log alone: a redo, another process and the other
stage see the same duplicates, and after an assignment two blocks of the log rebuild what must be known.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, TopicPartition

from tidegate import codec
from tidegate.errors import ContractError, DependencyUnavailable
from tidegate.records import Evaluation, Feedback
from tidegate.registry import SchemaRegistry
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import client
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER
from tidegate_infra.kafka.ranges import Message, Place, Range
from tidegate_infra.settings import Settings

_STALLED_S = 30.0
_BATCH = 10_000

Identity = Hashable | None


def key_identity(message: Message, _registry: codec.Registry | None = None) -> Identity:
    """Identity of a call: its Kafka key, whether or not the value can be read; none without a key."""
    key = message.key()
    if key is None:
        return None
    source = _requeued(message)
    return key if source is None else (key, source)


def rating_identity(message: Message, registry: codec.Registry | None = None) -> Identity:
    """Identity of feedback and evaluations: the record's id, and whether its series is there.

    Such a record may come a second time with the series that it lacked; both are taken. What cannot be read
    is nobody's copy.
    """
    try:
        record = codec.decode(message.value() or b"", registry, (Feedback, Evaluation))
    except ContractError:
        return None
    return (record.event_id, record.series is not None, _requeued(message))


def _requeued(message: Message) -> bytes | None:
    headers = message.headers()
    return dict(headers).get(REQUEUED_HEADER) if headers else None


IDENTITIES: dict[str, Callable[[Message, codec.Registry | None], Identity]] = {
    CALLS: key_identity,
    FEEDBACK: rating_identity,
    EVALUATIONS: rating_identity,
}


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
        known = [range_ for range_ in ranges if range_.topic in IDENTITIES]
        self._load({range_.place: range_.lo for range_ in known if not self._follows(range_)})
        marks = {}
        for range_ in known:
            place = range_.place
            seen = self._partitions[place][1]
            marks[range_.name] = self._mark(seen, range_.topic, range_.messages)
            self._partitions[place] = range_.hi + 1, seen
        return marks

    def _follows(self, range_: Range) -> bool:
        if range_.epoch != self._epoch:
            self._epoch = range_.epoch
            self._partitions.clear()
        known = self._partitions.get(range_.place)
        return known is not None and known[0] == range_.lo

    def _load(self, before: Mapping[Place, int]) -> None:
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
                self._mark(seen[place], place[0], messages)
        self._partitions |= {place: (offset, seen[place]) for place, offset in before.items()}

    def _mark(self, seen: Seen, topic: str, messages: Sequence[Message]) -> list[bool]:
        identity = IDENTITIES[topic]
        return seen.mark(
            [message.offset() or 0 for message in messages],
            [identity(message, self._registry) for message in messages],
        )


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
