"""What Faust does by itself and must not do here, on a real broker."""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from faust.types import TP
from prometheus_client import CollectorRegistry

from tidegate import topics
from tidegate.errors import DependencyUnavailable
from tidegate.records import KeyValue
from tidegate_infra.kafka import client, scan
from tidegate_infra.settings import Settings
from tidegate_streams import alerts, fence, transport
from tidegate_streams.outbox import Outbox

PARTITION = 3
GROUP = "rules"


class Positions:
    """Reads each partition from its beginning, and remembers what it was told."""

    def __init__(self) -> None:
        self.next: dict[TP, int] = {}
        self.signs_of_life: list[fence.Moment] = []

    def assign(self, partitions: set[TP]) -> None:
        self.next = {}

    async def revoke(self) -> None:
        pass

    def heard(self, at: fence.Moment) -> None:
        self.signs_of_life.append(at)

    async def recall(self) -> None:
        pass

    async def begin(self, partition: TP, start: int, end: int) -> None:
        self.next[partition] = start

    def position(self, partition: TP) -> int | None:
        return self.next.get(partition)


async def consumed(settings: Settings, positions: Positions, count: int) -> list[tuple[bytes, int]]:
    """Let the app read so many messages and hear of its group twice."""
    app = transport.build(client.group_name(settings, GROUP), settings, positions)
    read: list[tuple[bytes, int]] = []

    async def follow(stream: Any) -> None:
        async for event in stream.events():
            read.append((event.message.value, event.message.offset))

    raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "value_serializer": "raw"}
    app.agent(app.topic(settings.topic_prefix + topics.PARTIALS, **raw))(follow)
    await app.start()
    try:
        async with asyncio.timeout(20):
            while len(read) < count or len(positions.signs_of_life) < 2:  # noqa: ASYNC110 - of two threads
                await asyncio.sleep(0.02)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await app.stop()
    return read


@pytest.mark.usefixtures("topics")
def test_it_reads_from_where_the_fold_is_whatever_the_group_committed_and_makes_no_topic(
    settings: Settings,
) -> None:
    journal = settings.topic_prefix + topics.PARTIALS
    producer = client.producer(settings)
    messages = [b"first", b"\xc3\x01 no record", b"last"]
    for message in messages:
        producer.produce(journal, message, partition=PARTITION)
    assert producer.flush(20) == 0
    # Faust commits past what is still being applied: as if a process had been killed there.
    ahead = client.consumer(settings, GROUP)
    ahead.commit(offsets=[TopicPartition(journal, PARTITION, len(messages))], asynchronous=False)
    ahead.close()
    before = set(client.admin(settings).list_topics(timeout=10).topics)
    positions = Positions()
    read = asyncio.run(consumed(settings, positions, len(messages)))
    assert read == [(message, offset) for offset, message in enumerate(messages)]
    assert set(client.admin(settings).list_topics(timeout=10).topics) - before <= {"__consumer_offsets"}


def test_it_keeps_no_table_restarts_no_agent_in_place_and_serves_no_page() -> None:
    async def build() -> transport.JournalApp:
        return transport.build("app", Settings(), Positions())

    app = asyncio.run(build())
    assert not app.tables
    assert app.conf.processing_guarantee.value == "at_least_once"
    assert app.conf.agent_supervisor.__name__ == "CrashingSupervisor"
    assert not app.conf.web_enabled
    assert not app.conf.topic_allow_declare
    assert app.conf.topic_disable_leader
    assert str(app.conf.store) == "memory:"
    assert app.conf.producer_linger == 0.0


@pytest.mark.usefixtures("topics")
def test_what_kafka_refuses_is_an_error_at_once_and_not_a_line_in_the_log(settings: Settings) -> None:
    """Faust's own way of sending logs a refusal, and goes on without what it was to send."""
    name = settings.topic_prefix + topics.ALERTS
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    entry = ConfigEntry("max.message.bytes", "300", incremental_operation=AlterConfigOpType.SET)
    resource.add_incremental_config(entry)
    admin = client.admin(settings)
    [altered] = admin.incremental_alter_configs([resource]).values()
    altered.result(20)
    small = alerts.series_overflow("shard", "t", pane_us=1, excess=1, cap=1)
    noise = "".join(str(uuid.uuid4()) for _ in range(100))
    large = replace(small, annotations=[KeyValue(key="summary", value=noise)])

    confirmed = []

    async def send_until_refused(outbox: Outbox) -> None:
        # A broker takes a moment to do as its topics are told.
        async with asyncio.timeout(20):
            while True:
                await outbox.send(large)
                confirmed.append(large)

    async def send() -> None:
        app = transport.build(client.group_name(settings, GROUP), settings, Positions())
        await app.producer.start()
        process = SimpleNamespace(
            name="stream", settings=settings, metrics=CollectorRegistry(), log=structlog.get_logger()
        )
        try:
            with pytest.raises(DependencyUnavailable, match=rf"Kafka did not take a message to {name}"):
                await send_until_refused(Outbox(process, app.producer, "journal-id"))
        finally:
            await app.producer.stop()

    asyncio.run(send())
    assert [alert for _, alert in scan.records(settings, topics.ALERTS)] == confirmed
