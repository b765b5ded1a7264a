"""A few records to Kafka, each confirmed: what commands write."""

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message

from tidegate.errors import DependencyUnavailable
from tidegate_infra.kafka.client import explained, producer
from tidegate_infra.settings import Settings

ANY_PARTITION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message.

    Parameters
    ----------
    topic
        Name from the table, without the prefix.
    key, value
        As they will stand in the log; a value of None is a tombstone.
    partition
        The one that the key leads to, unless said.
    headers
        In order.
    """

    topic: str
    key: str | bytes | None = None
    value: bytes | None = None
    partition: int = ANY_PARTITION
    headers: tuple[tuple[str, bytes], ...] = ()


def send(settings: Settings, outgoing: Sequence[Outgoing], *, timeout_seconds: float = 10.0) -> list[Message]:
    """Write messages and return them as Kafka confirmed them, in order, with partition and offset.

    Raises
    ------
    DependencyUnavailable
        Not all were confirmed in time; what is unconfirmed may have been written or not.
    ConfigError
        Kafka refused them.
    """
    client = producer(settings, message_timeout_ms=int(timeout_seconds * 1000), linger_ms=0)
    confirmed: dict[int, Message] = {}
    failed: list[KafkaError] = []

    def deliver(message: Outgoing, at: int) -> None:
        def on_delivery(error: KafkaError | None, answer: Message) -> None:
            if error is None:
                confirmed[at] = answer
            else:
                failed.append(error)

        client.produce(
            settings.topic_prefix + message.topic,
            value=message.value,
            key=message.key,
            headers=list(message.headers),
            partition=message.partition,
            on_delivery=on_delivery,
        )

    for at, message in enumerate(outgoing):
        deliver(message, at)
    client.flush(timeout_seconds)
    topics = ", ".join(sorted({settings.topic_prefix + message.topic for message in outgoing}))
    if failed:
        raise explained(KafkaException(failed[0]), f"writing to {topics}")
    if len(confirmed) < len(outgoing):
        missing = len(outgoing) - len(confirmed)
        raise DependencyUnavailable(
            f"Kafka confirmed all but {missing} of {len(outgoing)} messages to {topics} in "
            f"{timeout_seconds:.0f} s: read back before sending again"
        )
    return [confirmed[at] for at in range(len(outgoing))]
