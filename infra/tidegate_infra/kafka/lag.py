"""How far each of our consumer groups has come."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tidegate.topics import TOPICS
from tidegate_infra.kafka.client import admin, explained, group_name
from tidegate_infra.kafka.settled import Settled
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
        Offsets between what it has settled and the ends of its topics; ranges in work are not settled. Where
        nothing but marks of transactions stands there is none.
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
    return [Group(name, _members(client, group_name(settings, name)), _lag(settings, name)) for name in names]


def _members(client: AdminClient, group: str) -> int:
    def ask() -> int:
        answers = client.describe_consumer_groups([group], request_timeout=_ANSWER_SECONDS)
        return len(answers[group].result().members)

    return _answer(ask, f"describing group {group}")


def _lag(settings: Settings, name: str) -> int:
    with closing(Settled(settings, name, list(TOPICS))) as group:
        return group.lag()


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
