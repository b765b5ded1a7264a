"""Claims and what may happen to a log: gaps, retention, compaction, a topic made anew."""

import time
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # its stubs forget to export
from tests.infra.claiming import Between, Consume, commit_by_hand, committed, cut, offsets, produce, wait_for

from tidegate.errors import ConfigError, InvariantBroken
from tidegate.topics import ALERTS, DEPLOYMENTS
from tidegate_infra.kafka import client
from tidegate_infra.kafka.log import Log, RetentionLoss
from tidegate_infra.kafka.ranges import Claim
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")


def test_messages_that_the_client_skipped_are_read_again(settings: Settings, consume: Consume) -> None:
    produce(settings, 30)
    consumer = consume()
    skipped: list[Any] = []

    def consume_some(*bounds: Any) -> list[Any]:
        messages: list[Any] = between.real.consume(*bounds)
        if any(message.error() is None for message in messages) and not skipped:
            skipped.extend(messages[10:20])
            del messages[10:20]
        return messages

    between = Between(consumer, consume=consume_some)
    read_offsets: list[int | None] = []
    while len(read_offsets) < 30:
        ranges = wait_for(consumer)
        consumer.claim(ranges)
        consumer.settle(ranges)
        read_offsets += [at for range_ in ranges for at in offsets(range_)]
    assert len(skipped) == 10
    assert read_offsets == list(range(30))


def test_a_log_with_the_gaps_of_transactions_is_read_to_its_end(settings: Settings, consume: Consume) -> None:
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
    while consumer.ends([ALERTS]) != consumer.positions():
        assert time.monotonic() < until, consumer.positions()
        consumer.poll(0.05)
    assert (read, consumer.positions()) == (20, {(ALERTS, 0): 24})


def test_a_log_cut_below_the_position_is_counted_and_stops_the_process(
    settings: Settings, consume: Consume
) -> None:
    produce(settings, 30)
    commit_by_hand(settings, ALERTS, 5, "")
    cut(settings, ALERTS, 12)
    with pytest.raises(RetentionLoss, match=r"offsets 5 to 11 are gone .* 7 events at most") as raised:
        wait_for(consume())
    assert (raised.value.lo, raised.value.log.low) == (5, 12)


def test_a_log_cut_while_it_is_read_is_not_skipped_over(settings: Settings, consume: Consume) -> None:
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
    settings: Settings, consume: Consume
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
    settings: Settings, consume: Consume
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


def made_anew(settings: Settings, topic: str) -> None:
    admin, name = client.admin(settings), settings.topic_prefix + topic
    before = client.topic_id(admin, name)
    admin.delete_topics([name])[name].result(20)
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    until, now = time.monotonic() + 20, before
    while now == before:
        assert time.monotonic() < until
        time.sleep(0.05)
        # Brokers hear of both a moment later.
        with suppress(ConfigError):
            now = client.topic_id(admin, name)


@pytest.mark.parametrize("new", [100, 5], ids=["longer", "shorter"])
def test_a_topic_made_anew_under_a_running_process_is_not_read_on_under_the_old_ones_name(
    settings: Settings, consume: Consume, new: int
) -> None:
    produce(settings, 30)
    consumer = consume()
    [range_] = wait_for(consumer)
    consumer.claim([range_])
    consumer.settle([range_])
    made_anew(settings, ALERTS)
    produce(settings, new)
    said = ""
    try:
        ranges = wait_for(consumer)
        consumer.claim(ranges)
    except InvariantBroken as broken:
        said = str(broken)
    # The client read on from the old offset, or found nothing there; or it had seen that its topic is gone.
    if said:
        assert "it was deleted and made again" in said
    else:
        assert ranges[0].lo == 0
        assert ranges[0].topic_id != range_.topic_id
