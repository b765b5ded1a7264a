"""Duplicates from a real log: whoever reads it, from wherever, sees the same copies."""

import dataclasses
from typing import Any

import pytest
from confluent_kafka import Message

from tidegate import codec
from tidegate.records import Evaluation, Feedback, Series
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import client
from tidegate_infra.kafka.batches import decode_batch
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER
from tidegate_infra.kafka.duplicates import Duplicates, Seen, identities
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.settings import Settings

BLOCK = 10


def ranged(messages: list[Any], epoch: int = 1, topic: str = CALLS, partition: int = 2) -> Range:
    return Range(
        topic=topic,
        topic_id=topic,
        partition=partition,
        lo=messages[0].offset(),
        hi=messages[-1].offset(),
        messages=messages,
        redo=False,
        epoch=epoch,
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
    assert identities(CALLS, [Message(topic=CALLS, partition=0, offset=0, value=b"v")]) == [None]


def test_a_dead_letter_that_was_put_back_is_no_copy_of_itself() -> None:
    first = message(0, "a")
    again = message(1, "a")
    again.set_headers([(REQUEUED_HEADER, b"id:2:0")])
    assert len(set(identities(CALLS, [first, again]))) == 2


LONELY = Feedback(
    event_id="e", ts=1, tenant="t", name="n", target_event_id="c", kind="thumbs", given_by="user", value=1.0
)
SERIES = Series(
    app="a", environment="e", deployment="d", variant="v", operation="chat", provider="p",
    request_model="m", traffic="live", comparable=True,
)  # fmt: skip
RESOLVED = dataclasses.replace(LONELY, series=SERIES, comment="words")
CHECKED = Evaluation(
    event_id="e", ts=1, tenant="t", name="n", target_event_id="c", kind="assertion", evaluator="e", value=1.0
)


def ratings(*values: bytes) -> list[Any]:
    return [Message(topic="t", partition=0, offset=n, value=value) for n, value in enumerate(values)]


def test_feedback_that_got_its_series_later_is_no_copy_of_the_one_without() -> None:
    other_words = dataclasses.replace(RESOLVED, comment="more")
    written = [codec.encode(record) for record in (LONELY, RESOLVED, other_words)]
    poison, lonely, resolved, other = identities(FEEDBACK, ratings(b"poison", *written))
    assert poison is None
    assert lonely != resolved == other


def test_feedback_that_breaks_a_rule_has_copies_too() -> None:
    value = codec.encode(dataclasses.replace(RESOLVED, ts=-1))
    first, copy = identities(FEEDBACK, ratings(value, value))
    assert first == copy is not None


COMMENT = codec.encode(RESOLVED).index(b"words") - 2
"""Where the branch of the comment's union stands."""

ODD = {
    "words that are no UTF-8": (FEEDBACK, codec.encode(RESOLVED).replace(b"words", b"w\xff\xfeds")),
    "a branch that no union has": (
        FEEDBACK,
        codec.encode(RESOLVED)[:COMMENT] + b"\x04" + codec.encode(RESOLVED)[COMMENT + 1 :],
    ),
    "JSON of feedback": (FEEDBACK, codec.as_json(RESOLVED).encode()),
    "JSON of an evaluation": (EVALUATIONS, codec.as_json(CHECKED).encode()),
}


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
@pytest.mark.parametrize("what", ODD)
def test_whatever_counts_has_copies_that_do_not(what: str, slow: bool) -> None:
    topic, value = ODD[what]
    copies = ratings(value, value)
    record = {FEEDBACK: "Feedback", EVALUATIONS: "Evaluation"}[topic]
    assert decode_batch(copies, record, slow=slow).frame.height == 2
    assert Seen(BLOCK).mark([0, 1], identities(topic, copies, slow=slow)) == [False, True]


def test_copies_are_told_in_each_partition_by_itself_though_all_are_read_at_once() -> None:
    one, other = (codec.encode(dataclasses.replace(LONELY, event_id=event_id)) for event_id in "ab")
    ranges = [
        ranged(ratings(one, other, one), topic=FEEDBACK, partition=0),
        ranged([message(0, "a"), message(1, "a")]),
        ranged(ratings(other, other), topic=FEEDBACK, partition=1),
        ranged(ratings(codec.encode(CHECKED)), topic=EVALUATIONS, partition=0),
    ]
    marks = Duplicates(Settings(duplicate_block=BLOCK)).mark(ranges)
    assert [marks[range_.name] for range_ in ranges] == [
        [False, False, True],
        [False, True],
        [False, True],
        [False],
    ]
