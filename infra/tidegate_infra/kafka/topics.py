"""Topics as code: Kafka compared with the table in `tidegate.topics`, and the changes between them."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs forget to export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tidegate.errors import DependencyUnavailable, Refused
from tidegate.topics import TOPICS, Topic
from tidegate_infra.kafka.client import admin, explained
from tidegate_infra.settings import Settings

_ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the table and Kafka, as ``str`` in a line of a diff.

    Parameters
    ----------
    kind
        ``create`` a topic, ``alter`` one of its configurations, or ``refuse``: a partition count differs, and
        changing it in place would move keys to other partitions and lose their order.
    topic
        Name of the topic in Kafka, with the prefix.
    what
        ``partitions`` or the name of the configuration.
    before, after
        In Kafka now, and in the table.
    """

    kind: Literal["create", "alter", "refuse"]
    topic: str
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        if self.kind == "create":
            return f"+ {self.topic}  {self.after}"
        mark = "~" if self.kind == "alter" else "!"
        return f"{mark} {self.topic}  {self.what}: {self.before} -> {self.after}"


def plan(settings: Settings, topics: Sequence[str] = tuple(TOPICS)) -> list[Change]:
    """Compare the topic table with Kafka.

    Parameters
    ----------
    settings
        Where Kafka is, and the prefix of its topics.
    topics
        Names from the table, without the prefix.

    Raises
    ------
    DependencyUnavailable
        Kafka does not answer.
    """
    client = admin(settings)
    rows = {settings.topic_prefix + name: TOPICS[name] for name in topics}
    partitions = _partitions(client)
    configs = _configs(client, [name for name in rows if name in partitions])
    changes = []
    for name, row in rows.items():
        if name not in partitions:
            changes.append(Change("create", name, "partitions", "", _description(row)))
            continue
        if partitions[name] != row.partitions:
            changes.append(Change("refuse", name, "partitions", str(partitions[name]), str(row.partitions)))
        for key, value in row.config.items():
            if configs[name].get(key) != value:
                changes.append(Change("alter", name, key, configs[name].get(key, "unset"), value))
    return changes


def apply(settings: Settings, topics: Sequence[str] = tuple(TOPICS)) -> list[Change]:
    """Make Kafka like the topic table and return what was changed; a second call changes nothing.

    Raises
    ------
    Refused
        A partition count differs; nothing was changed.
    DependencyUnavailable
        Kafka does not answer.
    """
    changes = plan(settings, topics)
    refused = [str(change) for change in changes if change.kind == "refuse"]
    if refused:
        raise Refused(
            "partition counts never change in place, since keys would lose their order; make the topics anew "
            "under another TIDEGATE_TOPIC_PREFIX:\n  " + "\n  ".join(refused)
        )
    client = admin(settings)
    created = [change.topic for change in changes if change.kind == "create"]
    _create(client, {name: TOPICS[name.removeprefix(settings.topic_prefix)] for name in created})
    _alter(client, [change for change in changes if change.kind == "alter"])
    return changes


def _description(row: Topic) -> str:
    config = ", ".join(f"{key}={value}" for key, value in sorted(row.config.items()))
    return f"{row.partitions} partition{'s' * (row.partitions != 1)}, {config}"


def _partitions(client: AdminClient) -> dict[str, int]:
    try:
        metadata = client.list_topics(timeout=_ANSWER_SECONDS)
    except KafkaException as error:
        raise explained(error, "listing topics") from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _configs(client: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = client.describe_configs(resources, request_timeout=_ANSWER_SECONDS)
    return {
        resource.name: {key: entry.value for key, entry in _result(answer, "describing a topic").items()}
        for resource, answer in answers.items()
    }


def _create(client: AdminClient, rows: dict[str, Topic]) -> None:
    if not rows:
        return
    # Replication factor -1: the cluster's own default.
    new = [NewTopic(name, row.partitions, -1, config=row.config) for name, row in rows.items()]
    for answer in client.create_topics(new, request_timeout=_ANSWER_SECONDS).values():
        _result(answer, "creating a topic")
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not _have_leaders(client, rows):
        if time.monotonic() > deadline:
            raise DependencyUnavailable("Kafka created topics and elected no leaders: are all brokers up?")
        time.sleep(0.02)


def _have_leaders(client: AdminClient, rows: dict[str, Topic]) -> bool:
    topics = client.list_topics(timeout=_ANSWER_SECONDS).topics
    return all(
        name in topics
        and len(topics[name].partitions) == row.partitions
        and all(partition.leader >= 0 for partition in topics[name].partitions.values())
        for name, row in rows.items()
    )


def _alter(client: AdminClient, changes: Sequence[Change]) -> None:
    entries: dict[str, list[ConfigEntry]] = {}
    for change in changes:
        entry = ConfigEntry(change.what, change.after, incremental_operation=AlterConfigOpType.SET)
        entries.setdefault(change.topic, []).append(entry)
    if not entries:
        return
    resources = [
        ConfigResource(ResourceType.TOPIC, name, incremental_configs=changed)
        for name, changed in entries.items()
    ]
    for answer in client.incremental_alter_configs(resources, request_timeout=_ANSWER_SECONDS).values():
        _result(answer, "altering a topic")


def _result(answer: "Future[Any]", doing: str) -> Any:
    try:
        return answer.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return None  # somebody else applies the same table at the same time
        raise explained(error, doing) from error
