"""What is too large for Kafka stands among the dead letters, and in nobody's way."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
import structlog
from prometheus_client import CollectorRegistry
from tests.streams.drive import Drive, action, rate, rollout
from tests.streams.shell import START, assigned, command, decide, run, take

from tidegate import codec, topics
from tidegate.errors import ContractError
from tidegate.limits import LARGEST_CONTROL_BYTES, LONGEST_NAME_BYTES, MOST_METRICS, check_control
from tidegate.records import Alert, DeploymentCommand, Rollout, RolloutProgress
from tidegate_infra.kafka import dead_letters
from tidegate_infra.kafka.client import LARGEST_BYTES
from tidegate_infra.settings import Settings
from tidegate_streams.outbox import OUTPUTS, Outbox


class Producer:
    """Keeps what it is given."""

    def __init__(self):
        self.sent = []

    async def send_and_wait(self, topic, key, value, _partition, _timestamp, headers):
        self.sent.append((topic, key, value, headers))


@pytest.fixture
def outbox():
    process = SimpleNamespace(
        name="stream", settings=Settings(), metrics=CollectorRegistry(), log=structlog.get_logger()
    )
    return Outbox(process, Producer(), "journal-id")


@pytest.mark.parametrize("topic", [*OUTPUTS.values(), topics.DLQ, topics.PARTIALS])
def test_a_topic_takes_the_largest_message_that_stage_2_writes_or_reads(topic):
    assert int(topics.TOPICS[topic].config["max.message.bytes"]) > LARGEST_BYTES


def test_all_that_is_decided_from_the_largest_specification_and_action_fits_a_message():
    names = [f"evaluation.{number:0{LONGEST_NAME_BYTES}}" for number in range(MOST_METRICS)]
    drive = Drive(rollout(metrics=[rate(name) for name in names], source_yaml="x" * LARGEST_CONTROL_BYTES))
    drive.serve(2)
    drive.act("rollback", reason="x" * LARGEST_CONTROL_BYTES)
    kinds = {type(record): len(codec.encode(record)) for record in drive.outputs}
    assert kinds.keys() == {DeploymentCommand, RolloutProgress, Alert}
    assert max(kinds.values()) < LARGEST_BYTES / 4


@pytest.mark.parametrize("control", [rollout(metrics=[rate()] * (MOST_METRICS + 1)), action("pause")])
def test_more_than_that_is_refused(control):
    size = 1_000 if isinstance(control, Rollout) else LARGEST_CONTROL_BYTES + 1
    with pytest.raises(ContractError, match="at most"):
        check_control(control, size)


def test_a_record_that_is_too_large_is_refused_before_it_is_sent(outbox):
    asyncio.run(outbox.send(replace(command(1), reason="x" * (LARGEST_BYTES - 1_000))))
    with pytest.raises(ContractError, match="bytes, at most 4194304"):
        asyncio.run(outbox.send(replace(command(1), reason="x" * LARGEST_BYTES)))
    assert len(outbox._producer.sent) == 1


@pytest.mark.parametrize(("size", "kept"), [(1_000, 1_000), (LARGEST_BYTES, 0)])
def test_a_dead_letter_keeps_its_bytes_as_long_as_kafka_takes_them(outbox, size, kept):
    asyncio.run(outbox.reject(2, 7, None, b"x" * size, ContractError("undecodable", "no record")))
    [(topic, _, value, headers)] = outbox._producer.sent
    letter = dead_letters.read(headers)
    assert (topic, len(value)) == (topics.DLQ, kept)
    assert (letter.coordinates, letter.reason) == ("journal-id:2:7", "undecodable")
    assert "no record" in letter.error


def test_what_cannot_be_published_does_not_stop_what_follows(known, monkeypatch, journal):
    decide(monkeypatch, command(1), command(2))

    async def scenario():
        held = await assigned()
        held.outbox.go_on.set()
        send, refused = held.outbox.send, []

        async def too_large(record):
            if record.revision == 1:
                raise ContractError("too_large", "a message has many bytes")
            await send(record)

        async def reject(partition, offset, _key, _value, error):
            refused.append((partition, offset, error.reason))

        held.outbox.send, held.outbox.reject = too_large, reject
        await take(held, 0, journal().beat(START))
        await take(held, 1, journal().beat(START))
        return refused, [one.revision for one in held.outbox.sent]

    assert run(scenario()) == ([(2, 0, "too_large")], [2])
