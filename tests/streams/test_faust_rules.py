"""The rules for Faust, in short; what it does without each stands in ``test_faust_failures``."""

import asyncio
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from confluent_kafka import TopicPartition
from prometheus_client import CollectorRegistry
from tests.streams.journal_readers import GROUP, PARTITION, Positions, produce, refuse_over, started, until

from tidegate import topics
from tidegate.errors import DependencyUnavailable
from tidegate.records import KeyValue
from tidegate_infra.kafka import client, scan
from tidegate_infra.settings import Settings
from tidegate_streams import alerts, transport
from tidegate_streams.outbox import Outbox


@pytest.mark.usefixtures("topics")
def test_it_reads_from_where_the_fold_is_whatever_the_group_committed_and_makes_no_topic(
    settings: Settings,
) -> None:
    messages = [b"first", b"\xc3\x01 no record", b"last"]
    produce(settings, *messages)
    # Faust commits past what is still being applied: as if a process had been killed there.
    ahead = client.consumer(settings, GROUP)
    place = TopicPartition(settings.topic_prefix + topics.PARTIALS, PARTITION, len(messages))
    ahead.commit(offsets=[place], asynchronous=False)
    ahead.close()
    before = set(client.admin(settings).list_topics(timeout=10).topics)
    positions = Positions()
    read: list[tuple[bytes, int]] = []

    async def take(event: Any) -> None:
        read.append((event.message.value, event.message.offset))

    async def run() -> None:
        async with started(settings, take, positions):
            await until(lambda: len(read) == len(messages) and len(positions.signs_of_life) > 1)

    asyncio.run(run())
    assert read == [(message, offset) for offset, message in enumerate(messages)]
    assert set(client.admin(settings).list_topics(timeout=10).topics) - before <= {"__consumer_offsets"}


def test_every_rule_is_in_force() -> None:
    async def build() -> transport.JournalApp:
        return transport.build("app", Settings(), Positions())

    app = asyncio.run(build())
    assert not app.tables
    assert app.conf.processing_guarantee.value == "at_least_once"
    assert app.conf.agent_supervisor.__name__ == "CrashingSupervisor"
    assert not app.conf.web_enabled
    assert not app.conf.topic_allow_declare
    assert app.conf.topic_disable_leader
    assert app.conf.producer_linger == 0.0
    assert app.conf.broker_session_timeout == Settings().kafka_session_ms / 1_000


@pytest.mark.usefixtures("topics")
def test_what_kafka_refuses_is_an_error_at_once_and_not_a_line_in_the_log(settings: Settings) -> None:
    """Faust's own way of sending logs a refusal, and goes on without what it was to send."""
    name = settings.topic_prefix + topics.ALERTS
    refuse_over(settings, topics.ALERTS, 300)
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
