"""Where the partitions of a group begin: by its committed offsets, else where its process says."""

from collections.abc import Callable, Mapping, Sequence

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tidegate.errors import DependencyUnavailable, TidegateError
from tidegate.topics import TOPICS
from tidegate_infra.kafka import client
from tidegate_infra.kafka.log import EARLIEST, LATEST, Log, Logs, RetentionLoss, cut_short
from tidegate_infra.kafka.ranges import Place, Track, made_anew, read_metadata, settled_metadata

_log = structlog.get_logger(__name__)

_ANSWER_S = 10.0


class Positions:
    """Positions of one consumer group.

    Parameters
    ----------
    logs
        The logs that it reads.
    group
        Its name, for messages.
    start
        Next offset of a partition for which the group has none committed.
    """

    def __init__(self, logs: Logs, group: str, start: Callable[[Log], int]) -> None:
        self._logs = logs
        self._group = group
        self._start = start

    def read(self, consumer: Consumer, places: Sequence[Place]) -> dict[Place, Track] | None:
        """Begin every partition where the group's committed offsets say; None without an answer.

        Raises
        ------
        RetentionLoss
            Events are gone from the log before they were read.
        InvariantBroken
            The log is not the one that was claimed.
        """
        try:
            self._logs.describe()
            committed = consumer.committed([self._logs.at(place) for place in places], timeout=_ANSWER_S)
            lows = self._logs.bounds(places, EARLIEST)
            highs = self._logs.bounds(places, LATEST)
        except KafkaException as error:
            self._tell_unknown(error)
            return None
        if unanswered := [str(tp.error) for tp in committed if tp.error]:
            self._tell_unknown(unanswered)
            return None
        tracks = {}
        for tp in committed:
            topic, partition = place = self._logs.place(tp)
            log = Log(topic, self._logs.topic(topic).id, partition, lows[place], highs[place])
            tracks[place] = self._track(log, tp)
        new = [self._logs.place(tp) for tp in committed if tp.offset < 0]
        if refused := refusals(consumer, self._starts(new, tracks)):
            self._tell_unknown(refused)
            return None
        return tracks

    def why_nothing_at(self, place: Place, position: int) -> TidegateError:
        """Find out why the log has no message where it is to be read on."""
        topic, partition = place
        before = self._logs.topic(topic).id
        try:
            self._logs.describe()
            low, high = (self._logs.bounds([place], spec)[place] for spec in (EARLIEST, LATEST))
        except KafkaException as unknown:
            return client.explained(unknown, f"asking where {topic}[{partition}] begins now")
        log = Log(topic, self._logs.topic(topic).id, partition, low, high)
        if log.topic_id != before:
            return made_anew(f"{topic}[{partition}]", before, log.topic_id)
        if position < low:
            return RetentionLoss(log, position, self._group)
        if position > high:
            return cut_short(log, position, self._group)
        return DependencyUnavailable(
            f"Kafka had no offset {position} of {topic}[{partition}], and has it now: start the process again"
        )

    def _track(self, log: Log, committed: TopicPartition) -> Track:
        pending = None
        if committed.offset >= 0:
            where = f"{log.topic}[{log.partition}]"
            lo, pending = committed.offset, read_metadata(committed.metadata, log.topic_id, where)
        else:
            lo = self._start(log)
        compacted = "compact" in TOPICS[log.topic].config.get("cleanup.policy", "")
        if lo < log.low and not compacted:
            raise RetentionLoss(log, lo, self._group)
        if lo > log.high:
            raise cut_short(log, lo, self._group)
        return Track(lo=lo, pending=pending, compacted=compacted)

    def _starts(self, new: Sequence[Place], tracks: Mapping[Place, Track]) -> list[TopicPartition]:
        """What keeps where new partitions begin: a start at the end must not move with every restart."""
        return [
            self._logs.at(place, tracks[place].lo, settled_metadata(self._logs.topic(place[0]).id))
            for place in new
        ]

    def _tell_unknown(self, why: object) -> None:
        _log.warning("positions_unknown", group=self._group, error=str(why))


def refusals(consumer: Consumer, offsets: Sequence[TopicPartition]) -> list[str]:
    """Commit, and return what was refused or not answered."""
    if not offsets:
        return []
    try:
        answers = consumer.commit(offsets=list(offsets), asynchronous=False)
    except KafkaException as error:
        return [str(error)]
    return [f"{tp.topic}[{tp.partition}]: {tp.error.str()}" for tp in answers if tp.error]
