"""What was published before, read back from the topics, so that a replay publishes nothing a second time."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tidegate import topics
from tidegate.codec import decode
from tidegate.errors import ContractError, DependencyUnavailable, InvariantBroken
from tidegate.records import (
    Alert,
    DeploymentCommand,
    DeploymentStatus,
    RolloutProgress,
    WindowMetricsBatch,
)
from tidegate.series import deployment_key
from tidegate_infra.kafka import client
from tidegate_infra.settings import Settings
from tidegate_streams.rollouts.outputs import CONTROLLER

_TAIL = 1_000
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.1

_NONE = (-1, -1)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Published:
    """What stands in the output topics.

    Parameters
    ----------
    commands
        Deployment key -> revision -> command, as far as compaction has left them.
    standing
        Deployment key -> revision of the last record, which a late writer may have put behind a higher one.
    progress
        Deployment key -> highest (generation, version): a journal made anew counts versions from zero.
    alerts
        Fingerprint -> highest sequence.
    refusals
        What was refused (an action, a specification), and when.
    windows
        Journal partition -> offset of the last message whose windows went out, perhaps in part.
    """

    commands: dict[str, dict[int, DeploymentCommand]] = field(default_factory=lambda: defaultdict(dict))
    standing: dict[str, int] = field(default_factory=dict)
    progress: dict[str, tuple[int, int]] = field(default_factory=dict)
    alerts: dict[str, int] = field(default_factory=dict)
    refusals: set[tuple[str, int]] = field(default_factory=set)
    windows: dict[int, int] = field(default_factory=dict)

    def note(self, record: Any) -> None:
        """Remember a record that stands in its topic."""
        match record:
            case DeploymentCommand():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                self.commands[key][record.revision] = record
                self.standing[key] = record.revision
            case RolloutProgress():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                self.progress[key] = max(self.progress.get(key, _NONE), (record.generation, record.version))
            case Alert():
                highest = self.alerts.get(record.fingerprint, 0)
                self.alerts[record.fingerprint] = max(highest, record.sequence)
            case DeploymentStatus():
                self.refusals.add((record.command_id, record.ts))
            case WindowMetricsBatch():
                highest = self.windows.get(record.partition, -1)
                self.windows[record.partition] = max(highest, record.offset)

    def lacks(self, record: Any) -> bool:
        """Whether a record has still to be published.

        Raises
        ------
        CommandConflict
            When another command stands under the same revision.
        """
        match record:
            case DeploymentCommand():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                known = self.commands[key]
                if record.revision in known and not same(known[record.revision], record):
                    raise CommandConflict(known[record.revision], record)
                return record.revision > max(known, default=-1)
            case RolloutProgress():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                return (record.generation, record.version) > self.progress.get(key, _NONE)
            case Alert():
                return record.sequence > self.alerts.get(record.fingerprint, 0)
            case DeploymentStatus():
                return (record.command_id, record.ts) not in self.refusals
            case WindowMetricsBatch():
                # One message may have several batches: those of the last one may not all have gone out.
                return record.offset >= self.windows.get(record.partition, -1)
            case _:
                return True

    def hidden(self, key: str) -> DeploymentCommand | None:
        """The highest command of a deployment, if a lower one stands behind it."""
        known = self.commands[key]
        highest = max(known, default=None)
        if highest is None or self.standing[key] >= highest:
            return None
        return known[highest]


class CommandConflict(InvariantBroken):
    """A replay decided otherwise than what was published under the same revision."""

    def __init__(self, published: DeploymentCommand, decided: DeploymentCommand) -> None:
        self.published = published
        self.decided = decided
        key = deployment_key(decided.tenant, decided.environment, decided.deployment)
        super().__init__(
            f"revision {decided.revision} of {key} was published as {published.action} ({published.reason}), "
            f"and is now decided as {decided.action} ({decided.reason}): nothing is sent. Compare the "
            f"release that runs with the one that published, and the journal's start with the rollout's"
        )


def same(one: DeploymentCommand, other: DeploymentCommand) -> bool:
    """Whether two commands ask for the same: evidence may differ in its last digits between releases."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("command_id", "rollout", "generation", "action", "state", "step", "salt", "weights")
    )


def read(settings: Settings) -> Published:
    """Read back what was published.

    Raises
    ------
    ConfigError
        A topic is missing.
    DependencyUnavailable
        Kafka did not answer in time.
    """
    published = Published()
    for message in _messages(settings):
        topic = topics.TOPICS[(message.topic() or "").removeprefix(settings.topic_prefix)]
        try:
            record = decode(message.value() or b"", expect=topic.records)
        except ContractError as error:
            _log.warning("a message of %s is skipped: %s", topic.name, error)
            continue
        if getattr(record, "applier", CONTROLLER) == CONTROLLER:
            published.note(record)
    return published


def _messages(settings: Settings) -> Iterator[Message]:
    """What stands in the output topics; of windows, only the last messages of each partition."""
    consumer = client.consumer(settings, "scan", enable_partition_eof=True)
    try:
        unfinished = {}
        for topic in (topics.DEPLOYMENTS, topics.PROGRESS, topics.ALERTS, topics.STATUS, topics.METRICS):
            name = settings.topic_prefix + topic
            for partition in range(topics.TOPICS[topic].partitions):
                at = TopicPartition(name, partition)
                low, end = consumer.get_watermark_offsets(at, timeout=_ANSWER_SECONDS)
                unfinished[name, partition] = max(low, end - _TAIL) if topic == topics.METRICS else low
        consumer.assign([TopicPartition(*at, start) for at, start in unfinished.items()])
        deadline = time.monotonic() + _ANSWER_SECONDS
        while unfinished:
            if time.monotonic() > deadline:
                raise DependencyUnavailable(
                    f"what was published could not be read back within {_ANSWER_SECONDS:g} s: is Kafka up?"
                )
            for message in consumer.consume(_TAIL, timeout=_POLL_SECONDS):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.pop((message.topic() or "", message.partition() or 0))
                else:
                    raise KafkaException(error)
    except KafkaException as error:
        raise client.explained(error, "reading back what was published") from error
    finally:
        consumer.close()
