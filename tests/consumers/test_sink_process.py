"""The sink as a process, between a real broker and the real engine: killed, cut off, caught up."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import Any

import pytest
from confluent_kafka import Producer

from tidegate import codec
from tidegate.records import EndOfStream, LLMCall
from tidegate.topics import CALLS, DLQ, FEEDBACK
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.clickhouse import migrations
from tidegate_infra.kafka import client
from tidegate_infra.kafka.dead_letters import DeadLetter
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports

MINUTE_US = 60_000_000

Query = Callable[[str], list[tuple[Any, ...]]]


@cache
def writer(kafka: str) -> Producer:
    """One for all tests: an idempotent producer sends half a second after it was made, not sooner."""
    return client.producer(Settings(kafka=kafka))


def send(settings: Settings, topic: str, records: Sequence[Any], **more: Any) -> None:
    """Calls under their id, feedback under its target; bytes as they are, under a key of their own."""
    producer = writer(settings.kafka)
    for record in records:
        is_bytes = isinstance(record, bytes)
        own = os.urandom(8) if is_bytes else record.event_id if isinstance(record, LLMCall) else None
        key = own or getattr(record, "target_event_id", None)
        producer.produce(
            settings.topic_prefix + topic, record if is_bytes else codec.encode(record), key, **more
        )
    assert producer.flush(30) == 0


def until(question: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


@pytest.fixture
def query(store: str, settings: Settings) -> Iterator[Query]:
    with closing(clickhouse.connect(settings)) as connection:
        yield lambda sql: [tuple(row) for row in connection.query(sql).result_rows]


def accounted(query: Query, topic: str = "calls") -> int:
    """How many messages of a topic stand in some account."""
    [(rows,)] = query(
        f"SELECT (SELECT count() FROM {topic}) + (SELECT count() FROM duplicates WHERE topic = 'llm.{topic}')"
        f" + (SELECT count() FROM dead_letters WHERE source_topic = 'llm.{topic}' AND stage = 'sink')"
    )
    return int(rows)


@pytest.mark.long
@pytest.mark.usefixtures("topics", "migrated")
def test_every_message_is_stored_once_though_the_sink_is_killed_at_every_step(
    settings: Settings, query: Query, call: Any, start_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [call(producer_id="p", seq=seq) for seq in range(1, 4_001)]
    sent: list[Any] = []
    for number, point in enumerate(["sink.after_claim", "sink.after_insert", "sink.after_settle"]):
        part = [*calls[number * 1_000 : (number + 1) * 1_000], *calls[number * 1_000 : number * 1_000 + 50]]
        sent += [*part, b"poison"]
        send(settings, CALLS, [*part, b"poison"])
        monkeypatch.setenv("TIDEGATE_CRASH_AT", point)
        assert start_process("sink", sink_range_ms=200).process.wait(60) == -9
    monkeypatch.delenv("TIDEGATE_CRASH_AT")
    send(settings, CALLS, calls[3_000:])
    start_process("sink", sink_range_ms=200)
    expected = len(sent) + 1_000
    until(lambda: accounted(query) >= expected)
    assert query("SELECT count(), uniqExact(event_id), uniqExact(seq) FROM calls") == [(4_000, 4_000, 4_000)]
    assert query("SELECT count(), uniqExact(_partition, _offset), uniqExact(seq) FROM duplicates") == [
        (150, 150, 150)
    ]
    assert query("SELECT count(), any(reason) FROM dead_letters") == [(3, "unknown_framing")]


@pytest.mark.long
@pytest.mark.usefixtures("topics", "migrated")
def test_facts_of_every_kind_arrive_and_are_priced_and_timed(
    settings: Settings, query: Query, call: Any, feedback: Any, start_process: Any
) -> None:
    one = call()
    send(settings, CALLS, [one, EndOfStream(run_id="r", ts=one.ts_end)])
    send(settings, FEEDBACK, [feedback(target_event_id=one.event_id), feedback(resolved=False)])
    letter = DeadLetter(
        topic=CALLS, topic_id="i", partition=0, offset=9, stage="aggregate", reason="undecodable", error="no"
    )
    send(settings, DLQ, [b"poison"], headers=letter.headers())
    process = start_process("sink", sink_range_ms=100)
    until(lambda: query("SELECT count() FROM dead_letters")[0][0] == 1 and accounted(query, "feedback") == 2)
    until(lambda: accounted(query) == 1)
    [(cost, status, append_s)] = query(
        "SELECT cost_usd, cost_status, dateDiff('s', append_ts, now()) FROM calls"
    )
    assert (float(cost), status) == (0.0045, "priced")
    assert 0 <= append_s < 60
    assert query("SELECT countIf(has_series), count() FROM feedback") == [(1, 2)]
    process.wait_until_ready(10)
    process.stop()
    assert process.process.returncode == 0


@pytest.mark.long
@pytest.mark.usefixtures("topics")
def test_while_the_store_is_down_the_sink_waits_says_so_and_loses_nothing(
    settings: Settings, call: Any, start_process: Any
) -> None:
    address = f"http://127.0.0.1:{ports.free_port()}/facts"
    settings = settings.model_copy(update={"clickhouse": address, "data_dir": settings.data_dir / "own"})
    changes = {"clickhouse": address, "data_dir": settings.data_dir}

    def counts() -> tuple[Any, ...]:
        with closing(clickhouse.connect(settings)) as connection:
            return tuple(connection.query("SELECT count(), uniqExact(event_id) FROM calls").result_rows[0])

    store = start_process("store", **changes)
    store.wait_until_ready()
    with closing(clickhouse.connect(settings)) as connection:
        migrations.up(connection)
    sink = start_process("sink", sink_range_ms=100, **changes)
    send(settings, CALLS, [call() for _ in range(500)])
    until(lambda: counts() == (500, 500))
    store.kill()
    send(settings, CALLS, [call() for _ in range(500)])
    until(lambda: "not stored yet" in sink.health()[1])
    for _ in range(3):
        send(settings, CALLS, [call() for _ in range(500)])
        time.sleep(0.3)
    assert sink.process.poll() is None
    store = start_process("store", **changes)
    store.wait_until_ready()
    until(lambda: counts() == (2_500, 2_500))
    until(lambda: sink.health()[0])
    # It hangs, as behind a cut link: the claim is kept, and nothing is sent twice when it answers again.
    store.process.send_signal(signal.SIGSTOP)
    send(settings, CALLS, [call() for _ in range(500)])
    until(lambda: "has not answered for" in sink.health()[1])
    store.process.send_signal(signal.SIGCONT)
    until(lambda: counts() == (3_000, 3_000))


@pytest.mark.usefixtures("topics", "store")
def test_without_tables_the_sink_says_how_to_make_them(settings: Settings, start_process: Any) -> None:
    sink = start_process("sink")
    assert sink.process.wait(30) == 3
    assert "tidegate migration up" in sink.last_words()


@pytest.mark.usefixtures("topics", "migrated")
def test_stored_windows_say_the_same_as_stored_calls(
    settings: Settings, query: Query, call: Any, start_process: Any
) -> None:
    calls = [
        call(
            ts_start=1_760_000_000_000_000 + number * 200_000,
            ts_end=1_760_000_000_000_000 + number * 200_000 + 1_000 * (number % 97 + 1),
            request_model="gpt-4o" if number % 3 else "nobody-knows-this",
            status="error" if number % 10 == 0 else "ok",
            variant="new" if number % 4 == 0 else "base",
        )
        for number in range(900)
    ]
    send(settings, CALLS, calls)
    for partition in range(12):
        end = EndOfStream(run_id="r", ts=calls[-1].ts_end + 4 * MINUTE_US)
        send(settings, CALLS, [end], partition=partition)
    for name in ("aggregate", "stream", "sink"):
        start_process(name, watermark="data", allowed_lateness_us=MINUTE_US, sink_range_ms=100, range_ms=100)
    final = (
        "FROM windows_between(since = '2025-01-01', until = '2026-01-01')"
        " WHERE window = '1m' AND phase = 'final' AND toSecond(window_start) = 0 AND rollup = "
    )
    until(lambda: query(f"SELECT sum(calls) {final} 'tenant'")[0][0] == 900 == accounted(query), 60)
    assert query(
        "SELECT sum(calls), sum(input_tokens), sum(cost_usd), sum(unpriced), sum(status_error)"
        f" {final} 'tenant'"
    ) == query(
        "SELECT count(), sum(input_tokens), sum(cost_usd), countIf(cost_status = 'unpriced'),"
        " countIf(status = 'error') FROM calls"
    )
    assert query(
        f"SELECT window_start, variant, calls {final} 'release' AND calls > 0 ORDER BY 1, 2"
    ) == query(
        "SELECT toStartOfMinute(ts) AS start, variant, count() FROM calls"
        " GROUP BY start, variant ORDER BY 1, 2"
    )
