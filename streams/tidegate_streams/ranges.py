"""Ranges once: a range of source offsets counts when all its parts are there, and never a second time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from tidegate.errors import InvariantBroken


class RangeHead(Protocol):
    """What every journal message but a heartbeat says of the range that it is a part of."""

    topic_id: str
    topic: str
    partition: int
    lo: int
    hi: int
    part: int
    parts: int
    digest: int


Payload = TypeVar("Payload")

Source = tuple[str, int]
"""Topic id and partition."""


@dataclass(slots=True)
class Ranges(Generic[Payload]):
    """Which source offsets of one journal partition have been applied.

    A worker of stage 1 that dies in the middle of a range leaves some of its parts; whoever takes over
    writes all of them again, with the same digest when the content is the same. So parts are collected by
    digest, and a range whose end has been reached is a repetition.
    """

    seen: dict[Source, int] = field(default_factory=dict)
    waiting: dict[tuple[Source, int, int], dict[int, Payload]] = field(default_factory=dict)
    repeated: int = 0

    def take(self, head: RangeHead, payload: Payload) -> list[Payload]:
        """Return all parts of the range in order when this one completes it, else nothing.

        Raises
        ------
        InvariantBroken
            When the range begins inside what has been applied and ends outside: it would count twice.
        """
        source = (head.topic_id, head.partition)
        applied = self.seen.get(source, -1)
        if head.hi <= applied:
            self.repeated += 1
            return []
        if head.lo <= applied:
            raise InvariantBroken(
                f"range {head.lo}-{head.hi} of {head.topic} partition {head.partition} overlaps what was "
                f"applied up to {applied}; two processes of stage 1 claimed the same offsets: stop stage 1, "
                f"compare their claims before starting again"
            )
        parts = self.waiting.setdefault((source, head.hi, head.digest), {})
        parts[head.part] = payload
        if len(parts) < head.parts:
            return []
        self.seen[source] = head.hi
        for key in list(self._passed(source, head.hi)):
            del self.waiting[key]
        return [parts[number] for number in sorted(parts)]

    def _passed(self, source: Source, hi: int) -> Iterator[tuple[Source, int, int]]:
        return (key for key in self.waiting if key[0] == source and key[1] <= hi)
