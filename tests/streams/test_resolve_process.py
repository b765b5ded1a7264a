"""The resolver between a real broker and the real engine: killed, kept waiting, in vain."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from confluent_kafka import Message, Producer, TopicPartition
from uuid_utils import uuid7

from tidegate import codec
from tidegate.client.handle import series_of
from tidegate.records import Evaluation, Feedback, LLMCall
from tidegate.topics import CALLS, DLQ, EVALUATIONS, FEEDBACK, TOPICS
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.kafka import client, dead_letters, scan
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_streams.resolve.calls import Calls
from tidegate_streams.resolve.process import Resolver
from tidegate_streams.resolve.ratings import Answer, Lonely

pytestmark = pytest.mark.usefixtures("topics", "migrated")

Query = Callable[[str], list[tuple[Any, ...]]]


def call(**changes: Any) -> LLMCall:
    now_us = time.time_ns() // 1_000
    plain = LLMCall(
        event_id=str(uuid7()),
        ts_start=now_us - 2_000_000,
        ts_end=now_us - 1_000_000,
        tenant="acme",
        app="support",
        environment="prod",
        deployment="chat",
        variant="june",
        experiment="upgrade",
        assignment_reason="split",
        assignment_hash=-(2**62),
        assignment_revision=3,
        operation="chat",
        provider="openai",
        request_model="gpt-4o",
        prompt_name="answer",
        status="ok",
    )
    return replace(plain, **changes)


def thumb(about: LLMCall, **changes: Any) -> Feedback:
    plain = Feedback(
        event_id=str(uuid7()),
        ts=about.ts_end + 500_000,
        tenant=about.tenant,
        name="helpful",
        target_event_id=about.event_id,
        kind="thumbs",
        value=1.0,
        given_by="user",
    )
    return replace(plain, **changes)


@cache
def writer(kafka: str) -> Producer:
    """One for all tests: an idempotent producer sends half a second after it was made, not sooner."""
    return client.producer(Settings(kafka=kafka), message_max_bytes=6 << 20)


def send(settings: Settings, topic: str, records: list[Any]) -> None:
    producer = writer(settings.kafka)
    for record in records:
        key = record.event_id if topic == CALLS else record.target_event_id
        producer.produce(settings.topic_prefix + topic, codec.encode(record), key)
    assert producer.flush(30) == 0


def until(question: Callable[[], bool], meanwhile: Callable[[], object] = lambda: time.sleep(0.1)) -> None:
    deadline = time.monotonic() + 40
    while not question():
        assert time.monotonic() < deadline, "it did not come true"
        meanwhile()


@pytest.fixture
def query(settings: Settings) -> Iterator[Query]:
    with closing(clickhouse.connect(settings)) as connection:
        yield lambda sql: [tuple(row) for row in connection.query(sql).result_rows]


@pytest.fixture
def resolver(settings: Settings) -> Iterator[Resolver]:
    """One in this process, without patience."""
    with (
        closing(Calls(settings)) as calls,
        closing(Resolver(Process("resolve", settings), calls, patience_s=0)) as made,
    ):
        yield made


def test_every_rating_gets_its_series_once_though_the_resolver_is_killed_before_it_settles(
    settings: Settings, query: Query, start_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ids say nothing of when a call of the past ended.
    calls = [call(), *(call(ts_start=1_700_000_000_000_000, ts_end=1_700_000_001_000_000) for _ in range(2))]
    calls += [call(event_id=f"foreign-{number}", prompt_name=None) for number in range(3)]
    ratings = [thumb(one) for one in calls]
    judged = Evaluation(
        event_id=str(uuid7()), ts=calls[0].ts_end, tenant="acme", name="correct", kind="judge",
        evaluator="j", passed=True, target_event_id=calls[0].event_id,
    )  # fmt: skip
    start_process("sink", sink_range_ms=100)
    # Ratings come before their calls, and wait for them.
    send(settings, FEEDBACK, ratings[:4])
    monkeypatch.setenv("TIDEGATE_CRASH_AT", "resolve.after_produce")
    process = start_process("resolve").process
    send(settings, CALLS, calls[:4])
    assert process.wait(60) == -9
    send(settings, CALLS, calls[4:])
    send(settings, FEEDBACK, ratings[4:])
    monkeypatch.delenv("TIDEGATE_CRASH_AT")
    send(settings, EVALUATIONS, [judged])
    # It came packed, and is larger than what we send.
    send(settings, FEEDBACK, [thumb(calls[0], comment="x" * (4 << 20))])
    start_process("resolve")
    stored = "SELECT count() FROM {} WHERE has_series"
    until(
        lambda: query(stored.format("evaluations")) == [(1,)] and query(stored.format("feedback")) == [(6,)]
    )
    until(lambda: reasons(settings) == ["too_large"])
    copies = [record for _, record in scan.records(settings, FEEDBACK) if record.series is not None]
    series = {one.event_id: series_of(one) for one in calls}
    assert Counter(copy.event_id for copy in copies) == Counter(rating.event_id for rating in ratings)
    for copy in copies:
        original = next(one for one in ratings if one.event_id == copy.event_id)
        assert copy == replace(original, series=series[original.target_event_id or ""])
    assert query("SELECT count() FROM duplicates") == [(0,)]
    assert reasons(settings) == ["too_large"]


@pytest.mark.long
def test_a_rating_whose_call_does_not_come_is_dead_lettered_when_the_sink_has_stored_all_calls(
    settings: Settings, resolver: Resolver
) -> None:
    # As a dead letter it is larger than what others send.
    lost = thumb(call(), comment="x" * 999_700)
    session = thumb(call(), target_event_id=None, target_session_id="s-1")
    # As dead letters are put back: behind the last message of a partition stands the transaction's mark.
    producer = client.producer(settings, transactional_id=f"{settings.topic_prefix}t")
    producer.init_transactions(30)
    producer.begin_transaction()
    for record in (lost, session):
        producer.produce(settings.topic_prefix + FEEDBACK, codec.encode(record), b"key")
    producer.commit_transaction(30)
    send(settings, CALLS, [call()])
    until(lambda: resolver.open == 1, resolver.turn)
    stands_still_s = time.monotonic() + 1.5
    while time.monotonic() < stands_still_s:
        resolver.turn()
    assert resolver.open == 1, "nobody knows yet whether its call is in the store"
    _store_everything(settings)
    until(lambda: resolver.open == 0, resolver.turn)
    [letter] = scan.messages(settings, DLQ)
    said = dead_letters.read(letter.headers())  # type: ignore[arg-type]
    assert (said.topic, said.stage, said.reason) == (FEEDBACK, "resolve", "unknown_call")
    assert letter.value() == codec.encode(lost)
    assert lost.target_event_id in said.error


@pytest.mark.long
def test_ratings_whose_names_all_have_to_be_escaped_are_asked_about(settings: Settings) -> None:
    made_at_ms = time.time_ns() // 1_000_000
    ratings = [
        thumb(call(), event_id=name, name=name) for name in ("'" * 252 + f"{n:04d}" for n in range(400))
    ]
    found = [Lonely(Message(timestamp=(2, made_at_ms)), one) for one in ratings]
    with closing(Calls(settings)) as calls:
        assert calls.ask(FEEDBACK, found, everywhere=False) == Answer({}, set())


def reasons(settings: Settings) -> list[str]:
    return [dead_letters.read(one.headers()).reason for one in scan.messages(settings, DLQ)]  # type: ignore[arg-type]


def _store_everything(settings: Settings) -> None:
    """Say what a sink says that has stored every message: the offset behind it."""
    group = client.consumer(settings, "sink")
    places = [
        TopicPartition(settings.topic_prefix + topic, partition)
        for topic in (CALLS, FEEDBACK)
        for partition in range(TOPICS[topic].partitions)
    ]
    marks = {settings.topic_prefix + CALLS: 0, settings.topic_prefix + FEEDBACK: 1}
    ends = [max(0, group.get_watermark_offsets(place)[1] - marks[place.topic]) for place in places]
    group.commit(
        offsets=[TopicPartition(p.topic, p.partition, end) for p, end in zip(places, ends, strict=True)],
        asynchronous=False,
    )
    group.close()
