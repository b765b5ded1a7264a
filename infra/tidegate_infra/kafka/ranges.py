"""How the messages of one partition become ranges, and what a claim of a range says.

The pure half of `tidegate_infra.kafka.claims`: it knows no Kafka client and no clock.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tidegate.errors import InvariantBroken

# Brokers refuse more than offset.metadata.max.bytes, 4,096 by default.
METADATA_LIMIT_BYTES = 4_000

Place = tuple[str, int]
"""Topic without the installation's prefix, and partition."""


class Message(Protocol):
    """What is read of a Kafka message; `confluent_kafka.Message` has it."""

    def offset(self) -> int | None:
        """Position in the partition."""

    def key(self) -> bytes | None:
        """Key as sent."""

    def value(self) -> bytes | None:
        """Value as sent."""

    def timestamp(self) -> tuple[int, int]:
        """Type of the time, and milliseconds since the epoch."""

    def headers(self) -> Any:
        """Headers as sent."""

    def __len__(self) -> int:
        """Bytes of the value."""


@dataclass(slots=True, kw_only=True, eq=False)
class Range:
    """Consecutive messages of one partition, handled as one: effected once, and named.

    Parameters
    ----------
    topic
        Topic without the installation's prefix.
    topic_id
        Kafka's id of the topic: a topic made anew under an old name is another one.
    partition
        Partition.
    lo, hi
        First and last offset, both included. Not every offset between them need have a message.
    messages
        The messages, by offset; none when compaction removed them all before a redo.
    redo
        True when a process claimed it before and may have died in the middle of it.
    epoch
        Assignment it was read in; worthless in any other.
    prices
        Hash of the price table in force when it was claimed.
    """

    topic: str
    topic_id: str
    partition: int
    lo: int
    hi: int
    messages: Sequence[Message]
    redo: bool
    epoch: int
    prices: str = ""

    @property
    def name(self) -> str:
        """Name of its effects, the same in every try."""
        return f"{self.topic_id}:{self.partition}:{self.lo}-{self.hi}"

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Claim:
    """What a committed offset's metadata says of the range that begins there."""

    hi: int
    n: int
    topic_id: str
    prices: str = ""

    def metadata(self) -> str:
        """Text to commit.

        Raises
        ------
        InvariantBroken
            The text is longer than a broker takes.
        """
        text = json.dumps({"hi": self.hi, "n": self.n, "topic_id": self.topic_id, "prices": self.prices})
        if len(text.encode()) > METADATA_LIMIT_BYTES:
            raise InvariantBroken(
                f"a claim's metadata has {len(text.encode())} bytes, at most {METADATA_LIMIT_BYTES} are "
                "allowed: "
                f"name price tables by their hash"
            )
        return text


def settled_metadata(topic_id: str) -> str:
    """Metadata of an offset with nothing claimed: it still says which topic was read."""
    return json.dumps({"topic_id": topic_id})


def read_metadata(metadata: str | None, topic_id: str, where: str) -> Claim | None:
    """Pending claim in a committed offset's metadata.

    Parameters
    ----------
    metadata
        As committed; empty or None when another tool moved the offset.
    topic_id
        Id of the topic as it is now.
    where
        Topic and partition, for the message.

    Raises
    ------
    InvariantBroken
        The offset was committed for a topic of the same name that is gone, or nobody we know wrote it.
    """
    if not metadata:
        return None
    try:
        fields = json.loads(metadata)
        committed_for = fields["topic_id"]
        claim = Claim(fields["hi"], fields["n"], committed_for, fields["prices"]) if "hi" in fields else None
    except (ValueError, KeyError, TypeError):
        raise InvariantBroken(
            f"{where}: the committed offset carries {metadata!r}, which is no claim; "
            f"find out what else commits in this consumer group"
        ) from None
    if committed_for != topic_id:
        raise made_anew(where, committed_for, topic_id)
    return claim


def made_anew(where: str, before: str, now: str) -> InvariantBroken:
    """What is wrong when offsets belong to a topic of the same name that is gone."""
    return InvariantBroken(
        f"{where}: the offset was committed for topic id {before}, the topic now has {now}: it was "
        "deleted and made again; delete the consumer group's offsets of it to begin with the new one"
    )


@dataclass(slots=True)
class Limits:
    """When a range is complete.

    Parameters
    ----------
    rows
        Most messages in a range.
    bytes
        A range is complete when its values have this many bytes; one fetch may exceed it.
    seconds
        Longest time that a message waits for company.
    """

    rows: int
    bytes: int
    seconds: float


