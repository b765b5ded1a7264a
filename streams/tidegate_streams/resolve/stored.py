"""How far the sink has come: only then is the store's silence an answer."""

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaException, TopicPartition

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
        # It never subscribes: it only asks what the group has committed.
        self._consumer = client.consumer(settings, SINK)

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
        return all(max(tp.offset, 0) >= end for tp, end in zip(answers, ends.values(), strict=True))

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
