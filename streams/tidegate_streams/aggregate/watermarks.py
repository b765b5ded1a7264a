"""How far event time has come in each source partition, and the heartbeats that say so, given the clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.records import Heartbeat, SourceProgress
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_streams.partials import PANE_US

RATINGS = (FEEDBACK, EVALUATIONS)

Source = tuple[str, int]
"""Topic without prefix, and partition."""

UNKNOWN = -1
"""End of a log of which Kafka did not say where it is."""


@dataclass(slots=True)
class Watermarks:
    """Watermarks of the partitions of this worker, of one assignment.

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

    def passed(self, clock_us: int) -> tuple[int, int]:
        """Return how many panes lie behind what is settled, and behind the clock where that counts.

        When either is another one than at the last heartbeat, the next may end a pane: it need not wait.

        Parameters
        ----------
        clock_us
            The clock, in microseconds since the epoch.
        """
        settled_us = min(self.by_partition.values(), default=0)
        at_end_us = clock_us - self.delay_us if self.follows_clock else 0
        return settled_us // PANE_US, at_end_us // PANE_US

    def heartbeat(
        self,
        worker: str,
        epoch: int,
        positions: Mapping[Source, int],
        topic_ids: Mapping[str, str],
        ends: Mapping[Source, int],
        partition_counts: Mapping[str, int],
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
            Where their logs ended, asked after `clock_us` was read, as far as Kafka said.
        partition_counts
            Partitions of the calls, the feedback and the evaluations, whoever has them.
        clock_us
            The clock, in microseconds since the epoch.
        """
        at_end = {source for source, offset in positions.items() if ends.get(source) == offset}
        if self.follows_clock:
            for topic, partition in at_end:
                if topic == CALLS:
                    self._raise(partition, clock_us - self.delay_us)
        return Heartbeat(
            worker=worker,
            epoch=epoch,
            sources=[
                SourceProgress(
                    topic_id=topic_ids[topic],
                    topic=topic,
                    partition=partition,
                    next_offset=offset,
                    watermark=self.by_partition.get(partition) if topic == CALLS else None,
                    at_end=(topic, partition) in at_end,
                    end=ends.get((topic, partition), UNKNOWN) if topic in RATINGS else None,
                )
                for (topic, partition), offset in sorted(positions.items())
            ],
            partition_count=partition_counts[CALLS],
            feedback_partition_count=partition_counts[FEEDBACK],
            evaluations_partition_count=partition_counts[EVALUATIONS],
            ts=clock_us,
        )

    def begin(self, epoch: int) -> None:
        """Forget everything when the assignment is another one: the journal remembers what was said."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.by_partition.clear()

    def _raise(self, partition: int, watermark_us: int) -> None:
        self.by_partition[partition] = max(watermark_us, self.by_partition.get(partition, watermark_us))
