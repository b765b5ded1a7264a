"""What ranges cause, as data: a redo goes the way that no record can kill."""

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
