"""Calls, clients and what stands in a topic, for the tests of the client."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tidegate.client import configuration
from tidegate.client.client import Client
from tidegate.client.transport import MemoryTransport, Settled, Transport
from tidegate.codec import decode
from tidegate.records import LLMCall
from tidegate_infra.settings import Settings

START_US = 1_772_366_400_000_000

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]
Records = Callable[[MemoryTransport, type], list[Any]]
ReadTopic = Callable[[str], list[tuple[bytes, Any]]]


@pytest.fixture(scope="session")
def new_call() -> NewCall:
    """Return a valid call of one second, with the fields given."""

    def make(**fields: Any) -> LLMCall:
        given = {
            "ts_start": START_US,
            "ts_end": START_US + 1_000_000,
            "operation": "chat",
            "provider": "openai",
            "request_model": "gpt-4o",
            "status": "ok",
        }
        return LLMCall(**(given | fields))

    return make


class Silent(MemoryTransport):
    """Takes everything and confirms nothing, until it is told to give up."""

    def poll(self, timeout_seconds: float) -> None:
        pass

    def give_up(self) -> None:
        while self._unsettled:
            self._unsettled.popleft()(False)


class Refusing(MemoryTransport):
    """Fails every message whose key is in `keys`."""

    def __init__(self, keys: set[str]) -> None:
        super().__init__()
        self.keys = keys

    def send(self, topic: str, key: str, value: bytes, settled: Settled) -> bool:
        def answer(_: bool) -> None:
            settled(key not in self.keys)

        return super().send(topic, key, value, answer)


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture
def refusing() -> Refusing:
    return Refusing(set())


@pytest.fixture
def new_client() -> Iterator[NewClient]:
    """Return a client in memory, or on the transport given, with the settings given."""
    made: list[Client] = []

    def make(transport: Transport | None = None, **settings: Any) -> Client:
        given = {"app": "app", "environment": "test", "kafka": "memory:0"} | settings
        memory = transport or MemoryTransport()
        made.append(Client(configuration.read(given, environ={}), make_transport=lambda: memory))
        return made[-1]

    yield make
    for client in made:
        client.shutdown(0.1)


@pytest.fixture
def new_kafka_client(settings: Settings, topics: None) -> Iterator[NewClient]:
    """Return a client of this test's Kafka, with the settings given."""
    made: list[Client] = []

    def make(**changes: Any) -> Client:
        given = {"app": "app", "environment": "test", "kafka": settings.kafka}
        given |= {"topic_prefix": settings.topic_prefix} | changes
        made.append(Client(configuration.read(given, environ={})))
        return made[-1]

    yield make
    for client in made:
        client.shutdown(5)


@pytest.fixture
def read_topic(settings: Settings) -> ReadTopic:
    """Return key and record of every message of a topic, up to its end at this moment."""

    def read(topic: str) -> list[tuple[bytes, Any]]:
        consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka,
                "group.id": "test",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        name = settings.topic_prefix + topic
        partitions = consumer.list_topics(name, timeout=10).topics[name].partitions
        consumer.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in partitions])
        behind, found = set(partitions), []
        while behind:
            message = consumer.poll(10)
            assert message is not None, f"{name} was not read within 10 s"
            if message.error():
                behind.discard(message.partition())
            else:
                found.append((message.key(), decode(message.value())))
        consumer.close()
        return found

    return read


@pytest.fixture(scope="session")
def records() -> Records:
    """Return the records of a kind that a transport was given."""

    def find(transport: MemoryTransport, kind: type) -> list[Any]:
        return [r for r in (decode(sent.value) for sent in transport.sent) if isinstance(r, kind)]

    return find
