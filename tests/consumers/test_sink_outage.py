"""The sink while the store is down, slow, or refuses: it waits, holds little, says so, and catches up."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from tests.consumers.between import (
    Between,
    does_it_and_hangs_up,
    has_too_many_parts,
    honest,
    is_busy,
    on_inserts,
    refuses_the_user,
    says_200_with_an_exception_in_the_body,
)

from tidegate import codec
from tidegate.topics import ALERTS, CALLS
from tidegate_consumers.sink import process as sink_process
from tidegate_consumers.sink.process import Sink
from tidegate_consumers.sink.store import Store
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.kafka import claims, client, losses, scan
from tidegate_infra.kafka.log import RetentionLoss
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.long

HELD_BYTES = 40_000
CHUNK = 100


@pytest.fixture
def between(migrated: None, settings: Settings) -> Iterator[Between]:
    with closing(Between(settings.clickhouse)) as proxy:
        yield proxy


@pytest.fixture
def process(between: Between, settings: Settings) -> Process:
    changes = {"clickhouse": between.address, "sink_range_ms": 50, "sink_range_rows": CHUNK}
    return Process("sink", settings.model_copy(update=changes))


@pytest.fixture
def sink(topics: None, process: Process, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    monkeypatch.setattr(sink_process, "HELD_BYTES", HELD_BYTES)
    monkeypatch.setattr(sink_process, "_PAUSES_S", (0.05,))
    monkeypatch.setattr(claims, "_CHUNK", CHUNK)
    with closing(Store(process.settings)) as store, closing(Sink(process, store)) as sink:
        yield sink


@pytest.fixture
def send(settings: Settings, call: Any) -> Callable[[int], None]:
    producer = client.producer(settings)

    def send(count: int) -> None:
        for one in [call() for _ in range(count)]:
            producer.produce(settings.topic_prefix + CALLS, codec.encode(one), one.event_id, partition=3)
        assert producer.flush(30) == 0

    return send


def turn_until(sink: Sink, question: Callable[[], bool], seconds: float = 30) -> None:
    until_s = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < until_s, "it did not come true"
        sink.turn()


def drained(sink: Sink, count: int) -> Callable[[], bool]:
    return lambda: sum(at for (topic, _), at in sink.positions().items() if topic == CALLS) == count


def says(process: Process, words: str) -> bool:
    return words in process.health.readyz()[1]


def stored(settings: Settings) -> tuple[int, int, int]:
    """Rows, offsets, ids."""
    with closing(clickhouse.connect(settings)) as connection:
        query = "SELECT count(), uniqExact(_partition, _offset), uniqExact(event_id) FROM calls"
        return tuple(connection.query(query).result_rows[0])


def test_through_every_kind_of_outage_little_is_held_and_everything_is_stored_once(
    sink: Sink, process: Process, between: Between, settings: Settings, send: Callable[[int], None]
) -> None:
    sent = 0
    for fault, words in [
        (refuses_the_user, "Authentication failed"),
        (has_too_many_parts, "Too many parts"),
        (is_busy, "503"),
        (does_it_and_hangs_up, "not stored yet"),
        (says_200_with_an_exception_in_the_body, "without saying that it wrote them"),
    ]:
        between.fault = on_inserts(fault)
        send(300)
        sent += 300
        turn_until(sink, partial(says, process, words))
        for _ in range(10):
            sink.turn()
        # A fetch may exceed it.
        assert sink._consumer.held_bytes() < HELD_BYTES + CHUNK * 1_000
        between.fault = honest
        turn_until(sink, drained(sink, sent))
        assert stored(settings) == (sent, sent, sent)
        turn_until(sink, lambda: process.health.is_ready)


def test_a_table_that_really_has_too_many_parts_is_waited_for(
    sink: Sink, process: Process, settings: Settings, send: Callable[[int], None]
) -> None:
    with closing(clickhouse.connect(settings)) as connection:
        send(100)
        turn_until(sink, drained(sink, 100))
        connection.command("ALTER TABLE calls MODIFY SETTING max_parts_in_total = 1")
        send(100)
        turn_until(sink, partial(says, process, "code: 252"))
        connection.command("ALTER TABLE calls RESET SETTING max_parts_in_total")
        turn_until(sink, drained(sink, 200))
    assert stored(settings) == (200, 200, 200)


@pytest.mark.usefixtures("topics")
def test_when_kafka_has_forgotten_the_groups_offsets_it_goes_on_behind_what_is_stored(
    process: Process, settings: Settings, send: Callable[[int], None]
) -> None:
    admin, group = client.admin(settings), client.group_name(settings, sink_process.GROUP)
    sent = 0
    for more in (100, 50):
        life = Process("sink", process.settings)
        send(more)
        sent += more
        with closing(Store(life.settings)) as store, closing(Sink(life, store)) as sink:
            turn_until(sink, drained(sink, sent))
        until_s = time.monotonic() + 20
        while (error := admin.delete_consumer_groups([group])[group].exception(20)) is not None:
            # Its last member is still leaving.
            assert time.monotonic() < until_s, error
            time.sleep(0.1)
    assert stored(settings) == (150, 150, 150)
    with closing(clickhouse.connect(settings)) as connection:
        assert connection.command("SELECT count() FROM duplicates") == 0


@pytest.mark.usefixtures("topics")
def test_events_that_retention_took_before_they_were_stored_are_noted_and_end_the_sink(
    process: Process, settings: Settings, call: Any
) -> None:
    producer, real = client.producer(settings), settings.topic_prefix + CALLS
    for one in [call() for _ in range(30)]:
        producer.produce(real, codec.encode(one), one.event_id, partition=3)
    assert producer.flush(30) == 0
    consumer = client.consumer(settings, sink_process.GROUP)
    consumer.commit(offsets=[TopicPartition(real, 3, 5)], asynchronous=False)
    consumer.close()
    admin = client.admin(settings)
    [cut] = admin.delete_records([TopicPartition(real, 3, 12)]).values()
    cut.result(20)
    with closing(clickhouse.connect(settings)) as connection:
        # Where it cannot be noted it is told even so.
        for renamed in ("log_losses TO away", "away TO log_losses"):
            connection.command(f"RENAME TABLE {renamed}")
            with pytest.raises(RetentionLoss, match="offsets 5 to 11 are gone"):
                sink_process.main(process if "TO away" in renamed else Process("sink", process.settings))
        query = "SELECT topic, _partition, first_offset, last_offset FROM log_losses"
        assert [tuple(row) for row in connection.query(query).result_rows] == [(CALLS, 3, 5, 11)]
    [(_, alert)] = scan.records(settings, ALERTS)
    assert (alert.rule, alert.status, alert.value) == (losses.RULE, "firing", 7.0)
