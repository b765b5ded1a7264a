"""The claim against a real broker: every rule with the failure that it prevents."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from tidegate.errors import InvariantBroken
from tidegate.topics import ALERTS, DEPLOYMENTS, PRODUCERS
from tidegate_infra.kafka import client
from tidegate_infra.kafka.claims import ClaimLost, RangeConsumer
from tidegate_infra.kafka.log import Log, RetentionLoss
from tidegate_infra.kafka.ranges import Claim, Range
from tidegate_infra.settings import Settings

WORKER = Path(__file__).with_name("claims_worker.py")


@pytest.fixture(autouse=True)
def _topics(topics: None) -> None:
    """Every test here reads real topics."""


@pytest.fixture
def consume(settings: Settings) -> Iterator[Callable[..., RangeConsumer]]:
    made: list[RangeConsumer] = []

    def make(
        topic: str = ALERTS, start: Callable[[Log], int] = lambda log: log.low, **limits: int
    ) -> RangeConsumer:
        bounds = {"max_rows": 1_000, "max_bytes": 1 << 20, "max_ms": 50} | limits
        made.append(RangeConsumer(settings, "work", [topic], start=start, **bounds))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


@cache
def writer(kafka: str) -> Producer:
    """One for all tests: an idempotent producer sends half a second after it was made, not sooner."""
    return client.producer(Settings(kafka=kafka))


def produce(settings: Settings, count: int, topic: str = ALERTS, size: int = 10) -> None:
    producer = writer(settings.kafka)
    for number in range(count):
        producer.produce(settings.topic_prefix + topic, b"v" * size, str(number))
    assert producer.flush(20) == 0


def wait_for(consumer: RangeConsumer, *others: RangeConsumer, seconds: float = 20) -> list[Range]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ranges := consumer.poll(0.05):
            return ranges
        for other in others:
            other.poll(0.05)
    raise AssertionError(f"no range within {seconds} s")


def offsets(range_: Range) -> list[int | None]:
    return [message.offset() for message in range_.messages]


def commit_by_hand(settings: Settings, topic: str, offset: int, metadata: str) -> None:
    consumer = client.consumer(settings, "work")
    consumer.commit(
        offsets=[TopicPartition(settings.topic_prefix + topic, 0, offset, metadata=metadata)],
        asynchronous=False,
    )
    consumer.close()


def committed(settings: Settings, topic: str) -> tuple[int, str | None]:
    consumer = client.consumer(settings, "work")
    [position] = consumer.committed([TopicPartition(settings.topic_prefix + topic, 0)], timeout=10)
    consumer.close()
    return position.offset, position.metadata


def cut(settings: Settings, topic: str, before: int) -> None:
    admin = client.admin(settings)
    [answer] = admin.delete_records([TopicPartition(settings.topic_prefix + topic, 0, before)]).values()
    answer.result(20)


def test_claim_leaves_the_offset_and_settle_moves_it(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 30)
    consumer = consume()
    [range_] = wait_for(consumer)
    assert (range_.lo, range_.hi, offsets(range_)) == (0, 29, list(range(30)))
    consumer.claim([range_], prices="abc")
    offset, metadata = committed(settings, ALERTS)
    assert offset == 0
    assert json.loads(metadata or "") == {"hi": 29, "n": 30, "topic_id": range_.topic_id, "prices": "abc"}
    assert consumer.at_end() == frozenset()
    consumer.settle([range_])
    assert committed(settings, ALERTS)[0] == 30
    assert consumer.positions() == {(ALERTS, 0): 30}
    assert consumer.at_end() == {(ALERTS, 0)}


def test_messages_that_the_client_skipped_are_read_again(
    settings: Settings, consume: Callable[..., RangeConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, 30)
    consumer = consume()
    read, skipped = consumer._consumer.consume, []

    class Skipping:
        def consume(self, *bounds: Any) -> list[Any]:
            messages = read(*bounds)
            if any(message.error() is None for message in messages) and not skipped:
                skipped.extend(messages[10:20])
                del messages[10:20]
            return messages

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    real = consumer._consumer
    monkeypatch.setattr(consumer, "_consumer", Skipping())
    read_offsets: list[int | None] = []
    while len(read_offsets) < 30:
        ranges = wait_for(consumer)
        consumer.claim(ranges)
        consumer.settle(ranges)
        read_offsets += [at for range_ in ranges for at in offsets(range_)]
    assert len(skipped) == 10
    assert read_offsets == list(range(30))


def test_a_log_with_the_gaps_of_transactions_is_read_to_its_end(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    producer = client.producer(settings, transactional_id="t")
    producer.init_transactions(20)
    for _ in range(4):
        producer.begin_transaction()
        for number in range(5):
            producer.produce(settings.topic_prefix + ALERTS, b"v", str(number))
        producer.commit_transaction(20)
    consumer, read = consume(), 0
    while read < 20:
        ranges = wait_for(consumer)
        consumer.claim(ranges)
        consumer.settle(ranges)
        read += sum(len(range_.messages) for range_ in ranges)
    until = time.monotonic() + 20
    while consumer.at_end() != {(ALERTS, 0)}:
        assert time.monotonic() < until, consumer.positions()
        consumer.poll(0.05)
    assert (read, consumer.positions()) == (20, {(ALERTS, 0): 24})


def test_a_range_is_settled_only_after_its_claim(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 3)
    consumer = consume()
    ranges = wait_for(consumer)
    with pytest.raises(InvariantBroken, match="settled without a claim"):
        consumer.settle(ranges)


def test_a_pending_claim_is_redone_over_its_offsets_and_prices_whatever_came_after(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 30)
    first = consume()
    [range_] = wait_for(first)
    first.claim([range_], prices="old")
    first.close()
    produce(settings, 30)
    second = consume()
    [redone] = wait_for(second)
    assert (redone.name, redone.redo, redone.prices) == (range_.name, True, "old")
    assert offsets(redone) == list(range(30))
    second.claim([redone], prices="new")
    assert redone.prices == "old"
    second.settle([redone])
    [after] = wait_for(second)
    assert (after.lo, after.hi, after.redo) == (30, 59, False)


def test_ranges_of_an_assignment_that_is_over_can_be_neither_claimed_nor_settled(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 300, PRODUCERS)
    first = consume(PRODUCERS)
    mine = wait_for(first)
    first.claim(mine)
    second = consume(PRODUCERS)
    theirs = wait_for(second, first)
    assert not first.valid(mine)
    with pytest.raises(ClaimLost, match="assignment"):
        first.settle(mine)
    # The claim was redone by whoever has the partition now, under the same name.
    assert {range_.name for range_ in theirs} <= {range_.name for range_ in mine}
    second.close()
    again = wait_for(first)
    # The partitions are back, the ranges of before are still worth nothing.
    with pytest.raises(ClaimLost, match="assignment"):
        first.settle(mine)
    assert all(range_.redo for range_ in again)


def test_a_commit_without_an_answer_counts_as_refused_and_the_groups_word_is_read_again(
    settings: Settings, consume: Callable[..., RangeConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, 30)
    consumer = consume()
    ranges = wait_for(consumer)
    kafka = consumer._consumer

    class Unanswered:
        def __init__(self, arrives: bool) -> None:
            self.arrives = arrives

        def __getattr__(self, name: str) -> object:
            return getattr(kafka, name)

        def commit(self, **arguments: object) -> None:
            if self.arrives:
                kafka.commit(**arguments)  # type: ignore[call-overload]
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    # Never arrived: the range comes again, unclaimed.
    monkeypatch.setattr(consumer, "_consumer", Unanswered(arrives=False))
    with pytest.raises(ClaimLost, match="refused"):
        consumer.claim(ranges)
    monkeypatch.setattr(consumer, "_consumer", kafka)
    [again] = wait_for(consumer)
    assert (again.lo, again.hi, again.redo) == (0, 29, False)
    # Arrived, and only the answer was lost: the claim stands, and is redone.
    monkeypatch.setattr(consumer, "_consumer", Unanswered(arrives=True))
    with pytest.raises(ClaimLost, match="refused"):
        consumer.claim([again])
    monkeypatch.setattr(consumer, "_consumer", kafka)
    [redone] = wait_for(consumer)
    assert (redone.name, redone.redo) == (again.name, True)
    consumer.settle([redone])
    assert committed(settings, ALERTS)[0] == 30


def test_a_log_cut_below_the_position_is_counted_and_stops_the_process(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 30)
    commit_by_hand(settings, ALERTS, 5, "")
    cut(settings, ALERTS, 12)
    with pytest.raises(RetentionLoss, match=r"offsets 5 to 11 are gone .* 7 events at most") as raised:
        wait_for(consume())
    assert (raised.value.lo, raised.value.log.low) == (5, 12)


def test_a_log_cut_while_it_is_read_is_not_skipped_over(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 400, size=1_000)
    consumer = consume(max_rows=10)
    [range_] = wait_for(consumer)
    consumer.claim([range_])
    consumer.settle([range_])
    consumer._consumer.pause([TopicPartition(settings.topic_prefix + ALERTS, 0)])
    cut(settings, ALERTS, 400)
    consumer._drop()  # as after a rebalance: what was fetched before is not used
    consumer._assigned, consumer._unread = [(ALERTS, 0)], True
    with pytest.raises(RetentionLoss, match="offsets 10 to 399"):
        wait_for(consumer)


def test_without_committed_offsets_the_caller_says_where_to_begin(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 30)
    asked: list[Log] = []

    def start(log: Log) -> int:
        asked.append(log)
        return 20

    [range_] = wait_for(consume(start=start))
    assert (range_.lo, range_.hi) == (20, 29)
    # A start at the log's end would move with every restart before the first event.
    assert committed(settings, ALERTS)[0] == 20
    [log] = asked
    assert (log.topic, log.partition, log.low, log.high) == (ALERTS, 0, 0, 30)
    assert (
        log.topic_id
        == range_.topic_id
        == client.topic_id(client.admin(settings), settings.topic_prefix + ALERTS)
    )


def test_a_redo_that_finds_fewer_messages_stops_the_process_unless_the_topic_is_compacted(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 12)
    produce(settings, 12, DEPLOYMENTS)
    for topic in (ALERTS, DEPLOYMENTS):
        topic_id = client.topic_id(client.admin(settings), settings.topic_prefix + topic)
        commit_by_hand(settings, topic, 0, Claim(9, 20, topic_id).metadata())
    plain = consume(ALERTS)
    with pytest.raises(InvariantBroken, match="counted 20 messages, the log now gives 10"):
        wait_for(plain)
    plain.close()
    [redone] = wait_for(consume(DEPLOYMENTS))
    assert (redone.redo, redone.lo, redone.hi, len(redone.messages)) == (True, 0, 9, 10)


def test_memory_stays_bounded_while_ranges_cannot_be_effected(
    settings: Settings, consume: Callable[..., RangeConsumer]
) -> None:
    produce(settings, 3_000, size=1_000)
    consumer = consume(max_rows=100)
    [out] = wait_for(consumer)
    for _ in range(20):
        assert consumer.poll(0.02) == []
    [track] = consumer._tracks.values()
    held = len(track.messages)
    assert held <= 100 + 10_000
    for _ in range(20):
        consumer.idle(0.02)
    assert len(track.messages) <= held + 1
    consumer.claim([out])
    consumer.settle([out])
    done = out.hi + 1
    while done < 3_000:
        ranges = wait_for(consumer)
        assert [range_.lo for range_ in ranges] == [done]
        consumer.claim(ranges)
        consumer.settle(ranges)
        done = ranges[-1].hi + 1
    assert committed(settings, ALERTS)[0] == 3_000


class Worker:
    def __init__(self, settings: Settings, effects: Path, *point: str) -> None:
        arguments = [sys.executable, str(WORKER), settings.kafka, settings.topic_prefix, str(effects), *point]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    def wait(self) -> str:
        said, _ = self.process.communicate(timeout=60)
        return said


def effects_of(file: Path) -> dict[str, list[int]]:
    """Offsets by name; a name that came twice must have the same."""
    effects: dict[str, list[int]] = {}
    for line in file.read_text().splitlines():
        effect = json.loads(line)
        assert effects.setdefault(effect["name"], effect["offsets"]) == effect["offsets"]
    return effects


def assert_each_offset_once(settings: Settings, file: Path, count: int) -> None:
    found: dict[int, list[int]] = {}
    for name, effected in effects_of(file).items():
        found.setdefault(int(name.split(":")[1]), []).extend(effected)
    consumer = client.consumer(settings, "look")
    for partition in range(3):
        tp = TopicPartition(settings.topic_prefix + PRODUCERS, partition)
        end = consumer.get_watermark_offsets(tp, timeout=10)[1]
        assert sorted(found.get(partition, [])) == list(range(end))
    consumer.close()
    assert sum(map(len, found.values())) == count


def test_killed_between_any_two_steps_every_message_is_effected_under_one_name(
    settings: Settings, tmp_path: Path
) -> None:
    # Each in a group of its own, so that they wait for the dead one's session at the same time.
    points = ["after_claim", "in_effect", "after_effect", "after_settle"]
    produce(settings, 900, PRODUCERS)
    for worker in [Worker(settings, tmp_path / point, point, "KILL") for point in points]:
        worker.wait()
        assert worker.process.returncode == -signal.SIGKILL
    produce(settings, 100, PRODUCERS)
    for worker in [Worker(settings, tmp_path / point) for point in points]:
        worker.wait()
        assert worker.process.returncode == 0
    for point in points:
        assert_each_offset_once(settings, tmp_path / point, 1_000)


def test_a_process_that_was_stopped_beyond_its_session_cannot_settle_when_it_comes_back(
    settings: Settings, tmp_path: Path
) -> None:
    produce(settings, 900, PRODUCERS)
    effects = tmp_path / "effects"
    zombie = Worker(settings, effects, "after_effect", "STOP")
    os.waitid(os.P_PID, zombie.process.pid, os.WSTOPPED | os.WNOWAIT)
    Worker(settings, effects).wait()
    produce(settings, 100, PRODUCERS)
    zombie.process.send_signal(signal.SIGCONT)
    said = zombie.wait()
    assert said.startswith(("lost ranges dropped", "lost commit refused")), said
    assert_each_offset_once(settings, effects, 1_000)
