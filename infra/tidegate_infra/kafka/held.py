"""What is held of the assigned partitions: where to read on, and which ranges are due.

Pure: it knows no Kafka client and no clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tidegate_infra.kafka.ranges import Limits, Place, Range, Track


@dataclass(slots=True)
class Held:
    """Tracks of the assigned partitions, under limits for each and for all.

    Parameters
    ----------
    limits
        When a range is complete.
    most_bytes
        About the most bytes of values held over all partitions, ranges that are out included.
    tracks
        By partition.
    """

    limits: Limits
    most_bytes: int
    tracks: dict[Place, Track] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of values that were read and are not settled."""
        return sum(track.bytes + track.bytes_out for track in self.tracks.values())

    def full(self) -> set[Place]:
        """Partitions of which reading on would only fill memory."""
        too_much = self.bytes >= self.most_bytes
        return {
            place
            for place, track in self.tracks.items()
            if track.full(self.limits) or (too_much and track.pending is None)
        }

    def wait_s(self, now_s: float) -> float:
        """How long the longest waiting message may still wait for company."""
        waiting = [
            track.since_s + self.limits.seconds - now_s
            for track in self.tracks.values()
            if track.messages and not track.out
        ]
        return min(waiting, default=self.limits.seconds)

    def due(self, now_s: float) -> list[Place]:
        """Partitions of which a range can be made."""
        tracks = self.tracks.values()
        # Ranges that are out free memory when they are settled; making small ones in the meantime would not.
        stuck = self.bytes >= self.most_bytes and not any(track.out for track in tracks)
        flush = stuck or any(track.out is None and track.waited(self.limits, now_s) for track in tracks)
        return [place for place, track in self.tracks.items() if track.due(self.limits, now_s, flush)]

    def take(self, topic_id: Callable[[str], str], epoch: int, now_s: float) -> list[Range]:
        """Make the ranges that are due."""
        return [
            self.tracks[topic, partition].take(topic, topic_id(topic), partition, epoch, self.limits, now_s)
            for topic, partition in self.due(now_s)
        ]
