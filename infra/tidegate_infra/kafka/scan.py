"""A topic from its start to the end it has now, without a group: what commands and tools read.

Topics that hold one state a key are read by rank, never by position: a process that was cut off may still
append an older state behind a newer one.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate import codec
from tidegate.errors import ConfigError, ContractError, DependencyUnavailable
from tidegate.registry import SchemaRegistry
from tidegate.topics import DEPLOYMENTS, PROGRESS, ROLLOUTS, TOPICS
from tidegate_infra.kafka.client import REFUSALS, admin, consumer, explained
from tidegate_infra.settings import Settings

_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.1
_FETCH_WAIT_MS = 20

RANKS: dict[str, Callable[[Any], Any]] = {
    ROLLOUTS: lambda spec: spec.generation,
    DEPLOYMENTS: lambda command: command.revision,
    # A journal that was made anew counts its versions from zero.
    PROGRESS: lambda progress: (progress.generation, progress.version),
}
"""Topic -> what the newest record of a key is the highest of."""

_log = logging.getLogger(__name__)


def check_answers(settings: Settings) -> None:
    """Find out within seconds whether Kafka answers.

    Raises
    ------
    ConfigError
        It does not let us in.
    DependencyUnavailable
        It does not.
    """
    _topics(settings)


def check_topics(settings: Settings, topics: Sequence[str]) -> None:
    """Find out within seconds whether Kafka answers and has some topics.

    Raises
    ------
    ConfigError
        A topic is missing.
    DependencyUnavailable
        Kafka does not answer.
    """
    there = _topics(settings)
    missing = [
        settings.topic_prefix + topic for topic in topics if settings.topic_prefix + topic not in there
    ]
    if missing:
        raise ConfigError(
            f"Kafka at {settings.kafka} has no {', '.join(missing)}: `tidegate topic apply` makes them"
        )


def _topics(settings: Settings) -> dict[str, Any]:
    heard: list[KafkaError] = []
    client = admin(settings, error_cb=heard.append)
    try:
        return client.list_topics(timeout=_ANSWER_SECONDS).topics
    except KafkaException as error:
        client.poll(0)
        # That a broker let nobody in is only told beside; the answer itself is a mere timeout.
        refusals = [one for one in heard if one.code() in REFUSALS]
        told = KafkaException(refusals[0]) if refusals else error
        raise explained(told, f"listing topics of {settings.kafka}") from error


def partitions(settings: Settings, topic: str) -> list[int]:
    """Return the numbers of a topic's partitions."""
    reader = consumer(settings, "scan")
    try:
        return sorted(_partitions(settings, reader, settings.topic_prefix + topic))
    finally:
        reader.close()


def messages(settings: Settings, topic: str, *, timeout_seconds: float = 30.0) -> Iterator[Message]:
    """Read every message that a topic holds now, each partition in order.

    Parameters
    ----------
    settings
        Where Kafka is.
    topic
        Name from the table, without the prefix.
    timeout_seconds
        For the whole of it.

    Raises
    ------
    ConfigError
        There is no such topic.
    DependencyUnavailable
        Kafka does not answer, or not in time.
    """
    deadline = time.monotonic() + timeout_seconds
    for message in _polled(settings, topic, forever=False):
        if message is not None:
            yield message
        if time.monotonic() > deadline:
            raise DependencyUnavailable(
                f"Kafka gave {settings.topic_prefix}{topic} too slowly: its end was not reached in "
                f"{timeout_seconds:.0f} s"
            )


def _polled(settings: Settings, topic: str, *, forever: bool) -> Iterator[Message | None]:
    """Yield messages, and None whenever none came for a moment."""
    name = settings.topic_prefix + topic
    # The end of a partition is reported when a fetch returns, which by default takes half a second.
    reader = consumer(settings, "scan", enable_partition_eof=True, fetch_wait_max_ms=_FETCH_WAIT_MS)
    try:
        unfinished = _partitions(settings, reader, name)
        reader.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in unfinished])
        while unfinished or forever:
            message = reader.poll(_POLL_SECONDS)
            error = None if message is None else message.error()
            if message is None or error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition())
            elif not forever or error.fatal():
                raise explained(KafkaException(error), f"reading {name}")
    finally:
        reader.close()


def _partitions(settings: Settings, reader: Consumer, name: str) -> set[int]:
    try:
        topic = reader.list_topics(name, timeout=_ANSWER_SECONDS).topics[name]
    except KafkaException as error:
        raise explained(error, f"reading {name} of {settings.kafka}") from error
    if topic.error is not None:
        raise explained(KafkaException(topic.error), f"reading {name}")
    return set(topic.partitions)


def records(
    settings: Settings, topic: str, *, timeout_seconds: float = 30.0
) -> Iterator[tuple[Message, Any]]:
    """Read every message with its record; a tombstone's is None.

    What cannot be read is logged and left out.
    """
    decode = _decoder(settings, topic)
    for message in messages(settings, topic, timeout_seconds=timeout_seconds):
        yield from decode(message)


def _decoder(settings: Settings, topic: str) -> Callable[[Message], Iterator[tuple[Message, Any]]]:
    registry = SchemaRegistry(settings.schema_registry_url) if settings.schema_registry_url else None

    def decode(message: Message) -> Iterator[tuple[Message, Any]]:
        value = message.value()
        try:
            yield message, None if value is None else codec.decode(value, registry, TOPICS[topic].records)
        except ContractError as error:
            _log.warning(
                "%s[%d]@%d is skipped: %s", message.topic(), message.partition(), message.offset(), error
            )

    return decode


def follow(settings: Settings, topic: str) -> Iterator[tuple[str, Any] | None]:
    """Read every record that a topic holds and then each new one, without end, as key and record.

    Yields None whenever nothing came for a moment, so that the reader can look at its clock.
    """
    decode = _decoder(settings, topic)
    for message in _polled(settings, topic, forever=True):
        if message is None:
            yield None
        else:
            yield from ((key_of(message), record) for _, record in decode(message))


def key_of(message: Message) -> str:
    """Return a message's key as text."""
    return (message.key() or b"").decode(errors="replace")


def newest(settings: Settings, topic: str, *, timeout_seconds: float = 30.0) -> dict[str, Any]:
    """Read the present state of every key of a topic in `RANKS`.

    Returns
    -------
    dict
        Key -> its record of the highest rank. A key whose tombstone came later is not there.
    """
    rank = RANKS[topic]
    ranks: dict[str, Any] = {}
    states: dict[str, Any] = {}
    for message, record in records(settings, topic, timeout_seconds=timeout_seconds):
        key = key_of(message)
        if record is None:
            states.pop(key, None)
        elif key not in ranks or rank(record) > ranks[key]:
            ranks[key] = rank(record)
            states[key] = record
    return states
