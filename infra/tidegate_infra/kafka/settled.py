"""What one of our groups has settled, seen from outside: all of a log that is before certain ends, or not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import stamina
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs forget to export

from tidegate.errors import DependencyUnavailable
from tidegate.topics import TOPICS
from tidegate_infra.kafka import client
from tidegate_infra.kafka.log import LATEST, TRANSIENT, Logs
from tidegate_infra.kafka.ranges import Place
from tidegate_infra.settings import Settings

_ANSWER_S = 10.0
Answer = TypeVar("Answer")


class Settled:
    """How far a group has come.

    Parameters
    ----------
    settings
        Where Kafka is.
    group
        Plain name, such as ``sink``.
    topics
        Those that are asked about, without the installation's prefix.
    """

    def __init__(self, settings: Settings, group: str, topics: Sequence[str]) -> None:
        self._prefix = settings.topic_prefix
        self._group = group
        self._topics = list(topics)
        self._logs = Logs(settings, topics)
        # It never subscribes: it only asks what the group has committed, and looks at what is behind that.
        self._consumer = client.consumer(settings, group, enable_partition_eof=True, fetch_wait_max_ms=20)

    def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the offsets behind the last messages of partitions, as of now.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        return self._bounds(places, LATEST)

    def ends_of(self, topic: str) -> dict[Place, int]:
        """Return `ends` of every partition of a topic."""
        return self.ends(self._places([topic]))

    def ends_at(self, until_ms: int) -> dict[Place, int]:
        """Return the offsets behind what was appended to any of the topics before a time.

        Parameters
        ----------
        until_ms
            Since the epoch, by the broker's clock.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        places = self._places(self._topics)
        # Asked first: what is appended in between is later than the time, and may be left out.
        ends = self._bounds(places, LATEST)
        later = self._bounds(places, OffsetSpec.for_timestamp(until_ms))
        return {place: later[place] if later[place] >= 0 else ends[place] for place in places}

    def _bounds(self, places: Sequence[Place], bound: Any) -> dict[Place, int]:
        return _answered(lambda: self._logs.bounds(places, bound), "asking where logs end")

    def _places(self, topics: Sequence[str]) -> list[Place]:
        return _answered(
            lambda: [(topic, p) for topic in topics for p in range(self._logs.topic(topic).partitions)],
            "asking for partitions",
        )

    def reach(self, ends: Mapping[Place, int]) -> bool:
        """Whether everything before these offsets is settled.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        settled = self._committed(list(ends))
        return not any(self._behind(place, settled.get(place, 0), end) for place, end in ends.items())

    def lag(self) -> int:
        """Return how many offsets stand between what is settled and the ends, of partitions that were begun.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        places = [
            (topic, partition) for topic in self._topics for partition in range(TOPICS[topic].partitions)
        ]
        settled = self._committed(places)
        ends = self.ends(list(settled))
        return sum(self._behind(place, settled[place], end) for place, end in ends.items())

    def _committed(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return what the group has committed; nothing of partitions that it has not begun."""
        asked = [TopicPartition(self._prefix + topic, partition) for topic, partition in places]
        answers = _answered(
            lambda: self._consumer.committed(asked, timeout=_ANSWER_S),
            f"asking how far group {self._group} has come",
        )
        if refused := [tp.error.str() for tp in answers if tp.error]:
            raise DependencyUnavailable(f"Kafka does not say how far {self._group} has come: {refused[0]}")
        return {place: tp.offset for place, tp in zip(places, answers, strict=True) if tp.offset >= 0}

    def _behind(self, place: Place, settled: int, end: int) -> int:
        return 0 if settled >= end or self._holds_nothing(place, settled, end) else end - settled

    def _holds_nothing(self, place: Place, first: int, end: int) -> bool:
        """Whether no message stands at these offsets: transactions leave marks, which nobody settles."""
        topic, partition = place
        self._consumer.assign([TopicPartition(self._prefix + topic, partition, first)])
        try:
            message = self._consumer.poll(_ANSWER_S)
        finally:
            self._consumer.unassign()
        if message is None:
            return False
        error = message.error()
        offset = message.offset()
        # A log seems to end where a transaction is open, whatever stands behind.
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return offset is not None and offset >= end
        return False

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


def _answered(ask: Callable[[], Answer], what: str) -> Answer:
    """Ask, and again where a broker, a partition or a coordinator is quite new."""
    try:
        for attempt in stamina.retry_context(on=_is_transient, attempts=None, timeout=_ANSWER_S):
            with attempt:
                answer = ask()
    except KafkaException as error:
        raise client.explained(error, what) from error
    return answer


def _is_transient(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in TRANSIENT
