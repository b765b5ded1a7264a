"""Handles: what goes out, and what may come back."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.client.client import Client
from tidegate.client.completion import complete
from tidegate.client.configuration import read
from tidegate.client.handle import HandleError, attach, seal, series_of
from tidegate.client.transport import MemoryTransport
from tidegate.codec import decode
from tidegate.records import Evaluation, Feedback, LLMCall

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]
DEFAULTS = read({"app": "app", "environment": "test", "kafka": "memory:0"}, environ={})
KEY = "a secret of the app"


def rating() -> Feedback:
    return Feedback(name="helpful", kind="thumbs", given_by="user")


@pytest.fixture
def call(new_call: NewCall) -> LLMCall:
    call = new_call(
        deployment="bot", variant="v2", prompt_name="greet", assignment_hash=-9, session_id="private"
    )
    complete(call, DEFAULTS, 0)
    return call


@pytest.mark.parametrize("key", [None, KEY])
def test_feedback_gets_the_call_and_its_series(call: LLMCall, key: str | None) -> None:
    event = rating()
    attach(event, seal(call, key), key, "default")
    assert (event.target_event_id, event.tenant) == (call.event_id, "default")
    assert event.series == series_of(call)
    assert event.series is not None
    assert event.series.comparable


def test_a_handle_holds_nothing_but_the_series(call: LLMCall) -> None:
    payload = seal(call, None).split(".")[1]
    assert b"private" not in base64.urlsafe_b64decode(payload + "==")


def test_a_handle_cannot_be_rewritten_without_the_key(call: LLMCall) -> None:
    honest = seal(call, KEY)
    _, payload, mac = honest.split(".")
    values = json.loads(base64.urlsafe_b64decode(payload + "=="))
    values[values.index("v2")] = "v1"
    forged = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    for handle in (f"h1.{forged}.{mac}", f"h1.{forged}.", seal(call, "another key"), seal(call, None)):
        with pytest.raises(HandleError, match="signature"):
            attach(rating(), handle, KEY, "default")


def test_an_unsigned_handle_cannot_name_another_tenant(call: LLMCall) -> None:
    call.tenant = "victim"
    with pytest.raises(HandleError, match="another tenant"):
        attach(rating(), seal(call, None), None, "default")
    event = rating()
    attach(event, seal(call, KEY), KEY, "default")
    assert event.tenant == "victim"


def test_feedback_of_one_tenant_cannot_be_about_a_call_of_another(call: LLMCall) -> None:
    event = rating()
    event.tenant = "acme"
    with pytest.raises(HandleError, match="another tenant"):
        attach(event, seal(call, KEY), KEY, "default")


HOSTILE: list[Any] = [
    None, 5, b"h1.x.", "", "h1", "h1..", "h2.e30.", "h1.e30.", "h1.\ud800.", "h1.%%%%.", "h1.W10.",
    "h1." + "W1tb" * 900 + ".",
    "h1." + "a" * 10_000 + ".", "h1.bnVsbA.", "h1.é.",
]  # fmt: skip


@pytest.mark.parametrize("handle", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_no_handle_is_refused_and_the_event_left_as_it_was(handle: Any, key: str | None) -> None:
    event = rating()
    with pytest.raises(HandleError):
        attach(event, handle, key, "default")
    assert event == rating()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=25,
)


@given(values | st.lists(st.text(max_size=5) | st.none(), min_size=18, max_size=18))
@settings(max_examples=200, deadline=None)
def test_any_payload_is_taken_or_refused(payload: Any) -> None:
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    with pytest.raises(HandleError):
        attach(rating(), f"h1.{text}.", None, "default")


def test_evaluations_take_a_call_or_its_handle(new_client: NewClient, call: LLMCall) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    judged = {"name": "faithful", "kind": "judge", "evaluator": "j", "passed": True}
    client.emit(Evaluation(**judged), target=call)
    client.emit(Evaluation(**judged), target=client.handle(call))
    client.emit(Evaluation(**judged), target="h1.forged.")
    assert client.flush(5)
    first, second = (decode(sent.value) for sent in memory.sent)
    assert first.series == second.series == series_of(call)
    assert first.target_event_id == second.target_event_id == call.event_id
    assert client.counts.dropped == {"handle": 1}


def test_a_call_of_this_process_may_be_of_any_tenant(new_client: NewClient, new_call: NewCall) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    client.emit(rating(), target=new_call(tenant="acme"))
    assert client.flush(5)
    assert decode(memory.sent[0].value).tenant == "acme"
