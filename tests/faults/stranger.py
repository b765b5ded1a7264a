"""Somebody else who writes to the topics of the app."""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, Message
from tests.faults.newcomer import REFUSED, Change, written
from tests.faults.poison import call_of, poison, torn
from tests.faults.traffic import Place

from tidegate.client.completion import new_event_id
from tidegate.errors import DependencyUnavailable
from tidegate.topics import CALLS
from tidegate_infra.kafka import client, scan
from tidegate_infra.settings import Settings

_PATIENCE_S = 60.0


class Stranger:
    """Somebody else who writes to the event topics: copies of what stands there, poison, other schemas.

    Parameters
    ----------
    settings
        Of the stack.
    seed
        Of everything that is drawn.

    Attributes
    ----------
    poison
        Place -> reason for which what was written there must be refused.
    wrote
        Place -> the event that was written there, as it must be read.
    refused
        What Kafka did not take.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        self.poison: dict[Place, str] = {}
        self.wrote: dict[Place, Any] = {}
        self.refused: list[str] = []
        self._settings = settings
        self._rng = random.Random(seed)
        self._producer = client.producer(settings, linger_ms=5, message_timeout_ms=180_000)

    def replay(self, topic: str, most: int | None = 400) -> None:
        """Produce a stretch of the log once more, or all of it: the same keys, the same bytes."""
        there = [message for message in self._standing(topic) if message.value()]
        first = self._rng.randrange(max(1, len(there) - most)) if most is not None else 0
        for message in there[first:][:most]:
            place = _place(self._settings, message)
            self._send(
                topic, message.key(), message.value(), lambda copy, place=place: self._again(place, copy)
            )

    def _again(self, place: Place, copy: Place) -> None:
        if place in self.poison:
            self.poison[copy] = self.poison[place]
        if place in self.wrote:
            self.wrote[copy] = self.wrote[place]

    def _standing(self, topic: str) -> list[Message]:
        """Return what stands in a topic, as soon as Kafka answers."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return list(scan.messages(self._settings, topic))
            except DependencyUnavailable:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.5)

    def poisoned(self, topic: str, at_us: int, each: int = 3) -> None:
        """Produce records that must be refused, each for its reason, and a few that must not."""
        for reason, key, value in poison(topic, each, self._rng):
            self._send(topic, key, value, partial(self._refused, reason))
        for _ in range(each):
            for where, key, value, event in torn(topic, at_us):
                self._send(where, key, value, partial(self._wrote, event))

    def joins(self, how: Change, schema_id: int, at_us: int, count: int = 40) -> None:
        """Produce calls in another schema."""
        for number in range(count):
            call = call_of(
                new_event_id(),
                at_us + number * 10_000,
                deployment="newcomer",
                outcome="answered",
                input_tokens=self._rng.randint(10, 2_000),
                output_tokens=self._rng.randint(1, 500),
            )
            noted = partial(self._refused, REFUSED[how]) if how in REFUSED else partial(self._wrote, call)
            self._send(CALLS, call.event_id.encode(), written(call, how, schema_id), noted)

    def _refused(self, reason: str, place: Place) -> None:
        self.poison[place] = reason

    def _wrote(self, event: Any, place: Place) -> None:
        self.wrote[place] = event

    def finish(self, timeout_s: float) -> bool:
        """Say whether Kafka confirmed everything in time."""
        return self._producer.flush(timeout_s) == 0 and not self.refused

    def _send(
        self, topic: str, key: bytes | None, value: bytes | None, confirmed: Callable[[Place], None]
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.refused.append(error.str())
            else:
                confirmed(_place(self._settings, message))

        self._producer.produce(self._settings.topic_prefix + topic, value, key, on_delivery=delivered)
        self._producer.poll(0)


def _place(settings: Settings, message: Message) -> Place:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return topic.removeprefix(settings.topic_prefix), partition, offset
