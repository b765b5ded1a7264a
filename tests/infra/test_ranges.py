"""How messages become ranges: pure, against the plainest oracle."""

import itertools
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import InvariantBroken
from tidegate_infra.kafka.duplicates import Seen
from tidegate_infra.kafka.ranges import (
    METADATA_LIMIT_BYTES,
    Claim,
    Limits,
    Track,
    read_metadata,
    settled_metadata,
)

LIMITS = Limits(rows=7, bytes=60, seconds=1.0)


@dataclass
class Read:
    at: int
    size: int = 5

    def offset(self) -> int:
        return self.at

    def __len__(self) -> int:
        return self.size

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a range needs no {name} of a message")


def take(track: Track, now: float = 0.0) -> Any:
    return track.take("llm.calls", "id", 0, 1, LIMITS, now)


gaps = st.lists(st.integers(1, 3), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(gaps=gaps, data=st.data())
def test_ranges_cover_every_message_once_in_order_and_touch(gaps: list[int], data: st.DataObject) -> None:
    offsets = [100 + sum(gaps[:i]) for i in range(len(gaps))]
    track, taken, now = Track(lo=100), [], 0.0
    rest = list(offsets)
    while rest or track.messages:
        if rest:
            count = data.draw(st.integers(1, len(rest)))
            track.add([Read(at) for at in rest[:count]], now)
            rest = [at for at in rest if at >= track.position]
        now += data.draw(st.sampled_from([0.0, 0.4, 1.1]))
        while track.due(LIMITS, now, flush=not rest):
            taken.append(take(track, now))
            assert not track.due(LIMITS, now, flush=True)  # one at a time
            track.settle()
            assert track.settled == taken[-1].hi + 1
    assert [message.offset() for range_ in taken for message in range_.messages] == offsets
    assert taken[0].lo == 100
    assert all(after.lo == before.hi + 1 for before, after in itertools.pairwise(taken))
    assert all(len(range_.messages) <= LIMITS.rows for range_ in taken)
    assert track.free_at() == offsets[-1] + 1


@settings(max_examples=100, deadline=None)
@given(before=st.integers(1, 12), after=st.integers(0, 12), data=st.data())
def test_a_redo_is_exactly_the_claimed_range_however_it_is_read(
    before: int, after: int, data: st.DataObject
) -> None:
    messages = [Read(at) for at in range(before + after)]
    track = Track(lo=0, pending=Claim(before - 1, before, "id", "prices-7"))
    rest: list[Read] = messages
    while rest:
        assert not track.due(LIMITS, 99.0, flush=True) or track.position >= before
        count = data.draw(st.integers(1, len(rest)))
        track.add(rest[:count], 0.0)
        rest = rest[count:]
    redone = take(track)
    assert (redone.lo, redone.hi, redone.redo, redone.prices) == (0, before - 1, True, "prices-7")
    assert redone.messages == messages[:before]
    assert track.claimed
    track.settle()
    assert track.messages == messages[before:]
    assert track.lo == before


def test_a_redo_of_a_log_that_lost_messages_stops_the_process() -> None:
    track = Track(lo=0, pending=Claim(9, 10, "id"))
    assert not track.add([Read(at) for at in range(3, 12)], 0.0)
    assert track.add([Read(at) for at in range(3, 12)], 0.0)
    with pytest.raises(InvariantBroken, match="counted 10 messages, the log now gives 7"):
        take(track)


def test_on_a_compacted_topic_a_redo_may_find_fewer_messages_or_none() -> None:
    fewer = Track(lo=0, pending=Claim(9, 10, "id"), compacted=True)
    fewer.add([Read(4), Read(12)], 0.0)
    assert [message.offset() for message in take(fewer).messages] == [4]

    none = Track(lo=0, pending=Claim(9, 10, "id"), compacted=True)
    assert not none.due(LIMITS, 99.0, flush=True)
    none.passed(10)
    redone = take(none)
    assert (redone.lo, redone.hi, list(redone.messages)) == (0, 9, [])


def test_what_a_client_skipped_is_read_again_before_it_counts_as_missing() -> None:
    track = Track(lo=0)
    assert track.add([Read(0), Read(1)], 0.0)
    assert not track.add([Read(2), Read(5)], 0.0)
    assert track.position == 3
    assert track.add([Read(3), Read(4), Read(5)], 0.0)
    assert [message.offset() for message in track.messages] == [0, 1, 2, 3, 4, 5]


def test_offsets_that_are_missing_twice_are_gaps_of_the_log_and_say_nothing_of_others() -> None:
    track = Track(lo=0)
    assert not track.add([Read(0), Read(2), Read(5)], 0.0)
    assert track.add([Read(2), Read(5)], 0.0)
    assert not track.passed(7)
    assert track.passed(7)
    assert not track.add([Read(7), Read(8), Read(900)], 0.0)
    assert (track.position, [message.offset() for message in track.messages]) == (9, [0, 2, 5, 7, 8])


def test_a_second_look_that_skips_more_is_looked_at_again() -> None:
    track = Track(lo=0)
    assert not track.passed(1)
    assert not track.add([Read(900)], 0.0)
    assert track.position == 0
    assert track.add([Read(900)], 0.0)


def test_a_log_that_seems_to_end_behind_unread_offsets_is_looked_at_again() -> None:
    track = Track(lo=0)
    assert not track.passed(4)
    assert track.position == 0
    assert track.add([Read(0), Read(1), Read(2), Read(3)], 0.0)
    assert track.passed(4)


def test_a_message_before_the_expected_position_stops_the_process() -> None:
    track = Track(lo=50)
    track.add([Read(50), Read(51)], 0.0)
    with pytest.raises(InvariantBroken, match="read offset 51 where 52"):
        track.add([Read(51)], 0.0)


def test_a_partition_with_a_range_out_reads_on_only_to_its_limits() -> None:
    track = Track(lo=0)
    track.add([Read(at) for at in range(7)], 0.0)
    assert track.full(LIMITS)
    take(track)
    assert not track.full(LIMITS)
    track.add([Read(at) for at in range(7, 14)], 0.0)
    assert track.full(LIMITS)
    assert track.free_at() == 0


def test_a_claim_is_read_back_as_it_was_written() -> None:
    claim = Claim(99, 100, "s5/dFZrqRTmzpYmd5djaGw", "0123456789abcdef")
    assert read_metadata(claim.metadata(), claim.topic_id, "llm.calls[3]") == claim
    assert read_metadata(settled_metadata("id"), "id", "llm.calls[3]") is None
    assert read_metadata(None, "id", "llm.calls[3]") is None
    assert read_metadata("", "id", "llm.calls[3]") is None


def test_metadata_too_long_for_a_broker_is_never_sent() -> None:
    with pytest.raises(InvariantBroken, match=str(METADATA_LIMIT_BYTES)):
        Claim(1, 1, "id", "p" * METADATA_LIMIT_BYTES).metadata()


@pytest.mark.parametrize(
    "metadata", ["hello", "7", "[]", json.dumps({"hi": 3}), json.dumps({"hi": 3, "topic_id": "id"})]
)
def test_metadata_of_a_stranger_stops_the_process(metadata: str) -> None:
    with pytest.raises(InvariantBroken, match="what else commits"):
        read_metadata(metadata, "id", "llm.calls[3]")


def test_offsets_of_a_topic_that_was_made_anew_stop_the_process() -> None:
    for metadata in (Claim(9, 10, "old").metadata(), settled_metadata("old")):
        with pytest.raises(InvariantBroken, match="committed for topic id old, the topic now has new"):
            read_metadata(metadata, "new", "llm.calls[3]")


def is_copy(identities: list[int | None], index: int, block: int) -> bool:
    first = max(0, (index // block - 1) * block)
    return identities[index] is not None and identities[index] in identities[first:index]


@settings(max_examples=150, deadline=None)
@given(
    identities=st.lists(st.one_of(st.none(), st.integers(0, 6)), max_size=60),
    block=st.integers(1, 9),
    data=st.data(),
)
def test_duplicates_follow_the_definition_however_the_log_is_cut_and_wherever_reading_began(
    identities: list[int | None], block: int, data: st.DataObject
) -> None:
    expected = [is_copy(identities, index, block) for index in range(len(identities))]
    begin = data.draw(st.integers(0, len(identities)))
    seen = Seen(block)
    first = max(0, (begin // block - 1) * block)
    seen.mark(range(first, begin), identities[first:begin])
    marks, at = [], begin
    while at < len(identities):
        end = data.draw(st.integers(at + 1, len(identities)))
        marks += seen.mark(range(at, end), identities[at:end])
        at = end
    assert marks == expected[begin:]
