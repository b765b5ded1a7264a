"""How far event time has come, as far as the journal says."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tidegate.records import Heartbeat, SourceProgress
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK


@dataclass(slots=True)
class Gate:
    """How far one partition of feedback or evaluations lets event time go.

    A rating is in its log by the time calls of later event times are read. After a stop, though, calls may
    come first. So what all calls have reached is let through only when these ratings are settled to where
    their log ended then.
    """

    us: int | None = None
    """Event time (us since the epoch) that was let through; None before any was."""
    until: int | None = None
    """Offset up to which ratings have to be settled before more is; None when nothing waits."""
    waiting_us: int | None = None
    """What is let through then."""

    def hear(self, next_offset: int, end: int, reached_us: int | None) -> None:
        """Take in that ratings are settled up to an offset.

        Parameters
        ----------
        next_offset
            The next one to be settled.
        end
            Where the log ended; negative when that is not known.
        reached_us
            Event time of all calls, if it is known.
        """
        if self.until is not None:
            # A broker that lost the end of its log must not hold back for ever what waits for it.
            self.until = min(self.until, end) if end >= 0 else self.until
            if next_offset >= self.until:
                self.us, self.until = self.waiting_us, None
        if self.until is None and end >= 0 and reached_us is not None:
            if next_offset >= end:
                self.us = reached_us
            else:
                self.until, self.waiting_us = end, reached_us


@dataclass(slots=True)
class Watermark:
    """The least watermark over all partitions of the calls, as far as ratings let it through; it never falls.

    A partition that nobody has spoken of holds everything back: silence is not progress. When a topic was
    deleted and made again, what was heard of the old one counts no more.
    """

    topic_ids: dict[str, str] = field(default_factory=dict)
    heard_us: dict[int, int] = field(default_factory=dict)
    gates: dict[tuple[str, int], Gate] = field(default_factory=dict)
    us: int | None = None
    """Event time (us since the epoch) before which no call is expected; None when not yet known."""

    def hear(self, beat: Heartbeat) -> None:
        """Take in what a worker of stage 1 says of its partitions."""
        for source in beat.sources:
            if self.topic_ids.get(source.topic) != source.topic_id:
                self._begin(source)
            if source.topic == CALLS and source.watermark is not None:
                heard_us = self.heard_us.get(source.partition, source.watermark)
                self.heard_us[source.partition] = max(heard_us, source.watermark)
        reached_us = _least(self.heard_us.get(partition) for partition in range(beat.partition_count))
        for topic, count in (
            (FEEDBACK, beat.feedback_partition_count),
            (EVALUATIONS, beat.evaluations_partition_count),
        ):
            for partition in range(count):
                self.gates.setdefault((topic, partition), Gate())
        for source in beat.sources:
            if source.end is not None:
                gate = self.gates.setdefault((source.topic, source.partition), Gate())
                gate.hear(source.next_offset, source.end, reached_us)
        least_us = _least([reached_us, *(gate.us for gate in self.gates.values())])
        if least_us is not None:
            self.us = least_us if self.us is None else max(self.us, least_us)

    def _begin(self, source: SourceProgress) -> None:
        self.topic_ids[source.topic] = source.topic_id
        if source.topic == CALLS:
            self.heard_us.clear()
        for place in [place for place in self.gates if place[0] == source.topic]:
            self.gates[place] = Gate()


def _least(marks_us: Iterable[int | None]) -> int | None:
    """The least of some marks; None when there is none, or one is not known."""
    known = list(marks_us)
    return min((us for us in known if us is not None), default=None) if None not in known else None
