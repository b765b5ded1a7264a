"""What notify writes to Kafka: dead letters, and alerts about itself."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as Record

from tidegate import codec
from tidegate.records import Alert
from tidegate.topics import ALERTS, DLQ
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.kafka import client
from tidegate_infra.kafka.dead_letters import DeadLetter, bury
from tidegate_infra.settings import Settings

STAGE = "notify"
_FLUSH_S = 3.0


class Writer:
    """A producer, and the ids of the topics that dead letters come from.

    Parameters
    ----------
    settings
        Where Kafka is.
    topics
        Where records come from, without the installation's prefix.
    """

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        self._prefix = settings.topic_prefix
        admin = client.admin(settings)
        self._topic_ids = {topic: client.topic_id(admin, self._prefix + topic) for topic in topics}
        self._producer = client.producer(settings, linger_ms=0)

    def poll(self) -> None:
        """Hear what Kafka has confirmed."""
        self._producer.poll(0)

    async def bury(self, topic: str, record: Record, reason: str, error: str) -> DeadLetter:
        """Dead-letter a record, and return when Kafka has it."""
        partition, offset = record.partition(), record.offset()
        assert partition is not None
        assert offset is not None
        letter = DeadLetter(
            topic=topic,
            topic_id=self._topic_ids[topic],
            partition=partition,
            offset=offset,
            stage=STAGE,
            reason=reason,
            error=error,
        )
        written: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()
        name = self._prefix + DLQ
        bury(partial(self._producer.produce, name, on_delivery=_noting(written)), letter, record)
        await _confirmed(written, "writing a dead letter")
        crashpoint("notify.after_dead_letter")
        return letter

    async def publish(self, alert: Alert) -> None:
        """Write an alert, and return when Kafka has it."""
        written: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()
        self._producer.produce(
            self._prefix + ALERTS,
            key=alert.fingerprint,
            value=codec.encode(alert),
            on_delivery=_noting(written),
        )
        await _confirmed(written, "writing an alert")

    def close(self) -> None:
        """Wait a moment for what is under way."""
        self._producer.flush(_FLUSH_S)


def _noting(written: "asyncio.Future[KafkaError | None]") -> Callable[[KafkaError | None, Record], None]:
    def on_delivery(refused: KafkaError | None, _message: Record) -> None:
        if not written.done():
            written.set_result(refused)

    return on_delivery


async def _confirmed(written: "asyncio.Future[KafkaError | None]", what: str) -> None:
    if (refused := await written) is not None:
        raise client.explained(KafkaException(refused), what)
