"""How far event time has come in each source partition, and the heartbeats that say so, given the clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.records import Heartbeat, SourceProgress
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK

Source = tuple[str, int]
"""Topic without prefix, and partition."""

RATINGS = (FEEDBACK, EVALUATIONS)


@dataclass(frozen=True, slots=True)
class Hold:
    """What is told of the calls as soon as the ratings have been read this far.

    Parameters
    ----------
    until
        Where the logs of the ratings ended.
    us
        What the calls' partitions had reached before.
    """

    until: Mapping[Source, int]
    us: Mapping[int, int]

    def is_over(self, positions: Mapping[Source, int]) -> bool:
        """Whether everything below is settled."""
        return all(positions[source] >= end for source, end in self.until.items())


@dataclass(slots=True)
class Watermarks:
    """Watermarks of the partitions of this worker, of one assignment.

    A rating is in its log by the time calls of later event times are read. After a stop, though, calls may
    come first; so what they reach is told only when the ratings are settled to where their logs ended then.

    Parameters
    ----------
    delay_us
        How far a watermark stays behind the latest event, in microseconds.
    follows_clock
        Whether a partition that has been read to its end follows the clock: for live traffic. Replays of the
        past move by their events alone.
    """

    delay_us: int
    follows_clock: bool
    epoch: int = -1
    by_partition: dict[int, int] = field(default_factory=dict)
    told: Mapping[int, int] = field(default_factory=dict)
    hold: Hold | None = None

    def settled(self, partition: int, latest_us: int | None, end_us: int | None) -> None:
        """Take in a settled range of calls.

        Parameters
        ----------
        partition
            Of llm.calls.
        latest_us
            Latest event time in it, if it holds events.
        end_us
            Time of an end of stream in it: no earlier event will come, so it counts without delay.
        """
        if latest_us is not None:
            self._raise(partition, latest_us - self.delay_us)
        if end_us is not None:
            self._raise(partition, end_us)

    def heartbeat(
        self,
        worker: str,
        epoch: int,
        positions: Mapping[Source, int],
        topic_ids: Mapping[str, str],
        ends: Mapping[Source, int],
        partition_count: int,
        clock_us: int,
    ) -> Heartbeat:
        """Return what this worker says of its partitions.

        Parameters
        ----------
        worker, epoch
            Who says it, in which assignment.
        positions
            Next unsettled offset of each assigned partition.
        topic_ids
            Kafka's id of each topic.
        ends
            Where the log of each ended, asked after `clock_us` was read; nothing when Kafka did not answer.
        partition_count
            Partitions of llm.calls.
        clock_us
            The clock, in microseconds since the epoch.
        """
        at_end = {source for source, offset in positions.items() if ends.get(source) == offset}
        if self.follows_clock:
            for topic, partition in at_end:
                if topic == CALLS:
                    self._raise(partition, clock_us - self.delay_us)
        self._release(positions)
        if self.hold is None and ends:
            until = {source: ends[source] for source in positions if source[0] in RATINGS}
            self.hold = Hold(until, dict(self.by_partition))
            self._release(positions)
        return Heartbeat(
            worker=worker,
            epoch=epoch,
            sources=[
                SourceProgress(
                    topic_id=topic_ids[topic],
                    topic=topic,
                    partition=partition,
                    next_offset=offset,
                    watermark=self.told.get(partition) if topic == CALLS else None,
                    at_end=(topic, partition) in at_end,
                )
                for (topic, partition), offset in sorted(positions.items())
            ],
            partition_count=partition_count,
            ts=clock_us,
        )

    def begin(self, epoch: int) -> None:
        """Forget everything when the assignment is another one: the journal remembers what was said."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.by_partition.clear()
            self.told, self.hold = {}, None

    def _release(self, positions: Mapping[Source, int]) -> None:
        if self.hold is not None and self.hold.is_over(positions):
            self.told, self.hold = self.hold.us, None

    def _raise(self, partition: int, watermark_us: int) -> None:
        self.by_partition[partition] = max(watermark_us, self.by_partition.get(partition, watermark_us))
