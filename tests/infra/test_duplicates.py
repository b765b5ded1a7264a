"""Duplicates from a real log: whoever reads it, from wherever, sees the same copies."""

import dataclasses
from typing import Any

import pytest
from confluent_kafka import Message

from tidegate import codec
from tidegate.records import Feedback, Series
from tidegate.topics import CALLS, FEEDBACK
from tidegate_infra.kafka import client
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER
from tidegate_infra.kafka.duplicates import Duplicates, key_identity, rating_identity
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.settings import Settings

BLOCK = 10


def ranged(messages: list[Any], epoch: int = 1) -> Range:
    lo, hi = messages[0].offset(), messages[-1].offset()
    return Range(
        topic=CALLS, topic_id="id", partition=2, lo=lo, hi=hi, messages=messages, redo=False, epoch=epoch
    )


def marks_of(duplicates: Duplicates, messages: list[Any], epoch: int = 1) -> list[bool]:
    range_ = ranged(messages, epoch)
    return duplicates.mark([range_])[range_.name]


def message(offset: int, key: str) -> Message:
    return Message(topic=CALLS, partition=2, offset=offset, key=key.encode(), value=b"v")


@pytest.mark.usefixtures("topics")
def test_a_reader_that_begins_in_the_middle_sees_the_copies_that_the_first_one_saw(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update={"duplicate_block": BLOCK})
    keys = ["a", "b", "a", *"cdefghij", "b", "a", *"klmnopqrstuv", "a", "b", "v", "k", "c"]
    producer = client.producer(settings)
    for key in keys:
        producer.produce(settings.topic_prefix + CALLS, b"v", key, partition=2)
    assert producer.flush(20) == 0
    messages = [message(offset, key) for offset, key in enumerate(keys)]
    first = Duplicates(settings)
    marks = marks_of(first, messages[:7]) + marks_of(first, messages[7:])
    # The second "c" stands two blocks behind the first.
    assert [keys[at] for at, copy in enumerate(marks) if copy] == ["a", "b", "a", "a", "b", "v", "k"]
    for begin in range(1, len(keys)):
        assert marks_of(Duplicates(settings), messages[begin:]) == marks[begin:], begin
    # A redo after the range was marked once: the log is read again, the marks are the same.
    assert marks_of(first, messages[7:]) == marks[7:]
    assert marks_of(first, messages[7:], epoch=2) == marks[7:]


def test_a_call_without_a_key_is_nobodys_copy() -> None:
    assert key_identity(Message(topic=CALLS, partition=0, offset=0, value=b"v")) is None


def test_a_dead_letter_that_was_put_back_is_no_copy_of_itself() -> None:
    first = message(0, "a")
    again = message(1, "a")
    again.set_headers([(REQUEUED_HEADER, b"id:2:0")])
    assert key_identity(first) != key_identity(again)


def test_feedback_that_got_its_series_later_is_no_copy_of_the_one_without() -> None:
    lonely = Feedback(
        event_id="e", ts=1, tenant="t", name="n", target_event_id="c", kind="thumbs", given_by="user"
    )
    series = Series(
        app="a", environment="e", deployment="d", variant="v", operation="chat", provider="p",
        request_model="m", traffic="live", comparable=True,
    )  # fmt: skip
    resolved = dataclasses.replace(lonely, series=series)
    other_words = dataclasses.replace(resolved, comment="more")

    def identity(record: Feedback) -> object:
        return rating_identity(Message(topic=FEEDBACK, partition=0, offset=0, value=codec.encode(record)))

    assert identity(lonely) != identity(resolved)
    assert identity(resolved) == identity(other_words)
    poison = Message(topic=FEEDBACK, partition=0, offset=0, value=b"poison")
    assert rating_identity(poison) is None
