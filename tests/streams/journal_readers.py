"""Apps that read a journal as stage 2 does, with any of the rules for Faust switched off."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from faust.types import TP

from tidegate import topics
from tidegate_infra.kafka import client
from tidegate_infra.settings import Settings
from tidegate_streams import fence, transport

PARTITION = 3
GROUP = "rules"
RAW = {"key_type": bytes, "value_type": bytes, "value_serializer": "raw"}


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


def produce(settings: Settings, *messages: bytes) -> None:
    """Write to the journal."""
    producer = client.producer(settings)
    for message in messages:
        producer.produce(settings.topic_prefix + topics.PARTIALS, message, partition=PARTITION)
    assert producer.flush(20) == 0


def refuse_over(settings: Settings, topic: str, size: int) -> None:
    """Let Kafka refuse messages to a topic that have more bytes; it takes a moment to do so."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, settings.topic_prefix + topic)
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource.add_incremental_config(entry)
    admin = client.admin(settings)
    [altered] = admin.incremental_alter_configs([resource]).values()
    altered.result(20)


@asynccontextmanager
async def started(
    settings: Settings,
    take: Callable[[Any], Awaitable[None]],
    positions: Positions | None = None,
    *,
    agent: dict[str, Any] | None = None,
    topic: dict[str, Any] | None = None,
    **conf: Any,
) -> AsyncIterator[transport.JournalApp]:
    """Start an app that takes each event of the journal.

    Parameters
    ----------
    settings
        Where Kafka is.
    take
        Gets an event.
    positions
        Where to read from; the beginning when not given.
    agent, topic, conf
        Of Faust, instead of what stage 2 has.
    """
    app = transport.build(client.group_name(settings, GROUP), settings, positions or Positions(), **conf)

    async def follow(stream: Any) -> None:
        async for event in stream.events():
            await take(event)

    journal = app.topic(settings.topic_prefix + topics.PARTIALS, **(topic if topic is not None else RAW))
    app.agent(journal, **(agent or {}))(follow)
    try:
        await app.start()
        yield app
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await app.stop()
                # Faust leaves the thread of an app that crashed elsewhere.
                if app.consumer._thread._thread.is_alive():
                    await app.consumer._thread.stop()


async def until(is_so: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - of two threads
            await asyncio.sleep(0.02)