@dataclass(slots=True)
class Track:
    """What is held of one assigned partition, in order.

    Parameters
    ----------
    lo
        Next offset of which no range was made yet.
    pending
        Claim to redo first, over exactly its offsets.
    compacted
        Compaction may remove messages, so that their number in a redo says nothing.
    """

    lo: int
    pending: Claim | None = None
    compacted: bool = False
    position: int = field(init=False)
    settled: int = field(init=False)
    messages: list[Message] = field(default_factory=list)
    bytes: int = 0
    bytes_out: int = 0
    since_s: float = 0.0
    out: Range | None = None
    claimed: bool = False
    _gaps: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.position = self.settled = self.lo

    def add(self, messages: Sequence[Message], now_s: float) -> bool:
        """Take messages that follow what was taken before.

        Returns
        -------
        bool
            False when offsets are missing that were not looked for twice: then only what stands before them
            was taken, and the partition is to be read again from `position`.

        Raises
        ------
        InvariantBroken
            They begin before the expected position.
        """
        first, last = messages[0].offset(), messages[-1].offset()
        assert first is not None
        assert last is not None
        if first < self.position:
            raise InvariantBroken(
                f"read offset {first} where {self.position} or a later one was expected: "
                f"going on would count twice; start the process again"
            )
        if last + 1 - self.position != len(messages):
            offsets = [message.offset() or 0 for message in messages]
            behind = [self.position, *(offset + 1 for offset in offsets)]
            gaps = {gap for gap in zip(behind, offsets, strict=False) if gap[0] != gap[1]}
            if (doubted := self._doubted(gaps)) is not None:
                self._take(messages[: bisect_left(offsets, doubted)], now_s)
                return False
        self._take(messages, now_s)
        return True

    def passed(self, offset: int) -> bool:
        """Know that nothing unread stands before `offset`, at the log's end; False as for `add`."""
        if offset > self.position and self._doubted({(self.position, offset)}) is not None:
            return False
        self.position = max(self.position, offset)
        return True

    def _doubted(self, gaps: set[tuple[int, int]]) -> int | None:
        """Where the first of the gaps begins that the last look did not show: a client may have skipped it.

        Those that two looks show are the log's own, as transactions leave them.
        """
        new = gaps - self._gaps
        if self.compacted or not new:
            return None
        self._gaps = gaps
        return min(new)[0]

    def _take(self, messages: Sequence[Message], now_s: float) -> None:
        if not messages:
            return
        if not self.messages:
            self.since_s = now_s
        self.messages.extend(messages)
        self.bytes += sum(map(len, messages))
        self.position = (messages[-1].offset() or 0) + 1

    def full(self, limits: Limits) -> bool:
        """Whether reading on would only fill memory."""
        return self.pending is None and (len(self.messages) >= limits.rows or self.bytes >= limits.bytes)

    def waited(self, limits: Limits, now_s: float) -> bool:
        """Whether the oldest message has waited long enough for company."""
        return bool(self.messages) and now_s - self.since_s >= limits.seconds

    def free_at(self) -> int:
        """Offset below which everything is settled."""
        return self.settled if self.out or self.messages or self.pending else self.position

    def due(self, limits: Limits, now_s: float, flush: bool) -> bool:
        """Whether a range can be made now; `flush` makes one of whatever there is."""
        if self.out is not None:
            return False
        if self.pending is not None:
            return self.position > self.pending.hi
        return bool(self.messages) and (flush or self.full(limits) or self.waited(limits, now_s))

    def take(
        self, topic: str, topic_id: str, partition: int, epoch: int, limits: Limits, now_s: float
    ) -> Range:
        """Make the next range of what is held; `due` must be true.

        Raises
        ------
        InvariantBroken
            The log does not give back what a claim counted.
        """
        held = self.bytes
        if self.pending is not None:
            made = self._redo(self.pending, topic, topic_id, partition, epoch)
        else:
            messages = self._cut(min(len(self.messages), limits.rows))
            hi = messages[-1].offset()
            assert hi is not None
            made = Range(
                topic=topic,
                topic_id=topic_id,
                partition=partition,
                lo=self.lo,
                hi=hi,
                messages=messages,
                redo=False,
                epoch=epoch,
            )
        self.out, self.claimed = made, made.redo
        self.bytes_out = held - self.bytes
        self.lo = made.hi + 1
        self.since_s = now_s
        return made

    def settle(self) -> None:
        """Forget the range that is out: its effects stand."""
        assert self.out is not None
        self.settled = self.out.hi + 1
        self.out, self.claimed, self.bytes_out = None, False, 0

    def _redo(self, claim: Claim, topic: str, topic_id: str, partition: int, epoch: int) -> Range:
        messages = self._cut(bisect_right(self.messages, claim.hi, key=lambda message: message.offset() or 0))
        if len(messages) != claim.n and not self.compacted:
            raise InvariantBroken(
                f"{topic}[{partition}]: the claim of offsets {self.lo} to {claim.hi} counted {claim.n} "
                "messages, the "
                f"log now gives {len(messages)}: it is not the log that was claimed"
            )
        self.pending = None
        return Range(
            topic=topic,
            topic_id=topic_id,
            partition=partition,
            lo=self.lo,
            hi=claim.hi,
            messages=messages,
            redo=True,
            epoch=epoch,
            prices=claim.prices,
        )

    def _cut(self, count: int) -> list[Message]:
        head, self.messages = self.messages[:count], self.messages[count:]
        self.bytes = sum(map(len, self.messages))
        return head
