"""Notify on a thread of its own, and what a test asks of it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from confluent_kafka import Producer, TopicPartition

from tidegate import codec
from tidegate.topics import DLQ
from tidegate_consumers.notify.process import deliver
from tidegate_consumers.notify.schedule import Schedule
from tidegate_infra.kafka import client, dead_letters, scan
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings

QUICK = Schedule(pauses_s=(0.05, 0.1), longest_asked_s=2)


@cache
def writer(kafka: str) -> Producer:
    """One for all tests: an idempotent producer sends half a second after it was made, not sooner."""
    return client.producer(Settings(kafka=kafka))


def publish(settings: Settings, topic: str, *records: Any) -> None:
    """Records, bytes as they are, and None as the mark of a removed key."""
    producer = writer(settings.kafka)
    for record in records:
        value = record if record is None or isinstance(record, bytes) else codec.encode(record)
        producer.produce(settings.topic_prefix + topic, value, "k")
    assert producer.flush(20) == 0


def until(question: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.03)


def committed(settings: Settings, topic: str, group: str = "notify") -> int:
    reader = client.consumer(settings, group)
    try:
        [place] = reader.committed([TopicPartition(settings.topic_prefix + topic, 0)], timeout=10)
        return int(place.offset)
    finally:
        reader.close()


def letters(settings: Settings) -> list[tuple[str, str, bytes]]:
    found = []
    for message in scan.messages(settings, DLQ):
        letter = dead_letters.read(message.headers())  # type: ignore[arg-type]
        found.append((letter.stage, letter.reason, message.value() or b""))
    return found


def figure(process: Process, name: str, channel: str = "webhook", **labels: str) -> float:
    labels["channel"] = channel
    return process.metrics.get_sample_value(f"tidegate_notify_{name}", labels) or 0.0


@contextmanager
def notify(
    settings: Settings, hooks: Any, schedule: Schedule = QUICK, timeout_s: float = 5, **changes: Any
) -> Iterator[Process]:
    """Notify on a thread of its own, ready; what it fails with fails the test."""
    changed = settings.model_copy(update=(hooks.settings if hooks else {}) | changes)
    process = Process("notify", changed)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(deliver(process, schedule, timeout_s))
        except BaseException as error:  # noqa: BLE001 - handed over to the test
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: process.health.is_ready or bool(failed))
        assert not failed, failed
        yield process
    finally:
        process.stopping.set()
        thread.join(20)
        assert not thread.is_alive()
        assert not failed, failed
