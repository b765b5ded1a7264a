"""What Faust does where stage 2 has a rule for it, on a real broker: with the rule, and without."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiokafka.codec
import faust
import pytest
from aiokafka.errors import UnsupportedCodecError
from confluent_kafka import TopicPartition
from faust.exceptions import ValueDecodeError
from faust.transport.drivers import aiokafka as driver
from tests.streams.journal_readers import GROUP, PARTITION, RAW, produce, refuse_over, started, until

from tidegate import topics
from tidegate.errors import DependencyUnavailable, InvariantBroken
from tidegate_infra.kafka import client, scan
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports
from tidegate_infra.stack.program import Program
from tidegate_streams import app, journals, transport

pytestmark = pytest.mark.long

RESTARTING = {"agent_supervisor": "mode.supervisors.OneForOneSupervisor"}
"""Faust's own."""


def committed(settings: Settings) -> int:
    consumer = client.consumer(settings, GROUP)
    try:
        place = TopicPartition(settings.topic_prefix + topics.PARTIALS, PARTITION)
        return consumer.committed([place], 10)[0].offset
    finally:
        consumer.close()


@pytest.mark.usefixtures("topics")
def test_a_message_that_cannot_be_applied_ends_the_process_where_faust_passes_over_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, b"first", b"second", b"third")
    taken: list[int] = []

    async def take(_: Any, partition: int, offset: int, *message: Any) -> None:
        if offset == 1:
            raise ValueError("the second")
        taken.append(offset)

    monkeypatch.setattr(journals.Journals, "take", take)
    with pytest.raises(ValueError, match="the second"):
        asyncio.run(asyncio.wait_for(app._run(Process("stream", settings)), 30))
    assert taken == [0]
    taken.clear()

    async def theirs() -> bool:
        async def take_event(event: Any) -> None:
            await take(None, PARTITION, event.message.offset)

        async with started(settings, take_event, **RESTARTING) as app:
            await until(lambda: len(taken) == 2)
        return app.crashed

    assert not asyncio.run(theirs())
    assert taken == [0, 2]
    assert committed(settings) == 3, "whoever starts at the commit does not see the second either"


@pytest.mark.usefixtures("topics")
def test_bytes_that_are_no_record_reach_us_where_faust_drops_them(settings: Settings) -> None:
    messages = [b"1", b"\xc3\x01 no record", b"3"]
    produce(settings, *messages)
    read: list[Any] = []

    async def take(event: Any) -> None:
        read.append(event.value)

    async def run(is_over: Callable[[faust.App], object], **faust: Any) -> faust.App:
        async with started(settings, take, **faust) as app:
            await until(lambda: is_over(app))
        return app

    asyncio.run(run(lambda _: len(read) == 3))
    assert read == messages
    read.clear()
    decoding = {"value_serializer": "json"}
    asyncio.run(run(lambda _: len(read) == 2, topic=decoding, **RESTARTING))
    assert read == [1, 3]
    read.clear()
    # Did it decode, our supervisor would at least not go on.
    ended = asyncio.run(run(lambda app: app.crashed, topic=decoding))
    assert read == [1]
    assert isinstance(ended.crash_reason, ValueDecodeError)


@pytest.mark.usefixtures("topics")
def test_left_to_faust_a_start_passes_over_what_was_committed_and_never_applied(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, b"first", b"second", b"third")
    ahead = client.consumer(settings, GROUP)
    place = TopicPartition(settings.topic_prefix + topics.PARTIALS, PARTITION, 2)
    ahead.commit(offsets=[place], asynchronous=False)
    ahead.close()
    read: list[int] = []

    async def take(event: Any) -> None:
        read.append(event.message.offset)

    async def run() -> None:
        async with started(settings, take):
            await until(lambda: 2 in read)

    with monkeypatch.context() as left_to_faust:
        left_to_faust.setattr(transport._Transport, "Consumer", driver.Consumer)
        asyncio.run(run())
    assert read == [2]
    read.clear()
    asyncio.run(run())
    assert read == [0, 1, 2]


