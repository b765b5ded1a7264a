"""Which messages of a partition are copies of earlier ones.

A message is a duplicate when an earlier one of the same partition, in the present or the previous block of
offsets, has the same identity. That is a function of the log alone: a redo, another process and the other
stage see the same duplicates, and after an assignment two blocks of the log rebuild what must be known.
"""

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from tidegate import codec
from tidegate.errors import ContractError, DependencyUnavailable
from tidegate.records import Evaluation, Feedback
from tidegate.registry import SchemaRegistry
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import client
from tidegate_infra.kafka.ranges import Message, Range
from tidegate_infra.settings import Settings

REQUEUED_HEADER = "tidegate-requeued"
"""Header of a dead letter that was put back: its source's `topic id:partition:offset`.

It is part of the identity, since the copy that could not be read had the same key.
"""

_STALLED_S = 30.0

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
    """Duplicates of one topic, partition by partition.

    Parameters
    ----------
    settings
        Where Kafka is, and `duplicate_block`, the offsets in a block.
    topic
        Topic without the installation's prefix, one of `IDENTITIES`.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        url = settings.schema_registry_url
        self._identity = IDENTITIES[topic]
        self._registry = SchemaRegistry(url) if url else None
        self._epoch = -1
        self._partitions: dict[int, tuple[int, Seen]] = {}

    def load(self, partition: int, before_offset: int) -> None:
        """Read the log again from the beginning of the block before the one of `before_offset`.

        Raises
        ------
        DependencyUnavailable
            The log could not be read.
        """
        block = self._settings.duplicate_block
        seen = Seen(block)
        first = max(0, (before_offset // block - 1) * block)
        for messages in _read(self._settings, self._topic, partition, first, before_offset):
            self._mark(seen, messages)
        self._partitions[partition] = before_offset, seen

    def mark(self, range_: Range) -> list[bool]:
        """Say of each message of a range whether it is a duplicate.

        What was seen before is read from the log whenever the range does not follow the last one marked:
        after an assignment, a redo or a lost claim.
        """
        if range_.epoch != self._epoch:
            self._epoch = range_.epoch
            self._partitions.clear()
        partition = range_.partition
        if partition not in self._partitions or self._partitions[partition][0] != range_.lo:
            self.load(partition, range_.lo)
        seen = self._partitions[partition][1]
        marks = self._mark(seen, range_.messages)
        self._partitions[partition] = range_.hi + 1, seen
        return marks

    def _mark(self, seen: Seen, messages: Sequence[Message]) -> list[bool]:
        identities = [self._identity(message, self._registry) for message in messages]
        return seen.mark([message.offset() or 0 for message in messages], identities)


def _read(
    settings: Settings, topic: str, partition: int, first: int, before: int
) -> Iterable[Sequence[Message]]:
    """Messages of `[first, before)` that the log still has, in batches."""
    if first >= before:
        return
    real = settings.topic_prefix + topic
    consumer = client.consumer(settings, "duplicates", enable_partition_eof=True)
    try:
        consumer.assign([TopicPartition(real, partition, first)])
        position, moved_s = first, time.monotonic()
        while position < before:
            found: list[Message] = []
            ended = False
            read: list[Any] = consumer.consume(10_000, 1.0)
            for message in read:
                error = message.error()
                if error is None:
                    found.append(message)
                    position = message.offset() + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended = True
            if found:
                moved_s = time.monotonic()
                yield [message for message in found if (message.offset() or 0) < before]
            if ended:
                return
            if time.monotonic() - moved_s > _STALLED_S:
                raise DependencyUnavailable(
                    f"{real}[{partition}]: nothing read from offset {position} for {_STALLED_S:.0f} s, "
                    f"{before} "
                    f"was to be reached; is Kafka up?"
                )
    finally:
        consumer.close()
