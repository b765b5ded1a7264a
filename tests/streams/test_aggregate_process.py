"""Stage 1 as a process against a real broker: what is counted, once, whatever kills it."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer

from tidegate import codec
from tidegate.records import (
    EndOfStream,
    Feedback,
    Heartbeat,
    JournalAction,
    JournalRollout,
    LLMCall,
    PartialBatch,
    Rollout,
)
from tidegate.series import shard_partition
from tidegate.topics import CALLS, DLQ, FEEDBACK, PARTIALS, PRICES, ROLLOUTS, TOPICS
from tidegate_infra.kafka import client, dead_letters, scan
from tidegate_infra.kafka.log import Log
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings
from tidegate_infra.stack.program import Program
from tidegate_streams import partials
from tidegate_streams.aggregate.process import journal_position
from tidegate_streams.deletion import DELETE
from tidegate_streams.ranges import Ranges

pytestmark = pytest.mark.usefixtures("topics")

T0 = 1_760_000_000_000_000
START_SECONDS = 60.0


def call(number: int, **fields: Any) -> LLMCall:
    record = LLMCall(
        event_id=f"call-{number}",
        ts_start=T0 + number * 10_000,
        ts_end=T0 + number * 10_000 + 1_000_000,
        tenant=f"tenant-{number % 5}",
        app="app",
        environment="prod",
        deployment="chat",
        variant="base",
        operation="chat",
        provider="openai",
        request_model="gpt-4o",
        status="ok",
        input_tokens=10,
        output_tokens=number,
    )
    return replace(record, **fields)


@cache
def writer(kafka: str) -> Producer:
    """One for all tests: an idempotent producer sends half a second after it was made, not sooner."""
    return client.producer(Settings(kafka=kafka))


def send(
    settings: Settings, topic: str, items: list[tuple[bytes | None, bytes | None]], **where: int
) -> None:
    producer = writer(settings.kafka)
    for key, value in items:
        producer.produce(settings.topic_prefix + topic, value=value, key=key, **where)
    assert producer.flush(20) == 0


def send_calls(settings: Settings, calls: list[LLMCall], **where: int) -> None:
    send(settings, CALLS, [(one.event_id.encode(), codec.encode(one)) for one in calls], **where)


class Journal:
    """What has been applied of the journal, as stage 2 would."""

    def __init__(self, settings: Settings) -> None:
        found = [(message, record) for message, record in scan.records(settings, PARTIALS)]
        self.records = [record for _, record in found]
        self.partitions = [message.partition() for message, _ in found]
        ranges: dict[int, Ranges[Any]] = {}
        self.applied: list[Any] = []
        for message, record in found:
            if not isinstance(record, Heartbeat):
                once = ranges.setdefault(message.partition() or 0, Ranges())
                self.applied += once.take(record, record)

    def rows(self, kind: str = "calls") -> pl.DataFrame:
        frames = [
            partials.unpack(frame.rows)
            for batch in self.applied
            if isinstance(batch, PartialBatch)
            for frame in batch.frames
            if frame.kind == kind
        ]
        return partials.merge(pl.concat([partials.empty(kind), *frames]))

    def calls(self) -> int:
        return int(self.rows()["calls"].sum())

    def settled(self, topic: str) -> dict[int, int]:
        """Next offset of each source partition, as the heartbeats say."""
        said: dict[int, int] = {}
        for record in self.records:
            for source in record.sources if isinstance(record, Heartbeat) else ():
                if source.topic == topic:
                    said[source.partition] = max(source.next_offset, said.get(source.partition, 0))
        return said

    def watermarks(self) -> dict[int, int | None]:
        said: dict[int, int | None] = {}
        for record in self.records:
            for source in record.sources if isinstance(record, Heartbeat) else ():
                if source.topic == CALLS:
                    said[source.partition] = source.watermark
        return said


def wait_until(
    settings: Settings, holds: Callable[[Journal], bool], seconds: float = START_SECONDS
) -> Journal:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        read = Journal(settings)
        if holds(read):
            return read
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {Journal(settings).settled(CALLS)}")


def settled(topic: str, offsets: int) -> Callable[[Journal], bool]:
    return lambda read: sum(read.settled(topic).values()) >= offsets


@pytest.fixture
def aggregate(start_process: Callable[..., Program]) -> Callable[..., Program]:
    def start(**changes: object) -> Program:
        return start_process("aggregate", range_ms=100, watermark="data", **changes)

    return start


def dead(settings: Settings) -> list[tuple[str, int, str]]:
    letters = [dead_letters.read(message.headers()) for message in scan.messages(settings, DLQ)]
    return sorted({(letter.topic, letter.offset, letter.reason) for letter in letters})


def test_events_are_counted_once_and_priced_copies_and_junk_are_not(
    settings: Settings, aggregate: Callable[..., Program]
) -> None:
    calls = [call(number) for number in range(1_000)]
    copies = [replace(calls[0], output_tokens=999_999), calls[500]]
    send_calls(settings, [*calls, *copies])
    junk = [
        (b"junk", codec.encode(call(1))[:-3]),
        (b"other", codec.encode(call(2))),
        (b"call-x", codec.encode(call(0, event_id="call-x", ts_end=5))),
    ]
    # As large as a broker takes: with its headers it is larger. And larger than anything, but packed.
    largest, packed = random.Random(1).randbytes(1_048_400), bytes(5 << 20)
    junk.append((b"large", largest))
    send(settings, CALLS, junk, partition=0)
    other = client.producer(settings, message_max_bytes=6 << 20)
    other.produce(settings.topic_prefix + CALLS, packed, b"packed", partition=0)
    assert other.flush(20) == 0
    aggregate().wait_until_ready(START_SECONDS)
    read = wait_until(settings, settled(CALLS, 1_007))
    rows = read.rows()
    assert rows["calls"].sum() == 1_000
    assert rows["output_tokens"].sum() == sum(range(1_000))
    assert rows["priced"].sum() == 1_000
    # 2.50 and 10 USD for a million tokens.
    assert rows["cost_usd_nano"].sum() == 1_000 * 10 * 2_500 + sum(range(1_000)) * 10_000
    assert sorted(reason for _, _, reason in dead(settings)) == [
        "key_mismatch",
        "negative_duration",
        "no_registry",
        "undecodable",
        "unknown_framing",
    ]
    for record, partition in zip(read.records, read.partitions, strict=True):
        if isinstance(record, PartialBatch):
            shards = partials.unpack(record.frames[0].rows)["shard"].to_list()
            assert {shard_partition(shard, TOPICS[PARTIALS].partitions) for shard in shards} == {partition}
    letters = list(scan.messages(settings, DLQ))
    assert {(message.key(), message.value()) for message in letters} == {*junk, (None, b"")}
    [emptied] = [message.headers() for message in letters if message.key() is None]
    assert "its 5242886 bytes are too many to be kept here" in dead_letters.read(emptied).error
    (table,) = {record.hash for _, record in scan.records(settings, PRICES)}
    assert table == PriceBook.load().hash
    assert {record.prices for record in read.records if isinstance(record, PartialBatch)} == {table}


@pytest.mark.long
@pytest.mark.parametrize(
    "point",
    ["aggregate.after_claim", "aggregate.mid_produce", "aggregate.after_produce", "aggregate.after_settle"],
)
def test_killed_between_any_two_effects_it_still_counts_everything_once(
    settings: Settings,
    aggregate: Callable[..., Program],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    calls = [call(number) for number in range(600)]
    send_calls(settings, calls)
    send(settings, CALLS, [(b"junk", b"junk")], partition=3)
    monkeypatch.setenv("TIDEGATE_CRASH_AT", point)
    monkeypatch.setenv("TIDEGATE_CRASH_ONCE", str(tmp_path / "crashed"))
    first = aggregate()
    assert first.process.wait(START_SECONDS) == -signal.SIGKILL
    second = aggregate()
    read = wait_until(settings, settled(CALLS, 601))
    assert second.process.poll() is None
    assert read.calls() == 600
    assert read.rows()["output_tokens"].sum() == sum(range(600))
    assert {reason for _, _, reason in dead(settings)} == {"unknown_framing"}
    digests: dict[tuple[int, int, int, int], set[int]] = {}
    for record, partition in zip(read.records, read.partitions, strict=True):
        if isinstance(record, PartialBatch):
            name = partition, record.partition, record.lo, record.hi
            digests.setdefault(name, set()).add(record.digest)
    assert digests
    assert all(len(found) == 1 for found in digests.values())
    assert (tmp_path / "crashed").exists()


@pytest.mark.long
def test_two_workers_share_the_work_and_one_takes_over_what_the_other_left(
    settings: Settings, aggregate: Callable[..., Program]
) -> None:
    first, second = aggregate(), aggregate()
    first.wait_until_ready(START_SECONDS)
    second.wait_until_ready(START_SECONDS)
    send_calls(settings, [call(number) for number in range(500)])
    wait_until(settings, settled(CALLS, 500))
    os.kill(first.pid, signal.SIGKILL)
    send_calls(settings, [call(number) for number in range(500, 1_000)])
    read = wait_until(settings, settled(CALLS, 1_000))
    assert read.calls() == 1_000
    assert read.rows()["output_tokens"].sum() == sum(range(1_000))


def test_specifications_and_feedback_reach_the_journal_and_an_end_of_stream_the_watermark(
    settings: Settings, aggregate: Callable[..., Program]
) -> None:
    spec = Rollout(
        name="r",
        tenant="tenant-1",
        environment="prod",
        deployment="chat",
        generation=1,
        spec_hash="h",
        source_yaml="",
        actor="me",
        ts=T0,
        strategy="canary",
        assignment_unit="user",
        salt="s",
        max_duration_us=1,
    )
    key = b"tenant-1/prod/chat"
    send(settings, ROLLOUTS, [(key, codec.encode(spec)), (key, None)])
    lonely = Feedback(event_id="f1", ts=T0, tenant="tenant-1", name="n", kind="thumbs", given_by="user")
    send(settings, FEEDBACK, [(b"call-1", codec.encode(lonely)), (b"call-1", codec.encode(lonely))])
    send_calls(settings, [call(1)], partition=0)
    for partition in range(TOPICS[CALLS].partitions):
        end = EndOfStream(run_id="run", ts=T0 + 100_000_000 + partition)
        send(settings, CALLS, [(None, codec.encode(end))], partition=partition)
    aggregate()
    ends = {partition: T0 + 100_000_000 + partition for partition in range(TOPICS[CALLS].partitions)}
    read = wait_until(
        settings,
        lambda read: read.watermarks() == ends and settled(FEEDBACK, 2)(read) and settled(ROLLOUTS, 2)(read),
    )
    assert read.calls() == 1
    forwarded = [record for record in read.applied if isinstance(record, JournalRollout | JournalAction)]
    assert [type(record) for record in forwarded] == [JournalRollout, JournalAction]
    assert codec.decode(forwarded[0].record) == spec
    assert codec.decode(forwarded[1].record).action == DELETE
    unresolved = sum(record.unresolved for record in read.applied if isinstance(record, PartialBatch))
    assert unresolved == 1
    (heartbeat,) = {record.partition_count for record in read.records if isinstance(record, Heartbeat)}
    assert heartbeat == TOPICS[CALLS].partitions


@pytest.mark.long
def test_live_traffic_follows_the_clock_at_the_logs_end(
    settings: Settings, start_process: Callable[..., Program]
) -> None:
    start_process("aggregate", range_ms=100, watermark="clock", watermark_delay_us=0)
    began_us = time.time_ns() // 1_000
    read = wait_until(
        settings,
        lambda read: (
            len(read.watermarks()) == TOPICS[CALLS].partitions
            and all((mark or 0) > began_us for mark in read.watermarks().values())
        ),
    )
    assert max(mark or 0 for mark in read.watermarks().values()) <= time.time_ns() // 1_000


@pytest.mark.long
def test_events_from_the_future_are_clamped_and_counted(
    settings: Settings, aggregate: Callable[..., Program]
) -> None:
    ahead_us = time.time_ns() // 1_000 + 3_600_000_000
    send_calls(settings, [call(1, ts_start=ahead_us, ts_end=ahead_us + 5)])
    aggregate()
    (row,) = wait_until(settings, settled(CALLS, 1)).rows().to_dicts()
    assert row["clamped"] == 1
    assert row["pane_us"] < time.time_ns() // 1_000 + 1_000_000
    assert [one["max"] for one in row["distributions"] if one["metric"] == "latency_us"] == [5]


@pytest.mark.long
def test_a_broken_producer_stops_it_instead_of_filling_the_dead_letters(
    settings: Settings, aggregate: Callable[..., Program]
) -> None:
    send(settings, CALLS, [(b"%d" % i, b"\xc3\x01garbage!") for i in range(1_500)], partition=0)
    braked = aggregate()
    assert braked.process.wait(START_SECONDS) == 5
    assert "1500 of 1500 messages of llm.calls are invalid" in braked.log.read_text()
    assert dead(settings) == []
    aggregate(brake_share=1.0)
    wait_until(settings, settled(CALLS, 1_500))
    assert len(dead(settings)) == 1_500


@pytest.mark.long
def test_without_committed_offsets_it_begins_where_the_journal_says(
    settings: Settings, aggregate: Callable[..., Program]
) -> None:
    assert journal_position(settings)(Log(CALLS, "nobody", 0, 3, 9)) == 3
    send_calls(settings, [call(number) for number in range(20)], partition=2)
    aggregate()
    wait_until(settings, settled(CALLS, 20))
    topic_id = client.topic_id(client.admin(settings), settings.topic_prefix + CALLS)
    start = journal_position(settings)
    assert start(Log(CALLS, topic_id, 2, 0, 25)) == 20
    assert start(Log(CALLS, "of-another-topic", 2, 7, 25)) == 7
