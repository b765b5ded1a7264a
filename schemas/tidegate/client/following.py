"""Reads one key of a compacted topic from its beginning, and goes on reading."""

import threading
from collections.abc import Callable
from typing import Any

from tidegate.client.configuration import Configuration
from tidegate.client.forking import no_fork
from tidegate.client.notices import Notices
from tidegate.client.transport import kafka_settings
from tidegate.errors import ContractError, DependencyUnavailable

_POLL_SECONDS = 0.1
_METADATA_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_STOP_SECONDS = 0.5


class Follower:
    """A thread that hands every record of one key to a function, in the order of the log.

    It is in no consumer group: every process needs every record.

    Parameters
    ----------
    configuration
        Where Kafka is.
    topic
        Name without the installation's prefix.
    key
        Other keys are passed over without decoding.
    record
        Class that the values have.
    take
        Called in the thread with each record.
    notices
        Where trouble is told.
    """

    def __init__(
        self,
        configuration: Configuration,
        topic: str,
        key: str,
        record: type,
        take: Callable[[Any], object],
        notices: Notices,
    ) -> None:
        self.caught_up = threading.Event()
        self._configuration = configuration
        self._topic = configuration.topic(topic)
        self._key = key.encode()
        self._record = record
        self._take = take
        self._notices = notices
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tidegate {topic}", daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises
        ------
        RuntimeError
            The interpreter is shutting down.
        """
        self._thread.start()

    def stop(self) -> None:
        """End the thread; wait for that half a second at most."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except Exception as error:  # noqa: BLE001 - what was read stands; try again
                self._notices.warn("following", "%s is not read: %s", self._topic, error)
                self._stopping.wait(_RETRY_SECONDS)

    def _read(self) -> None:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        # Only frames of this thread hold the consumer: see the worker for why.
        settings = kafka_settings(self._configuration) | {
            "group.id": "tidegate-follower",  # required, and never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "error_cb": lambda error: self._notices.warn("kafka", "Kafka: %s", error.str()),
        }
        with no_fork():
            consumer = Consumer(settings)
        try:
            found = consumer.list_topics(self._topic, timeout=_METADATA_SECONDS).topics[self._topic]
            if found.error is not None:
                raise DependencyUnavailable(found.error.str())
            behind = set(found.partitions)
            consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in behind])
            while not self._stopping.is_set():
                message = consumer.poll(_POLL_SECONDS)
                if message is not None:
                    self._handle(message, behind)
        finally:
            consumer.close()

    def _handle(self, message: Any, behind: set[int]) -> None:
        from confluent_kafka import KafkaError

        error = message.error()
        if error is None:
            if message.key() == self._key and message.value():
                self._decode(message.value())
        elif error.code() == KafkaError._PARTITION_EOF:
            behind.discard(message.partition())
            if not behind:
                self.caught_up.set()
        elif not error.retriable():
            raise DependencyUnavailable(error.str())

    def _decode(self, value: bytes) -> None:
        from tidegate.codec import decode

        registry = None
        if self._configuration.schema_registry_url:
            from tidegate.registry import SchemaRegistry

            registry = SchemaRegistry(self._configuration.schema_registry_url)
        try:
            record = decode(value, registry, expect=self._record)
        except ContractError as error:
            self._notices.warn("record", "a record of %s is ignored: %s", self._topic, error)
            return
        self._take(record)
