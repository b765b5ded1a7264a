from dataclasses import replace
from typing import Any

import pytest

from tidegate.errors import InvariantBroken
from tidegate.records import PartialBatch
from tidegate_streams.ranges import Ranges


def head(lo: int, hi: int, **changes: Any) -> PartialBatch:
    usual = {"topic_id": "a", "topic": "llm.calls", "partition": 0, "part": 0, "parts": 1, "digest": 1}
    return PartialBatch(lo=lo, hi=hi, prices="", **(usual | changes))


def test_a_range_counts_when_its_last_part_is_there_in_the_order_of_its_parts() -> None:
    ranges: Ranges[str] = Ranges()
    assert ranges.take(head(0, 9, part=2, parts=3), "c") == []
    assert ranges.take(head(0, 9, part=0, parts=3), "a") == []
    assert ranges.take(head(0, 9, part=1, parts=3), "b") == ["a", "b", "c"]
    assert ranges.waiting == {}


def test_a_repeated_range_is_dropped_and_counted() -> None:
    ranges: Ranges[str] = Ranges()
    ranges.take(head(0, 9), "x")
    assert ranges.take(head(0, 9), "x") == []
    assert ranges.take(head(3, 5), "x") == []
    assert ranges.repeated == 2


def test_parts_of_a_first_try_are_completed_by_its_repetition_when_the_content_is_the_same() -> None:
    ranges: Ranges[str] = Ranges()
    ranges.take(head(0, 9, part=0, parts=2), "a")
    assert ranges.take(head(0, 9, part=0, parts=2), "a") == []
    assert ranges.take(head(0, 9, part=1, parts=2), "b") == ["a", "b"]


def test_parts_of_different_content_are_never_mixed() -> None:
    ranges: Ranges[str] = Ranges()
    ranges.take(head(0, 9, part=0, parts=2, digest=1), "old a")
    assert ranges.take(head(0, 9, part=1, parts=2, digest=2), "new b") == []
    assert ranges.take(head(0, 9, part=0, parts=2, digest=2), "new a") == ["new a", "new b"]
    assert ranges.waiting == {}


def test_a_range_that_overlaps_what_was_applied_stops_the_process() -> None:
    ranges: Ranges[str] = Ranges()
    ranges.take(head(0, 9), "x")
    with pytest.raises(InvariantBroken, match=r"range 5-12 of llm.calls partition 0 overlaps"):
        ranges.take(head(5, 12), "y")


def test_a_topic_that_was_made_anew_begins_again_at_its_first_offset() -> None:
    ranges: Ranges[str] = Ranges()
    ranges.take(head(0, 9), "x")
    assert ranges.take(head(0, 4, topic_id="b"), "y") == ["y"]


def test_partitions_are_told_apart() -> None:
    ranges: Ranges[str] = Ranges()
    ranges.take(head(0, 9), "x")
    assert ranges.take(replace(head(0, 9), partition=1), "y") == ["y"]
