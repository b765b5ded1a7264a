"""The watch over the ledger: what becomes an alert, and a look at the real log and the real engine."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, TopicPartition

from tidegate import codec
from tidegate.records import Alert
from tidegate.topics import ALERTS, CALLS, EVALUATIONS, FEEDBACK, PRODUCERS
from tidegate_consumers.notify.message import message_of
from tidegate_consumers.sink.unbalanced import RULE, changes, published
from tidegate_consumers.sink.watch import Watch
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.kafka import client, lag, scan, topics
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.kafka.settled import Settled
from tidegate_infra.ledger import LedgerRow
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings

NOW = datetime(2026, 3, 1, 12, 20, tzinfo=UTC)
BALANCED = LedgerRow(
    hour=datetime(2026, 3, 1, 10, tzinfo=UTC),
    producer_id="p",
    tenant="acme",
    app="chat",
    reported=True,
    final=True,
    accepted=10,
    stored=10,
    duplicate=0,
    dead_lettered={},
    failed=0,
    in_flight=0,
    missing=0,
    refused={},
    balanced=True,
)
LOST = replace(BALANCED, stored=7, missing=3, balanced=False)


def taken(*alerts: Alert) -> dict[str, Alert]:
    """What is read back after alerts were published."""
    return published(codec.decode(codec.encode(alert)) for alert in alerts)


def test_what_is_missing_fires_once_for_a_tenant_and_app_and_resolves_once() -> None:
    (fired,) = changes([BALANCED, LOST, replace(LOST, producer_id="q", final=False)], {}, NOW)
    assert (fired.status, fired.sequence, fired.value, fired.tenant) == ("firing", 1, 6.0, "acme")
    assert "6 events that 2 producers of chat" in fired.annotations[0].value
    assert "First in the hour 2026-03-01T10:00Z" in fired.annotations[0].value
    assert "1 of them gave no last account" in fired.annotations[0].value
    later = NOW + timedelta(minutes=5)
    assert changes([replace(LOST, missing=9)], taken(fired), later) == []
    (over,) = changes([BALANCED], taken(fired), later)
    assert (over.status, over.sequence, over.fingerprint) == ("resolved", 2, fired.fingerprint)
    assert over.ends_at == over.ts == fired.ts + 300_000_000
    assert changes([BALANCED], taken(fired, over), later) == []
    (again,) = changes([LOST], taken(over, fired), later)
    assert (again.status, again.sequence) == ("firing", 3)


def test_two_workers_that_find_the_same_send_one_message() -> None:
    (one,), (other,) = (changes([LOST], {}, NOW + timedelta(seconds=seconds)) for seconds in (0, 7))
    assert message_of(one).id == message_of(other).id


def test_apps_and_tenants_have_alerts_of_their_own() -> None:
    rows = [LOST, replace(LOST, app="search"), replace(LOST, tenant="other"), replace(LOST, tenant="")]
    fired = changes(rows, {}, NOW)
    assert len({alert.fingerprint for alert in fired}) == 4
    (over,) = changes(rows[1:], taken(*fired), NOW)
    assert over.labels == fired[0].labels


def test_alerts_of_other_rules_are_not_touched() -> None:
    (fired,) = changes([LOST], {}, NOW)
    assert changes([], taken(replace(fired, rule="another")), NOW) == []


@pytest.fixture
def process(settings: Settings, kafka: str, migrated: None) -> Process:
    topics.apply(settings, [ALERTS, CALLS, FEEDBACK, EVALUATIONS, PRODUCERS])
    asked = TopicPartition(settings.topic_prefix + CALLS, 0)
    with closing(client.consumer(settings, "sink")) as consumer:
        until_s = time.monotonic() + 30
        while consumer.committed([asked], 10)[0].error is not None:
            # A broker that is quite new still loads what its groups have settled.
            assert time.monotonic() < until_s
            time.sleep(0.1)
    return Process("sink", settings)


@pytest.fixture
def tables(process: Process) -> Iterator[Client]:
    with closing(clickhouse.connect(process.settings)) as connection:
        yield connection


def add(tables: Client, table: str, **row: Any) -> None:
    tables.insert(table, [list(row.values())], column_names=list(row))


def test_a_loss_is_told_when_its_hour_is_long_over_and_again_when_it_is_found(
    process: Process, tables: Client
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    events = {"tenant": "acme", "producer_id": "p", "append_ts": hour}
    report = {"producer_id": "p", "tenant": "acme", "app": "chat", "report_seq": 1, "append_ts": hour}
    add(tables, "calls", event_id="1", seq=1, **events)
    add(tables, "producer_reports", accepted=2, final=True, **report)

    def told() -> list[tuple[str, int]]:
        alerts = [alert for _, alert in scan.records(process.settings, ALERTS)]
        assert {alert.rule for alert in alerts} <= {RULE}
        return [(alert.status, alert.sequence) for alert in alerts]

    watch = Watch(process, "sink")
    watch.look(hour + timedelta(minutes=69))
    assert told() == []
    watch.look(hour + timedelta(minutes=70))
    watch.look(hour + timedelta(minutes=75))
    assert told() == [("firing", 1)]
    shown = process.metrics.get_sample_value
    assert shown("tidegate_ledger_events", {"where": "missing"}) == 1
    assert shown("tidegate_ledger_unbalanced_producers", {"tenant": "acme"}) == 1
    add(tables, "calls", event_id="2", seq=2, **events)
    watch.look(hour + timedelta(minutes=80))
    assert told() == [("firing", 1), ("resolved", 2)]
    assert shown("tidegate_ledger_events", {"where": "missing"}) == 0


@pytest.mark.long
def test_nothing_is_judged_while_the_sink_is_behind(process: Process, tables: Client) -> None:
    settings = process.settings
    before = datetime.now(UTC)
    add(tables, "producer_reports", producer_id="p", tenant="a", accepted=2, final=True, append_ts=before)
    (message,) = send(settings, [Outgoing(topic=FEEDBACK, key="k", value=b"not stored yet")])
    ms = message.timestamp()[1]
    with closing(Settled(settings, "sink", [FEEDBACK])) as sink:
        assert sink.reach(sink.ends_at(ms))
        assert not sink.reach(sink.ends_at(ms + 1))
    Watch(process, "sink").look(before + timedelta(hours=2))
    assert list(scan.records(settings, ALERTS)) == []
    settle(settings, TopicPartition(message.topic(), message.partition(), message.offset() + 1))
    with closing(Settled(settings, "sink", [FEEDBACK])) as sink:
        assert sink.reach(sink.ends_at(ms + 1))


@pytest.mark.long
def test_what_a_transaction_leaves_at_the_end_of_a_log_is_nothing_to_wait_for(process: Process) -> None:
    settings = process.settings
    producer = client.producer(settings, transactional_id=f"{settings.topic_prefix}test")
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(settings.topic_prefix + FEEDBACK, b"put back", partition=0)
    producer.commit_transaction(10)
    with closing(Settled(settings, "sink", [FEEDBACK])) as sink:
        until_s = time.monotonic() + 20
        while sink.ends([(FEEDBACK, 0)]) != {(FEEDBACK, 0): 2}:
            # The broker writes its mark behind the answer.
            assert time.monotonic() < until_s
            time.sleep(0.05)
        assert not sink.reach(sink.ends_of(FEEDBACK))
        settle(settings, TopicPartition(settings.topic_prefix + FEEDBACK, 0, 0))
        assert sink.lag() == 2
        settle(settings, TopicPartition(settings.topic_prefix + FEEDBACK, 0, 1))
        assert sink.reach(sink.ends_of(FEEDBACK))
    assert [group.lag for group in lag.groups(settings, ["sink"])] == [0]


def settle(settings: Settings, position: TopicPartition) -> None:
    consumer: Consumer = client.consumer(settings, "sink")
    consumer.commit(offsets=[position], asynchronous=False)
    consumer.close()


@pytest.mark.long
def test_one_worker_looks_and_shows_figures_and_only_a_defect_ends_it(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(**changes: str) -> tuple[Watch, Callable[[str], float | None]]:
        """A worker that has looked once."""
        worker = Process("sink", process.settings.model_copy(update=changes))
        watch = Watch(worker, "sink", first_s=0)
        watch.turn(is_ours=True)
        assert watch._look is not None
        wait([watch._look], 30)

        def figure(name: str) -> float | None:
            labels = {"where": "missing"} if name == "events" else {}
            return worker.metrics.get_sample_value(f"tidegate_ledger_{name}", labels)

        return watch, figure

    watch, shown = looked()
    assert (shown("events"), shown("failed_looks_total")) == (0, 0)
    watch.turn(is_ours=False)
    assert shown("events") is None
    refusing = f"{process.settings.clickhouse.rpartition('/')[0]}/nowhere"
    for trouble in (
        {"clickhouse": "http://127.0.0.1:9/x"},
        {"clickhouse": refusing},
        {"topic_prefix": "without.topics."},
    ):
        watch, shown = looked(**trouble)
        watch.turn(is_ours=True)
        assert (shown("events"), shown("failed_looks_total")) == (None, 1)
    monkeypatch.setattr("tidegate_consumers.sink.unbalanced.changes", lambda *_: 1 / 0)
    watch, _ = looked()
    with pytest.raises(ZeroDivisionError):
        watch.turn(is_ours=False)


def test_a_stop_does_not_wait_for_a_look(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answered = threading.Event(), threading.Event()

    def look(*_: object) -> None:
        begun.set()
        answered.wait(30)

    monkeypatch.setattr(Watch, "look", look)
    Watch(Process("sink", settings), "sink", first_s=0).turn(is_ours=True)
    assert begun.wait(10)
    # The end of a process waits for every other thread.
    assert {thread.daemon for thread in threading.enumerate() if "ledger" in thread.name} == {True}
    answered.set()
