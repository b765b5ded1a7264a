"""Where `emit` and the stream draw the line: at the same place, from both sides."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Message

from tidegate import codec, limits
from tidegate.client.rules import problems
from tidegate.client.screen import holds
from tidegate.records import Evaluation, Feedback, LLMCall, Retrieval, Series
from tidegate_infra.kafka.batches import decode_batch

ID = "01a1fdd7-1d30-70f5-bd77-cd25a621f762"
CALL = LLMCall(
    event_id=ID, ts_start=0, ts_end=1, tenant="t", app="a", environment="e", deployment="d", variant="v",
    operation="chat", provider="p", request_model="m", status="ok",
)  # fmt: skip
SERIES = Series(
    app="a", environment="e", deployment="d", variant="v", operation="chat", provider="p", request_model="m",
    traffic="live", comparable=True,
)  # fmt: skip
FEEDBACK = Feedback(
    event_id=ID, ts=1, tenant="t", name="n", kind="score", given_by="user", target_event_id=ID, series=SERIES
)
EVALUATION = Evaluation(
    event_id=ID, ts=1, tenant="t", name="n", kind="judge", evaluator="j", target_event_id=ID, series=SERIES
)

LONGEST_NAME = "é" * (limits.LONGEST_NAME_BYTES // 2)

Change = Callable[[Any], Any]
Case = tuple[Any, str, Any, Any]
"""An event, the field, the last value that is taken, and the first that is not."""


def cases() -> Iterator[Case]:
    """Yield every limit that an event has."""
    for event in (CALL, FEEDBACK, EVALUATION):
        record = type(event).__name__
        names = limits.NAMES[record] + tuple(f"series.{n}" for n in limits.NAMES["Series"] if event != CALL)
        for field in names:
            yield event, field, LONGEST_NAME, LONGEST_NAME + "n"
        for field in limits.VALUES.get(record, ()):
            yield event, field, -1e9, -1e9 - 1
    for field in limits.DURATIONS["LLMCall"]:
        yield CALL, field, limits.LONGEST_US, limits.LONGEST_US + 1
    for field in limits.COUNTS["LLMCall"]:
        yield CALL, field, limits.MOST, limits.MOST + 1
    yield CALL, "ts_end", limits.LONGEST_US, limits.LONGEST_US + 1
    yield replace(CALL, ts_start=limits.LATEST_US), "ts_end", limits.LATEST_US, limits.LATEST_US + 1
    yield CALL, "sample_rate", 1e-6, 0.9e-6
    yield EVALUATION, "sample_rate", 1e-6, 0.9e-6
    yield FEEDBACK, "ts", limits.LATEST_US, limits.LATEST_US + 1
    yield replace(CALL, retrieval=Retrieval(count=1)), "retrieval.duration_us", 10**12, 10**12 + 1
    for thumb in limits.THUMBS:
        yield replace(FEEDBACK, kind="thumbs"), "value", float(thumb), 7.0


def changed(event: Any, field: str, value: Any) -> Any:
    inside, _, name = field.rpartition(".")
    if inside:
        return replace(event, **{inside: replace(getattr(event, inside), **{name: value})})
    return replace(event, **{name: value})


@pytest.mark.parametrize("record", ["LLMCall", "Feedback", "Evaluation"])
def test_emit_and_the_stream_draw_every_line_at_the_same_place(record: str) -> None:
    ours = [case for case in cases() if type(case[0]).__name__ == record]
    events = [changed(event, field, value) for event, field, *values in ours for value in values]
    messages = [
        Message(topic="t", partition=0, offset=i, value=codec.encode(e), key=ID.encode(), timestamp=(2, 0))
        for i, e in enumerate(events)
    ]
    dead = {one.message.offset(): one for one in decode_batch(messages, record).rejected}
    beyond = {2 * i + 1 for i in range(len(ours))}
    assert {i for i, event in enumerate(events) if not holds(event)} == beyond
    assert dead.keys() == beyond
    for i, (_, field, *_rest) in enumerate(ours):
        (problem,) = problems(events[2 * i + 1])
        assert problem.field == field
        assert problem.reason in ("too_long", "out_of_range")
        assert field in dead[2 * i + 1].detail


def test_a_name_that_is_too_long_is_told_in_bytes() -> None:
    (problem,) = problems(changed(CALL, "variant", "é" * 200))
    assert str(problem) == f"variant: {'é' * 20}… is 400 bytes long, at most 256"


def test_a_rating_by_thumb_is_up_or_down() -> None:
    (problem,) = problems(replace(FEEDBACK, kind="thumbs", value=7.0))
    assert str(problem) == "value: 7.0 is no thumb: 1 is up, 0 is down"
    assert holds(replace(FEEDBACK, kind="thumbs", value=None))
