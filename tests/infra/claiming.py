"""What the tests of claims share: messages, offsets and consumers on a real broker."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from confluent_kafka import Producer, TopicPartition

from tidegate.topics import ALERTS
from tidegate_infra.kafka import client
from tidegate_infra.kafka.claims import RangeConsumer
from tidegate_infra.kafka.log import Log
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.settings import Settings

Consume = Callable[..., RangeConsumer]


class Consumers:
    """Consumers of one group, in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: list[RangeConsumer] = []

    def __call__(
        self, topic: str = ALERTS, start: Callable[[Log], int] = lambda log: log.low, **limits: int
    ) -> RangeConsumer:
        bounds = {"max_rows": 1_000, "max_bytes": 1 << 20, "max_ms": 50} | limits
        self._made.append(RangeConsumer(self._settings, "work", [topic], start=start, **bounds))
        return self._made[-1]

    def close(self) -> None:
        for consumer in self._made:
            consumer.close()


class Between:
    """Stands between a consumer of ranges and librdkafka's, and may do something of its own.

    Parameters
    ----------
    consumer
        Of ranges; `undo` gives it its own one back.
    own
        Functions by the name of the method that they replace.
    """

    def __init__(self, consumer: RangeConsumer, **own: Any) -> None:
        self.real = consumer._consumer
        self._own = own
        self._ranges = consumer
        consumer._consumer = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return self._own.get(name) or getattr(self.real, name)

    def undo(self) -> None:
        self._ranges._consumer = self.real


@cache
def writer(kafka: str) -> Producer:
    """One for all tests: an idempotent producer sends half a second after it was made, not sooner."""
    return client.producer(Settings(kafka=kafka))


def produce(settings: Settings, count: int, topic: str = ALERTS, size: int = 10) -> None:
    producer = writer(settings.kafka)
    for number in range(count):
        producer.produce(settings.topic_prefix + topic, b"v" * size, str(number))
    assert producer.flush(20) == 0


def wait_for(consumer: RangeConsumer, *others: RangeConsumer, seconds: float = 20) -> list[Range]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ranges := consumer.poll(0.05):
            return ranges
        for other in others:
            other.poll(0.05)
    raise AssertionError(f"no range within {seconds} s")


def offsets(range_: Range) -> list[int | None]:
    return [message.offset() for message in range_.messages]


def commit_by_hand(settings: Settings, topic: str, offset: int, metadata: str) -> None:
    consumer = client.consumer(settings, "work")
    consumer.commit(
        offsets=[TopicPartition(settings.topic_prefix + topic, 0, offset, metadata=metadata)],
        asynchronous=False,
    )
    consumer.close()


def committed(settings: Settings, topic: str) -> tuple[int, str | None]:
    consumer = client.consumer(settings, "work")
    [position] = consumer.committed([TopicPartition(settings.topic_prefix + topic, 0)], timeout=10)
    consumer.close()
    return position.offset, position.metadata


def cut(settings: Settings, topic: str, before: int) -> None:
    admin = client.admin(settings)
    [answer] = admin.delete_records([TopicPartition(settings.topic_prefix + topic, 0, before)]).values()
    answer.result(20)
