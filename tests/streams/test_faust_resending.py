"""What stage 2 sends when the answer to it gets lost, on a real broker behind a link that can be cut."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from faust.transport.drivers import aiokafka as driver
from tests.faults.links import Network
from tests.streams.journal_readers import Positions, until

from tidegate import topics
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.topics import apply
from tidegate_infra.settings import Settings
from tidegate_infra.stack import kafka, ports
from tidegate_infra.stack.group import ProcessGroup
from tidegate_streams import transport

pytestmark = pytest.mark.long


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def linked(tmp_path: Path, process_group: ProcessGroup, network: Network) -> Iterator[Settings]:
    """Settings of a broker of this test alone, with all topics, that is reached without the link."""
    own, controller, listening = (ports.free_port() for _ in range(3))
    link = network.add("stream", listening)
    running = kafka.launch(
        tmp_path / "kafka",
        own,
        group=process_group,
        properties={
            "listeners": f"PLAINTEXT://127.0.0.1:{own},CONTROLLER://127.0.0.1:{controller},"
            f"LINK://127.0.0.1:{listening}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{own},LINK://127.0.0.1:{link.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LINK:PLAINTEXT",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        },
    )
    try:
        running.wait_until_ready()
        settings = Settings(kafka=running.bootstrap)
        apply(settings)
        yield settings
    finally:
        running.kill()


async def send_while_answers_are_lost(linked: Settings, network: Network) -> None:
    link = network.links["stream"]
    settings = linked.model_copy(update={"kafka": f"127.0.0.1:{link.port}"})
    app = transport.build("app", settings, Positions())
    await app.producer.start()
    try:
        await app.producer.send_and_wait(topics.ALERTS, None, b"before", 0, None, [])
        network.do(link.hold("back"))
        sending = asyncio.create_task(app.producer.send_and_wait(topics.ALERTS, None, b"once", 0, None, []))
        await until(lambda: sending.done() or b"once" in values(linked))
        assert not sending.done()
        network.do(link.cut())
        network.do(link.heal())
        await asyncio.wait_for(sending, 30)
    finally:
        await app.producer.stop()


def values(settings: Settings) -> list[bytes | None]:
    return [message.value() for message in scan.messages(settings, topics.ALERTS)]


def test_what_is_sent_again_for_want_of_an_answer_stands_once_in_the_log(
    linked: Settings, network: Network
) -> None:
    asyncio.run(send_while_answers_are_lost(linked, network))
    assert values(linked) == [b"before", b"once"]


def test_without_numbers_it_stands_twice(
    linked: Settings, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport._Producer, "_settings_extra", driver.Producer._settings_extra)
    asyncio.run(send_while_answers_are_lost(linked, network))
    assert values(linked) == [b"before", b"once", b"once"]
