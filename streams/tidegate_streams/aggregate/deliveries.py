"""Messages on their way: an effect stands when every one of them is acknowledged."""

from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message

from tidegate.topics import DLQ
from tidegate_infra.kafka import client, dead_letters
from tidegate_infra.kafka.dead_letters import DeadLetter
from tidegate_infra.kafka.ranges import Message as Refused
from tidegate_infra.settings import Settings


class Deliveries:
    """A producer whose messages are awaited together.

    Parameters
    ----------
    settings
        Where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._producer = client.producer(
            settings, linger_ms=5, message_timeout_ms=120_000, queue_buffering_max_kbytes=262_144
        )
        self._failed: KafkaError | None = None

    def put(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Send a message without waiting for it; the topic without the installation's prefix."""
        while True:
            try:
                self._producer.produce(
                    self._prefix + topic,
                    value=value,
                    key=key,
                    partition=partition,
                    headers=list(headers),
                    on_delivery=self._delivered,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def bury(self, letter: DeadLetter, refused: Refused) -> None:
        """Send a dead letter without waiting for it: what its headers say, when it is too large."""
        dead_letters.bury(partial(self.put, DLQ), letter, refused)

    def settle(self, meanwhile: Callable[[], None]) -> None:
        """Wait until all messages are acknowledged.

        Parameters
        ----------
        meanwhile
            Called about every half second.

        Raises
        ------
        DependencyUnavailable
            Kafka did not take one of them: what they belong to must be done again.
        """
        while self._producer.flush(0.5):
            meanwhile()
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise client.explained(KafkaException(failed), "writing to Kafka")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed = error
