"""The claim against a real broker: every rule with the failure that it prevents."""

import json
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.infra.claiming import Between, Consume, committed, offsets, produce, wait_for

from tidegate.errors import InvariantBroken
from tidegate.topics import ALERTS, PRODUCERS
from tidegate_infra.kafka import client
from tidegate_infra.kafka.claims import ClaimLost, RangeConsumer
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")


def test_claim_leaves_the_offset_and_settle_moves_it(settings: Settings, consume: Consume) -> None:
    produce(settings, 30)
    consumer = consume()
    [range_] = wait_for(consumer)
    assert (range_.lo, range_.hi, offsets(range_)) == (0, 29, list(range(30)))
    consumer.claim([range_], prices="abc")
    offset, metadata = committed(settings, ALERTS)
    assert offset == 0
    assert json.loads(metadata or "") == {"hi": 29, "n": 30, "topic_id": range_.topic_id, "prices": "abc"}
    assert consumer.ends([ALERTS]) == {(ALERTS, 0): 30}
    consumer.settle([range_])
    assert committed(settings, ALERTS)[0] == 30
    assert consumer.positions() == consumer.ends([ALERTS]) == {(ALERTS, 0): 30}


def test_a_range_is_settled_only_after_its_claim(settings: Settings, consume: Consume) -> None:
    produce(settings, 3)
    consumer = consume()
    ranges = wait_for(consumer)
    with pytest.raises(InvariantBroken, match="settled without a claim"):
        consumer.settle(ranges)


def test_a_pending_claim_is_redone_over_its_offsets_and_prices_whatever_came_after(
    settings: Settings, consume: Consume
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
    settings: Settings, consume: Consume
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


def test_kafka_itself_takes_a_commit_of_an_assignment_that_is_over(
    settings: Settings, consume: Consume
) -> None:
    # That is what the epoch is for: fenced by member and generation, the group would be set back.
    produce(settings, 30)
    consumer = consume()
    stale = wait_for(consumer)
    consumer.claim(stale)
    consumer._on_leave(consumer._consumer, [])
    consumer._on_assign(consumer._consumer, [consumer._logs.at((ALERTS, 0))])
    consumer.settle(wait_for(consumer))
    assert committed(settings, ALERTS)[0] == 30
    with pytest.raises(ClaimLost, match="assignment"):
        consumer.claim(stale)
    consumer._commit(consumer._claims(stale, ""))
    assert committed(settings, ALERTS)[0] == 0


@pytest.mark.long
def test_a_process_that_did_not_poll_for_too_long_commits_nothing_and_redoes_what_it_gets_back(
    settings: Settings, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(settings, 30)
    make = client.consumer

    def hasty(settings: Settings, group: str, **conf: object) -> Any:
        return make(settings, group, **conf, max_poll_interval_ms=settings.kafka_session_ms)

    monkeypatch.setattr(client, "consumer", hasty)
    consumer = consume()
    mine = wait_for(consumer)
    consumer.claim(mine)
    epoch = consumer.epoch
    time.sleep(1.3 * settings.kafka_session_ms / 1_000)
    with pytest.raises(ClaimLost):
        consumer.settle(mine)
    assert committed(settings, ALERTS)[0] == 0
    [redone] = wait_for(consumer)
    assert (redone.name, redone.redo) == (mine[0].name, True)
    assert consumer.epoch > epoch


def unanswered(consumer: RangeConsumer, *, arrives: bool) -> Between:
    """Let commits get lost, or only what Kafka says of them."""

    def commit(**arguments: Any) -> None:
        if arrives:
            between.real.commit(**arguments)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    between = Between(consumer, commit=commit)
    return between


def test_a_commit_without_an_answer_counts_as_refused_and_the_groups_word_is_read_again(
    settings: Settings, consume: Consume
) -> None:
    produce(settings, 30)
    consumer = consume()
    ranges = wait_for(consumer)
    # Never arrived: the range comes again, unclaimed.
    between = unanswered(consumer, arrives=False)
    with pytest.raises(ClaimLost, match="refused"):
        consumer.claim(ranges)
    between.undo()
    [again] = wait_for(consumer)
    assert (again.lo, again.hi, again.redo) == (0, 29, False)
    # Arrived, and only the answer was lost: the claim stands, and is redone.
    between = unanswered(consumer, arrives=True)
    with pytest.raises(ClaimLost, match="refused"):
        consumer.claim([again])
    between.undo()
    [redone] = wait_for(consumer)
    assert (redone.name, redone.redo) == (again.name, True)
    consumer.settle([redone])
    assert committed(settings, ALERTS)[0] == 30


def counting(consumer: RangeConsumer) -> list[int]:
    """Note of each commit how many partitions it has."""
    sizes: list[int] = []

    def commit(offsets: list[Any], **arguments: Any) -> Any:
        sizes.append(len(offsets))
        return between.real.commit(offsets=offsets, **arguments)

    between = Between(consumer, commit=commit)
    return sizes


def test_settling_a_range_and_claiming_the_next_is_one_commit(settings: Settings, consume: Consume) -> None:
    produce(settings, 50)
    first = consume(max_rows=20)
    [range_] = wait_for(first)
    first.claim([range_], prices="a")
    commits = counting(first)
    [following] = first.settle_and_claim([range_], prices="b")
    offset, metadata = committed(settings, ALERTS)
    assert (commits, offset, json.loads(metadata or "")["hi"]) == ([1], 20, 39)
    assert first.positions() == {(ALERTS, 0): 20}
    first.close()
    # It died in between: the second range is redone, the first one never again.
    second = consume(max_rows=20)
    [redone] = wait_for(second)
    assert (redone.name, redone.redo, redone.prices) == (following.name, True, "b")
    # What waits for company is not claimed yet.
    assert second.settle_and_claim([redone]) == []
    assert committed(settings, ALERTS)[0] == 40
    [rest] = wait_for(second)
    assert (rest.lo, rest.hi) == (40, 49)


def test_all_partitions_share_one_commit(settings: Settings, consume: Consume) -> None:
    produce(settings, 300, PRODUCERS)
    consumer = consume(PRODUCERS, max_rows=20)
    ranges: list[Range] = []
    while len(ranges) < 3:
        new = wait_for(consumer)
        consumer.claim(new)
        ranges += new
    commits = counting(consumer)
    following = consumer.settle_and_claim(ranges)
    consumer.settle(following)
    assert commits == [3, len(following)]


def test_when_a_commit_of_both_is_not_answered_its_claim_is_redone(
    settings: Settings, consume: Consume
) -> None:
    produce(settings, 50)
    consumer = consume(max_rows=20)
    [range_] = wait_for(consumer)
    consumer.claim([range_])
    between = unanswered(consumer, arrives=True)
    with pytest.raises(ClaimLost, match="refused"):
        consumer.settle_and_claim([range_])
    between.undo()
    [redone] = wait_for(consumer)
    assert (redone.lo, redone.hi, redone.redo) == (20, 39, True)


@pytest.mark.long
def test_memory_stays_bounded_while_ranges_cannot_be_effected(settings: Settings, consume: Consume) -> None:
    produce(settings, 3_000, size=1_000)
    consumer = consume(max_rows=100)
    [out] = wait_for(consumer)
    for _ in range(20):
        assert consumer.poll(0.02) == []
    [track] = consumer._held.tracks.values()
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
