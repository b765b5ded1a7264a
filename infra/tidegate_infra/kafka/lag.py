"""How far each of our consumer groups has come."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # its stubs forget it

from tidegate.topics import TOPICS
from tidegate_infra.kafka.client import admin, consumer, explained, group_name
from tidegate_infra.settings import Settings

_ANSWER_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
_STARTING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group, seen from outside.

    Parameters
    ----------
    name
        Plain name, such as ``aggregate``.
    members
        Processes that are in it now.
    lag
        Offsets between what it has settled and the ends of its topics; ranges in work are not settled. A
        transaction's mark at the end of a log counts as one until a message behind it is settled.
    """

    name: str
    members: int
    lag: int


def groups(settings: Settings, names: Sequence[str]) -> list[Group]:
    """Ask Kafka how our groups fare; one that never was has no members and no lag.

    Raises
    ------
    DependencyUnavailable
        Kafka does not answer.
    """
    client = admin(settings)
    return [
        Group(name, _members(client, group_name(settings, name)), _lag(client, settings, name))
        for name in names
    ]


def _members(client: AdminClient, group: str) -> int:
    def ask() -> int:
        answers = client.describe_consumer_groups([group], request_timeout=_ANSWER_SECONDS)
        return len(answers[group].result().members)

    return _answer(ask, f"describing group {group}")


def _lag(client: AdminClient, settings: Settings, name: str) -> int:
    def ask() -> int:
        settled = _settled(settings, name)
        if not settled:
            return 0
        latest = {TopicPartition(*place): OffsetSpec.latest() for place in settled}  # type: ignore[no-untyped-call]
        ends = client.list_offsets(latest, request_timeout=_ANSWER_SECONDS)
        return sum(
            max(0, answer.result().offset - settled[place.topic, place.partition])
            for place, answer in ends.items()
        )

    return _answer(ask, f"reading the offsets of group {name}")


def _settled(settings: Settings, name: str) -> dict[tuple[str, int], int]:
    """Return what a group has committed, by topic and partition."""
    places = [
        TopicPartition(settings.topic_prefix + topic.name, partition)
        for topic in TOPICS.values()
        for partition in range(topic.partitions)
    ]
    # Not the admin client: librdkafka 2.16 ends the process when a coordinator refuses its question.
    reader = consumer(settings, name)
    try:
        committed = reader.committed(places, timeout=_ANSWER_SECONDS)
    finally:
        reader.close()
    return {(place.topic, place.partition): place.offset for place in committed if place.offset >= 0}


def _answer(ask: Callable[[], int], what: str) -> int:
    """Ask, and again while a broker or a topic is quite new; 0 where there is no such group."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            if code not in _STARTING or time.monotonic() > deadline:
                raise explained(error, what) from error
        time.sleep(_PAUSE_SECONDS)
