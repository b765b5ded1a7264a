"""How far each of our consumer groups has come."""

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # its stubs forget it

from tidegate_infra.kafka.client import admin, explained, group_name
from tidegate_infra.settings import Settings

_ANSWER_SECONDS = 10.0


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
        Messages between what it has settled and the ends of its topics; ranges in work are not settled.
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
        Group(name, _members(client, group_name(settings, name)), _lag(client, group_name(settings, name)))
        for name in names
    ]


def _members(client: AdminClient, group: str) -> int:
    answer = client.describe_consumer_groups([group], request_timeout=_ANSWER_SECONDS)[group]
    try:
        return len(answer.result().members)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return 0
        raise explained(error, f"describing group {group}") from error


def _lag(client: AdminClient, group: str) -> int:
    asked = [ConsumerGroupTopicPartitions(group)]
    try:
        answers = client.list_consumer_group_offsets(asked, request_timeout=_ANSWER_SECONDS)
        settled = {
            (part.topic, part.partition): part.offset
            for part in answers[group].result().topic_partitions
            if part.offset >= 0
        }
        if not settled:
            return 0
        latest = {TopicPartition(*place): OffsetSpec.latest() for place in settled}  # type: ignore[no-untyped-call]
        ends = client.list_offsets(latest, request_timeout=_ANSWER_SECONDS)
        return sum(
            max(0, answer.result().offset - settled[place.topic, place.partition])
            for place, answer in ends.items()
        )
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return 0
        raise explained(error, f"reading the offsets of group {group}") from error
