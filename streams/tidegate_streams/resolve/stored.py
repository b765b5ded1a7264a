"""How far the sink has come: only then is the store's silence an answer."""

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tidegate.errors import DependencyUnavailable
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import client
from tidegate_infra.kafka.log import LATEST, Logs
from tidegate_infra.settings import Settings

SINK = "sink"
"""The group whose settled offsets say what is stored."""

Place = tuple[str, int]
"""Topic without the installation's prefix, and partition."""

_ANSWER_S = 10.0


class Stored:
    """What the sink has settled, seen from outside.

    Parameters
    ----------
    settings
        Where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._logs = Logs(settings, [CALLS, FEEDBACK, EVALUATIONS])
        # It never subscribes: it only asks what the group has committed, and looks at what is behind that.
        self._consumer = client.consumer(settings, SINK, enable_partition_eof=True, fetch_wait_max_ms=20)

    def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the offsets behind the last messages of partitions, as of now.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        try:
            return self._logs.bounds(places, LATEST)
        except KafkaException as error:
            raise client.explained(error, "asking where logs end") from error

    def ends_of_calls(self) -> dict[Place, int]:
        """Return `ends` of every partition of the calls."""
        try:
            count = self._logs.topic(CALLS).partitions
        except KafkaException as error:
            raise client.explained(error, "asking for the partitions of the calls") from error
        return self.ends([(CALLS, partition) for partition in range(count)])

    def reach(self, ends: Mapping[Place, int]) -> bool:
        """Whether everything before these offsets is stored.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        asked = [TopicPartition(self._prefix + topic, partition) for topic, partition in ends]
        try:
            answers = self._consumer.committed(asked, timeout=_ANSWER_S)
        except KafkaException as error:
            raise client.explained(error, "asking how far the sink has come") from error
        if refused := [tp.error.str() for tp in answers if tp.error]:
            raise DependencyUnavailable(f"Kafka does not say how far the sink has come: {refused[0]}")
        settled = {place: max(tp.offset, 0) for place, tp in zip(ends, answers, strict=True)}
        return all(
            settled[place] >= end or self._holds_nothing(place, settled[place], end)
            for place, end in ends.items()
        )

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
        if error is None:
            return offset is not None and offset >= end
        return bool(error.code() == KafkaError._PARTITION_EOF)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
