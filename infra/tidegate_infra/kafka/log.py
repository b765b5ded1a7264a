"""What is to be known of a topic's logs before they are read: ids, partitions and bounds."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from confluent_kafka import (
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs forget to export

from tidegate.errors import InvariantBroken
from tidegate_infra.kafka import client
from tidegate_infra.kafka.ranges import Place
from tidegate_infra.settings import Settings

_log = structlog.get_logger(__name__)

_ANSWER_S = 10.0
# Asked each second, by those who have other things to do.
_END_S = 2.0
Answers = dict[str, "Future[Any]"]
"""Topics, and what Kafka will have said of them."""

EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]

# What librdkafka repairs by itself; it reports and goes on.
TRANSIENT = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._PREV_IN_PROGRESS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)


class Described(NamedTuple):
    """A topic as Kafka describes it."""

    id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Log:
    """One partition's log: its bounds when it was assigned.

    Parameters
    ----------
    topic
        Topic without the installation's prefix.
    topic_id
        Kafka's id of the topic.
    partition
        Partition.
    low, high
        First offset that is still there, and the one that the next message will get.
    """

    topic: str
    topic_id: str
    partition: int
    low: int
    high: int


class RetentionLoss(InvariantBroken):
    """The log no longer reaches back to the next offset to be read: events are gone.

    Parameters
    ----------
    log
        The partition with its bounds.
    lo
        First offset that is missing.
    group
        Consumer group that was behind.
    """

    def __init__(self, log: Log, lo: int, group: str) -> None:
        super().__init__(
            f"{log.topic}[{log.partition}]: offsets {lo} to {log.low - 1} are gone from the log before "
            f"group {group} "
            f"had read them: {log.low - lo} events at most are lost to retention. To go on behind the gap: "
            f"kafka-consumer-groups.sh --group {group} --topic {log.topic}:{log.partition} "
            f"--reset-offsets --to-offset {log.low} --execute"
        )
        self.log = log
        self.lo = lo


def cut_short(log: Log, lo: int, group: str) -> InvariantBroken:
    """What is wrong when a group is behind the end of a log."""
    return InvariantBroken(
        f"{log.topic}[{log.partition}]: group {group} is at offset {lo}, the log ends at {log.high}: the log "
        "was cut or replaced; find out which, then reset the group's offsets"
    )


class Logs:
    """The logs of some topics.

    Parameters
    ----------
    settings
        Where Kafka is.
    topics
        Topics without the installation's prefix.
    """

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        self._prefix = settings.topic_prefix
        self._admin = client.admin(settings)
        self._topics = list(topics)
        self._described: dict[str, Described] = {}

    def topic(self, topic: str) -> Described:
        """Return what was heard of a topic last."""
        if topic not in self._described:
            self.describe()
        return self._described[topic]

    def describe(self) -> None:
        """Ask Kafka again.

        Raises
        ------
        KafkaException
            It does not answer just now.
        TidegateError
            It refuses for good.
        """
        self.hear(self.ask())

    def ask(self) -> Answers:
        """Ask Kafka again, and do not wait for what it says."""
        wanted = [self._prefix + topic for topic in self._topics]
        return self._admin.describe_topics(TopicCollection(wanted), request_timeout=_ANSWER_S)

    def hear(self, answers: Answers) -> None:
        """Wait for what Kafka says; raises as `describe`."""
        for real, answer in answers.items():
            try:
                described = answer.result()
            except KafkaException as error:
                if error.args[0].code() in TRANSIENT:
                    raise
                raise client.explained(error, f"describing topic {real}") from error
            self._described[real.removeprefix(self._prefix)] = Described(
                str(described.topic_id), len(described.partitions)
            )

    def at(self, place: Place, offset: int = OFFSET_INVALID, metadata: str | None = None) -> TopicPartition:
        """A place in the client's words."""
        name = self._prefix + place[0]
        if metadata is None:
            return TopicPartition(name, place[1], offset)
        return TopicPartition(name, place[1], offset, metadata=metadata)

    def place(self, there: TopicPartition) -> Place:
        """Topic without the installation's prefix, and partition."""
        return there.topic.removeprefix(self._prefix), there.partition

    def ends(self, places: Sequence[Place], *, committed: bool) -> dict[Place, int]:
        """Return the offset behind the last message of partitions, without those of which Kafka does not say.

        Parameters
        ----------
        places
            Partitions.
        committed
            Before the first transaction that is still open.
        """
        if not places:
            return {}
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        asked = {self.at(place): LATEST for place in places}
        found = {}
        answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=_END_S)
        for there, answer in answers.items():
            try:
                found[self.place(there)] = answer.result().offset
            except KafkaException as error:
                _log.warning(
                    "log_end_unknown", topic=there.topic, partition=there.partition, error=str(error)
                )
        return found

    def bounds(self, places: Sequence[Place], bound: Any) -> dict[Place, int]:
        """Return the first offset (`EARLIEST`) or the one behind the last (`LATEST`) of partitions.

        Raises
        ------
        KafkaException
            Kafka does not answer.
        """
        if not places:
            return {}
        asked = {TopicPartition(self._prefix + topic, partition): bound for topic, partition in places}
        answers = self._admin.list_offsets(asked, request_timeout=_ANSWER_S)
        return {
            (tp.topic.removeprefix(self._prefix), tp.partition): answer.result().offset
            for tp, answer in answers.items()
        }
