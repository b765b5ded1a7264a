"""Events to bytes, in the worker: bodies masked, size bounded."""

import uuid
from copy import deepcopy
from typing import TYPE_CHECKING

from tidegate import topics
from tidegate.client import bodies
from tidegate.client.configuration import Configuration
from tidegate.client.notices import Notices
from tidegate.client.rules import Event
from tidegate.errors import ContractError
from tidegate.records import Evaluation, Feedback, LLMCall, ProducerReport

if TYPE_CHECKING:
    from tidegate.codec import Registry

MAX_EVENT_BYTES = 900_000
"""Brokers refuse messages above 1 MB; without its bodies an event nearly always fits."""

TOPIC: dict[type, str] = {
    LLMCall: topics.CALLS,
    Feedback: topics.FEEDBACK,
    Evaluation: topics.EVALUATIONS,
    ProducerReport: topics.PRODUCERS,
}


def size_without_bodies(event: Event) -> int:
    """Return the bytes that an event takes when everything is removed that may be."""
    from tidegate import codec

    bare = deepcopy(event)
    bodies.remove(bare)
    bare.producer_id, bare.seq = str(uuid.UUID(int=0)), 2**62
    return len(codec.encode(bare))


class Dropped(Exception):
    """An event cannot be sent; `reason` is what the ledger counts it under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Encoder:
    """Turns records into what stands in Kafka.

    Parameters
    ----------
    configuration
        Says how bodies are masked, and how bytes are framed.
    notices
        Where a mask that raises is told.
    """

    def __init__(self, configuration: Configuration, notices: Notices) -> None:
        self._configuration = configuration
        self._notices = notices
        self._ids: dict[type, int] | None = None
        # Loaded here, on the app's thread: a fork in the middle of another thread's import would leave the
        # child with half a module for good.
        from tidegate import codec, versions

        self._codec = codec
        self._schemas = {record: versions.latest(record) for record in TOPIC}
        self._registry: Registry | None = None
        if configuration.schema_registry_url:
            from tidegate.registry import SchemaRegistry

            self._registry = SchemaRegistry(configuration.schema_registry_url)

    def prepare(self) -> None:
        """Register the schemas, where a registry is used; may take a while, and fail."""
        if self._registry is not None and self._ids is None:
            self._ids = {
                record: self._registry.schema_id(self._schemas[record], self._configuration.topic(topic))
                for record, topic in TOPIC.items()
            }

    def encode(self, event: Event, producer_id: str, seq: int) -> bytes:
        """Return an event's bytes under its place among its producer's events.

        Raises
        ------
        Dropped
            It does not fit the contract, or is too large even without bodies.
        """
        event.producer_id = producer_id
        event.seq = seq
        try:
            self._prepare(event)
            value = self._framed(event)
            if len(value) > MAX_EVENT_BYTES and bodies.remove(event):
                value = self._framed(event)
        except ContractError as error:
            raise Dropped("unencodable", error.detail) from error
        if len(value) > MAX_EVENT_BYTES:
            raise Dropped("too_large", f"{len(value)} bytes, at most {MAX_EVENT_BYTES}")
        return value

    def encode_report(self, report: ProducerReport) -> bytes:
        """Return a report's bytes."""
        return self._framed(report)

    def _framed(self, record: Event | ProducerReport) -> bytes:
        if self._ids is None:
            return self._codec.encode(record)
        return self._codec.encode_confluent(record, self._ids[type(record)])

    def _prepare(self, event: Event) -> None:
        if isinstance(event, LLMCall) and event.content is not None:
            bodies.measure(event.content)
        if self._configuration.mask is not None and bodies.has_bodies(event):
            try:
                bodies.mask(event, self._configuration.mask, self._configuration.mask_policy)
            except BaseException as error:  # noqa: BLE001 - the hook is the app's; SystemExit must not end us
                bodies.remove_unmasked(event)
                self._notices.warn("mask", "the mask raised %s: bodies dropped", type(error).__name__)
        if isinstance(event, LLMCall):
            bodies.shorten_error(event)
