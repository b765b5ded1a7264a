"""What ranges cause, as data: a redo goes the way that no record can kill."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Message

from tidegate import codec
from tidegate.records import Feedback, LLMCall
from tidegate.topics import CALLS, FEEDBACK
from tidegate_infra.kafka import blocks
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.prices import PriceBook
from tidegate_streams.aggregate import work
from tidegate_streams.aggregate.process import Aggregate, _alike
from tidegate_streams.aggregate.watermarks import Watermarks

T0 = 1_760_000_000_000_000
CALL = LLMCall(
    event_id="call-1", ts_start=T0, ts_end=T0 + 5, tenant="acme", app="app", environment="prod",
    deployment="chat", variant="base", operation="chat", provider="openai", request_model="gpt-4o",
    status="ok",
)  # fmt: skip
RATING = Feedback(event_id="f1", ts=T0, tenant="acme", name="n", kind="thumbs", given_by="user")


def ranged(topic: str, record: Any, *, redo: bool) -> Range:
    message = Message(
        topic=topic,
        partition=0,
        offset=7,
        key=record.event_id.encode(),
        value=codec.encode(record),
        timestamp=(2, T0 // 1_000),
    )
    return Range(topic=topic, topic_id="id", partition=0, lo=7, hi=7, messages=[message], redo=redo, epoch=1)


@pytest.mark.parametrize(("topic", "record"), [(CALLS, CALL), (FEEDBACK, RATING)])
def test_a_redo_causes_the_same_and_never_takes_the_decoder_that_a_record_may_have_killed(
    topic: str, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrink(*, redo: bool) -> work.Work:
        return work.shrink([ranged(topic, record, redo=redo)], [[False]], PriceBook.load(), 6)

    def die(*_: object) -> None:
        raise SystemExit("killed by a record")

    first = shrink(redo=False)
    monkeypatch.setattr(blocks, "read_block", die)
    with pytest.raises(SystemExit):
        shrink(redo=False)
    redone = shrink(redo=True)
    assert (first.alone, redone.alone) == (0, 1)
    assert first.entries
    assert redone.entries == first.entries


def test_a_range_is_priced_by_the_table_that_its_claim_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an upgrade a range may be claimed by one release and done again by the next."""
    stage = object.__new__(Aggregate)
    stage._prices = SimpleNamespace(find=lambda name: f"the book {name}")
    stage._partitions, stage._registry = 6, None
    monkeypatch.setattr(work, "shrink", lambda _ranges, _marks, book, *_: book)
    before = replace(ranged(CALLS, CALL, redo=True), prices="before")
    after = replace(ranged(CALLS, CALL, redo=False), prices="after")
    assert [len(alike) for alike in _alike([before, after])] == [1, 1]
    for range_ in (before, after):
        assert stage._work([range_], {range_.name: [False]}) == f"the book {range_.prices}"


@pytest.mark.parametrize("valid", [True, False])
def test_one_whose_partitions_may_be_gone_says_nothing_of_how_far_they_are(valid: bool) -> None:
    stage, said = object.__new__(Aggregate), []
    stage._consumer = SimpleNamespace(
        epoch=1,
        positions=lambda: {(CALLS, 0): 5},
        valid=lambda _ranges: valid,
        ends=lambda _topics, committed=False: {},
        topic_id=lambda topic: topic,
        partition_count=lambda _topic: 1,
    )
    stage._watermarks = Watermarks(delay_us=0, follows_clock=False)
    stage._worker, stage._partitions = "w", 2
    stage._deliveries = SimpleNamespace(put=lambda *_, partition: said.append(partition))
    stage._figures = SimpleNamespace(stands=lambda *_: None)
    stage._heartbeat()
    assert said == ([0, 1] if valid else [])