@pytest.mark.usefixtures("topics")
def test_one_actor_takes_messages_in_their_order_where_two_do_not(settings: Settings) -> None:
    produce(settings, *(b"%d" % number for number in range(6)))
    read: list[int] = []

    async def take(event: Any) -> None:
        await asyncio.sleep(0.2 if event.message.offset % 2 == 0 else 0)
        read.append(event.message.offset)

    async def run(**faust: Any) -> None:
        async with started(settings, take, **faust):
            await until(lambda: len(read) == 6)

    asyncio.run(run())
    assert read == [0, 1, 2, 3, 4, 5]
    read.clear()
    asyncio.run(run(agent={"concurrency": 2}))
    assert read != [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("kafka")
def test_it_makes_no_topic_where_faust_makes_one_to_elect_a_leader(settings: Settings) -> None:
    def made(**conf: Any) -> set[str]:
        async def run() -> None:
            async with started(settings, _pass, **conf):
                pass

        asyncio.run(run())
        return {
            name
            for name in client.admin(settings).list_topics(timeout=10).topics
            if settings.topic_prefix in name
        }

    assert made() == set()
    leader = client.group_name(settings, GROUP) + "-__assignor-__leader"
    assert made(topic_allow_declare=True, topic_disable_leader=False) == {leader}


async def _pass(_: Any) -> None:
    pass


@pytest.mark.usefixtures("topics")
def test_it_serves_no_page_where_faust_takes_a_port_that_a_second_one_on_the_machine_lacks(
    settings: Settings,
) -> None:
    port = ports.free_port()

    async def run(**conf: Any) -> None:
        async with started(settings, _pass, web_port=port, web_bind="127.0.0.1", **conf):
            with socket.socket() as second:
                second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                second.bind(("127.0.0.1", port))

    asyncio.run(run())
    with pytest.raises(OSError, match="already in use"):
        asyncio.run(run(web_enabled=True))


@pytest.mark.usefixtures("topics")
def test_it_writes_nothing_where_faust_makes_directories(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    async def run() -> None:
        async with started(settings, _pass):
            pass

    asyncio.run(run())
    assert list(Path().iterdir()) == []
    monkeypatch.setattr(transport.JournalApp, "_create_directories", faust.App._create_directories)
    asyncio.run(run())
    assert list(Path().iterdir()) != []


@pytest.mark.usefixtures("topics")
def test_a_partition_that_is_no_longer_fetched_ends_the_process_where_faust_waits_for_ever(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek = transport._Consumer.seek_to_committed

    async def seek_and_pause(consumer: Any) -> Any:
        found = await seek(consumer)
        consumer.pause_partitions(set(found))
        return found

    monkeypatch.setattr(transport._Consumer, "seek_to_committed", seek_and_pause)
    monkeypatch.setattr(journals, "STALLED_SECONDS", 2.0)
    monkeypatch.setattr(app, "_WATCH_SECONDS", 0.2)
    produce(settings, b"never fetched")
    process = Process("stream", settings)
    with pytest.raises(InvariantBroken, match="has 1 messages and none was applied"):
        asyncio.run(asyncio.wait_for(app._run(process), 30))
    monkeypatch.setattr(journals.Journals, "check_progress", lambda *_: None)
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(app._run(Process("stream", settings)), 8))


@pytest.mark.usefixtures("topics")
def test_compressed_messages_are_read_with_the_library_that_aiokafka_does_not_ask_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, b"compressed" * 100)
    read: list[bytes] = []

    async def take(event: Any) -> None:
        read.append(event.value)

    async def run() -> faust.App:
        async with started(settings, take, producer_compression_type=None) as app:
            await until(lambda: read or app.crashed)
        return app

    assert not asyncio.run(run()).crashed
    assert read == [b"compressed" * 100]
    read.clear()
    monkeypatch.setattr(aiokafka.codec, "cramjam", None)
    assert isinstance(asyncio.run(run()).crash_reason, UnsupportedCodecError)
    assert read == []


@pytest.mark.usefixtures("topics")
def test_an_awaited_send_does_not_wait_for_company(settings: Settings) -> None:
    async def seconds(count: int, **conf: Any) -> float:
        async with started(settings, _pass, **conf) as app:
            loop = asyncio.get_running_loop()
            began = loop.time()
            for _ in range(count):
                await app.producer.send_and_wait(
                    settings.topic_prefix + topics.ALERTS, None, b"x", None, None, []
                )
            return loop.time() - began

    ours = asyncio.run(seconds(10))
    theirs = asyncio.run(seconds(10, producer_linger=0.2))
    assert theirs > 10 * 0.2
    assert ours < theirs


@pytest.mark.usefixtures("topics")
def test_what_faust_sends_by_its_own_way_and_kafka_refuses_is_a_line_in_the_log(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """What stage 2 sends itself is an error at once: see the rules."""
    refuse_over(settings, topics.ALERTS, 300)
    produce(settings, b"causes an alert", b"and is passed over")
    taken = []

    async def run() -> bool:
        async def take(event: Any) -> None:
            await app.topic(settings.topic_prefix + topics.ALERTS, **RAW).send(value=os.urandom(3_000))
            taken.append(event.message.offset)

        async with started(settings, take) as app:
            await until(lambda: len(taken) == 2 and "MessageSizeTooLarge" in caplog.text)
        return app.crashed

    assert not asyncio.run(run())
    assert committed(settings) == 2
    assert list(scan.messages(settings, topics.ALERTS)) == []


@pytest.mark.usefixtures("topics")
def test_a_killed_process_has_an_heir_after_a_short_session_where_faust_keeps_its_partitions_for_a_minute(
    settings: Settings, start_process: Callable[..., Program]
) -> None:
    def heir_of_killed(session_ms: int) -> Program:
        process = start_process("stream", kafka_session_ms=session_ms)
        process.wait_until_ready()
        process.kill()
        return start_process("stream")

    heir = heir_of_killed(settings.kafka_session_ms)
    heir.wait_until_ready(20)
    heir.kill()
    with pytest.raises(DependencyUnavailable, match="stream is not ready after 20 s"):
        heir_of_killed(60_000).wait_until_ready(20)
