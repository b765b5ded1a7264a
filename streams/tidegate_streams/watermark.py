"""How far event time has come, as far as the journal says."""

from dataclasses import dataclass, field

from tidegate.records import Heartbeat
from tidegate.topics import CALLS


@dataclass(slots=True)
class Watermark:
    """The least watermark over all partitions of the calls, which never falls.

    A partition that nobody has spoken of holds everything back: silence is not progress. When the topic was
    deleted and made again, what was heard of the old one counts no more.
    """

    topic_id: str | None = None
    heard_us: dict[int, int] = field(default_factory=dict)
    us: int | None = None
    """Event time (us since the epoch) before which no call is expected; None when not yet known."""

    def hear(self, beat: Heartbeat) -> None:
        """Take in what a worker of stage 1 says of its partitions."""
        for source in beat.sources:
            if source.topic != CALLS:
                continue
            if source.topic_id != self.topic_id:
                self.topic_id = source.topic_id
                self.heard_us.clear()
            if source.watermark is not None:
                heard = self.heard_us.get(source.partition, source.watermark)
                self.heard_us[source.partition] = max(heard, source.watermark)
        partitions = range(beat.partition_count)
        if partitions and all(partition in self.heard_us for partition in partitions):
            least = min(self.heard_us[partition] for partition in partitions)
            self.us = least if self.us is None else max(self.us, least)
