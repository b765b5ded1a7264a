"""Reading back what was published, however slowly Kafka gives it."""

from types import SimpleNamespace

import pytest

from tidegate import topics
from tidegate.codec import encode
from tidegate.errors import DependencyUnavailable
from tidegate.records import DeploymentStatus
from tidegate_infra.settings import Settings
from tidegate_streams import published, readback


class SlowKafka:
    """Gives one message at a time, then the ends; or falls silent."""

    def __init__(self, clock, count, ends=True, ended=0):
        self.clock = clock
        # Appended behind an end that was reached: the message, and the end once more.
        self.messages = [
            message
            for n in range(ended)
            for message in (Message(topics.STATUS, 0, end=True), Message(topics.STATUS, 0, status(n)))
        ]
        self.messages += [Message(topics.STATUS, 0, status(n)) for n in range(count)]
        if ends:
            partitions = (
                (name, n) for name in published._READ_BACK for n in range(topics.TOPICS[name].partitions)
            )
            self.messages += [Message(*place, end=True) for place in partitions]

    def consume(self, _count, timeout):
        self.clock[0] += 20.0 if self.messages else timeout
        return [self.messages.pop(0)] if self.messages else []

    def get_watermark_offsets(self, *_, **__):
        return 0, 1_000

    def assign(self, _):
        pass

    def close(self):
        pass


class Message:
    def __init__(self, topic, partition, value=None, *, end=False):
        self.topic, self.partition, self.value = (lambda: topic), (lambda: partition), (lambda: value)
        self.error = lambda: readback.KafkaError(readback.KafkaError._PARTITION_EOF) if end else None


def status(number):
    return encode(
        DeploymentStatus(
            command_id=str(number),
            tenant="acme",
            environment="prod",
            deployment="chat",
            revision=0,
            applier="tidegate",
            status="rejected",
            ts=1,
        )
    )


def read(monkeypatch, **how):
    clock = [0.0]
    monkeypatch.setattr(readback, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    kafka = SlowKafka(clock, **how)
    monkeypatch.setattr(readback.client, "consumer", lambda *_, **__: kafka)

    return published.read(Settings()), clock[0]


def test_reading_back_goes_on_as_long_as_messages_come(monkeypatch):
    found, seconds = read(monkeypatch, count=10)
    assert len(found.refusals) == 10
    assert seconds > 2 * readback.SILENCE_SECONDS


def test_silence_before_the_end_says_what_is_missing(monkeypatch):
    with pytest.raises(DependencyUnavailable, match=r"for 30 s, and the end of llm.deployments\[0\]"):
        read(monkeypatch, count=10, ends=False)


def test_an_end_that_is_reached_again_because_somebody_appended_is_no_fault(monkeypatch):
    found, _ = read(monkeypatch, count=0, ended=1)
    assert found.refusals == {("0", 1)}


def test_what_is_appended_behind_a_reached_end_does_not_hide_that_the_others_are_silent(monkeypatch):
    with pytest.raises(DependencyUnavailable, match=r"for 30 s, and the end of llm.deployments\[0\]"):
        read(monkeypatch, count=0, ended=20)
