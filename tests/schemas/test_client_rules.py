"""The rules of events, and the screen that decides them quickly."""

import dataclasses
import math
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.client.completion import complete
from tidegate.client.configuration import read
from tidegate.client.handle import series_of
from tidegate.client.rules import REASONS, problems
from tidegate.client.screen import holds
from tidegate.codec import encode
from tidegate.errors import ContractError
from tidegate.records import (
    Attribute,
    Content,
    Evaluation,
    Feedback,
    Guardrail,
    LLMCall,
    Retrieval,
    Routing,
    UsageOther,
)
from tidegate.vocabulary import CLOSED

NewCall = Callable[..., LLMCall]
CALL_ID = "019ca94e-fd00-7000-8000-5f6fdb5b3a01"
DEFAULTS = read({"app": "app", "environment": "test", "kafka": "memory:0"}, environ={})

VALID: list[LLMCall | Feedback | Evaluation] = [
    LLMCall(
        ts_start=10**15,
        ts_end=10**15 + 5,
        operation="chat",
        provider="p",
        request_model="m",
        status="ok",
        reported_cost_usd=Decimal("0.01"),
        temperature=0.5,
        assignment_hash=-5,
        tags=["a"],
        guardrails=[Guardrail(name="pii", stage="input", score=0.5, duration_us=3)],
        usage_other=[UsageOther(unit="images", quantity=1)],
        retrieval=Retrieval(count=3, doc_ids=["d"]),
        routing=Routing(router="r"),
        content=Content(input="x", bytes=1),
        attributes=[Attribute(key="k", value="v")],
    ),
    Feedback(name="helpful", kind="thumbs", given_by="user", ts=10**15, target_event_id=CALL_ID),
    Evaluation(name="faithful", kind="judge", evaluator="j", ts=10**15, dataset_item_id="i"),
]
for event in VALID:
    complete(event, DEFAULTS, 0)

ODD: list[Any] = [
    None, "", "x", 0, -1, 1, 2**31, 2**63, 10**16, 10**400, True, 0.0, -0.5, 1.5, math.nan, math.inf,
    -math.inf, Decimal("NaN"), Decimal("-Infinity"), Decimal("1e20"), [], ["x"], [1], ["x"] * 9,
    [None], {}, object(), b"x", [Guardrail(name="x", stage="y", duration_us=-1)],
    [Attribute(key="k", value="v")] * 33,
    Content(bytes=-1),
    [UsageOther(unit="u", quantity=-1.0)], Retrieval(count=-1), [Guardrail(name="", stage="y")],
    "n" * 257, "é" * 100, "ok", "answered", "other", CALL_ID, "thumbs", "stars",
    7.0, 10**9 + 1, 1e9 + 1, 1e-7,
]  # fmt: skip


def copy(event: Any) -> Any:
    return dataclasses.replace(event)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_screen_and_the_rules_never_disagree(data: st.DataObject) -> None:
    event = copy(data.draw(st.sampled_from(VALID)))
    names = [f.name for f in dataclasses.fields(event)]
    for name in data.draw(st.lists(st.sampled_from(names), max_size=3)):
        setattr(event, name, data.draw(st.sampled_from(ODD)))
    found = list(problems(event))
    assert holds(event) == (not found)
    assert {problem.reason for problem in found} <= set(REASONS)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_what_breaks_no_rule_can_be_written(data: st.DataObject) -> None:
    event = copy(data.draw(st.sampled_from(VALID)))
    name = data.draw(st.sampled_from([f.name for f in dataclasses.fields(event)]))
    setattr(event, name, data.draw(st.sampled_from(ODD)))
    complete(event, DEFAULTS, 0)
    if holds(event):
        assert encode(event)


def test_only_text_that_is_no_unicode_passes_the_rules_and_cannot_be_written() -> None:
    event = copy(VALID[0])
    event.session_id = "\ud800"
    assert holds(event)
    with pytest.raises(ContractError):
        encode(event)


@pytest.mark.parametrize("event", VALID, ids=lambda event: type(event).__name__)
def test_a_valid_event_has_no_problems(event: Any) -> None:
    assert list(problems(event)) == []


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("ttft_us", -1, "negative"),
        ("input_tokens", -5, "negative"),
        ("output_tokens", 1.0, "wrong_type"),
        ("max_tokens", True, "wrong_type"),
        ("provider", "", "missing"),
        ("request_model", None, "missing"),
        ("status", 200, "wrong_type"),
        ("ts_end", 10**15 - 1, "negative"),
        ("ts_end", 10**18, "out_of_range"),
        ("temperature", math.nan, "out_of_range"),
        ("sample_rate", 0.0, "out_of_range"),
        ("attempt", 0, "out_of_range"),
        ("event_id", "chatcmpl-123", "wrong_type"),
        ("budget_keys", ["k"] * 9, "too_many"),
        ("tags", "urgent", "wrong_type"),
        ("reported_cost_usd", 0.25, "wrong_type"),
    ],
)
def test_a_broken_rule_names_its_field(field: str, value: Any, reason: str) -> None:
    event = copy(VALID[0])
    setattr(event, field, value)
    assert [(p.field, p.reason) for p in problems(event)] == [(field, reason)]


def test_a_problem_inside_a_list_says_where() -> None:
    event = copy(VALID[0])
    event.guardrails = [
        Guardrail(name="a", stage="input"),
        Guardrail(name="b", stage="output", duration_us=-7),
    ]
    assert [str(p) for p in problems(event)] == ["guardrails[1].duration_us: -7 is negative"]


def test_feedback_is_about_exactly_one_thing() -> None:
    both = copy(VALID[1])
    both.target_session_id = "s"
    neither = copy(VALID[1])
    neither.target_event_id = None
    assert [p.reason for p in problems(both)] == ["target"]
    assert [p.reason for p in problems(neither)] == ["target"]


def test_feedback_on_what_can_be_no_call_is_refused_before_anybody_looks_for_it() -> None:
    rating = copy(VALID[1])
    rating.target_event_id = "xyz"
    assert [str(p) for p in problems(rating)] == [
        "target_event_id: 'xyz' is no call's event_id, a UUID in lower case"
    ]
    assert not holds(rating)


def test_text_may_be_of_a_class_derived_from_str(new_call: NewCall) -> None:
    class Status(StrEnum):
        OK = "ok"

    event = new_call(status=Status.OK)
    complete(event, DEFAULTS, 0)
    assert holds(event)
    assert encode(event)


def test_money_is_rounded_to_the_nano_dollars_of_the_wire(new_call: NewCall) -> None:
    event = new_call(reported_cost_usd=Decimal("0.0123456789012345"))
    complete(event, DEFAULTS, 0)
    assert event.reported_cost_usd == Decimal("0.012345679")
    assert encode(event)


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("outcome", "answerd", "; did you mean answered?"),
        ("outcome", "Answered", "; did you mean answered?"),
        ("outcome", "", ""),
        ("status", "success", ""),
        ("traffic", "shadows", "; did you mean shadow?"),
    ],
)
def test_a_word_of_no_closed_list_is_a_mistake_of_its_app(field: str, value: str, meant: str) -> None:
    event = copy(VALID[0])
    setattr(event, field, value)
    (problem,) = problems(event)
    known = ", ".join(CLOSED["LLMCall"][field])
    assert (problem.field, problem.reason) == (field, "wrong_type")
    assert str(problem) == f"{field}: {value!r} is none of {known}{meant}"
    assert not holds(event)


def test_what_was_read_as_other_may_be_sent_on_and_a_newer_series_stands() -> None:
    event = copy(VALID[0])
    event.status = event.outcome = event.source = "other"
    assert holds(event)
    assert list(problems(event)) == []
    rating = copy(VALID[1])
    rating.series = series_of(event)
    rating.series.traffic = "canary"
    assert holds(rating)
