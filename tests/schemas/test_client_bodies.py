"""What becomes of prompts, answers and other long texts, in memory."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tidegate.client.client import Client
from tidegate.client.transport import MemoryTransport
from tidegate.records import Content, Evaluation, Feedback, LLMCall

CALL_ID = "019ca94e-fd00-7000-8000-5f6fdb5b3a01"

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]
Records = Callable[[MemoryTransport, type], list[Any]]


def test_bodies_are_withheld_unless_asked_for(new_client: NewClient, new_call: NewCall) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    client.emit(new_call(content=Content(input="secret", bytes=6)))
    rated = {"name": "n", "kind": "comment", "given_by": "user", "target_event_id": CALL_ID}
    client.emit(Feedback(**rated, comment="secret", correction="secret"))
    client.emit(
        Evaluation(name="n", kind="judge", evaluator="j", target_event_id=CALL_ID, explanation="secret")
    )
    assert client.flush(5)
    assert all(b"secret" not in sent.value for sent in memory.sent)
    assert len(memory.sent) == 3


def test_the_mask_sees_every_body_in_the_background(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
    threads = set()

    def mask(text: str) -> str:
        threads.add(threading.current_thread().name)
        return text.replace("secret", "***")

    memory = MemoryTransport()
    client = new_client(memory, content=True, mask=mask, mask_policy="words")
    client.emit(new_call(content=Content(input="a secret", output="fine", bytes=0), error_message="secret"))
    assert client.flush(5)
    (call,) = records(memory, LLMCall)
    assert (call.content.input, call.content.output, call.error_message) == ("a ***", "fine", "***")
    assert (call.content.bytes, call.content.masked_count, call.content.mask_policy) == (12, 1, "words")
    assert threads == {"tidegate"}


@pytest.mark.parametrize("failure", [ValueError, SystemExit, KeyError])
def test_a_mask_that_raises_costs_the_bodies_and_not_the_event(
    new_client: NewClient, new_call: NewCall, failure: type[BaseException], records: Records
) -> None:
    def mask(text: str) -> str:
        raise failure(text)

    memory = MemoryTransport()
    client = new_client(memory, content=True, mask=mask)
    client.emit(new_call(content=Content(input="secret", bytes=0), error_message="secret"))
    client.emit(new_call())
    assert client.flush(5)
    marked, plain = records(memory, LLMCall)
    assert (marked.content.input, marked.error_message, marked.tags) == (None, None, ["mask_failed"])
    assert (marked.content.bytes, marked.content.truncated) == (6, True)
    assert plain.tags == []


def test_an_event_too_large_for_kafka_loses_its_bodies_first(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
    memory = MemoryTransport()
    client = new_client(memory, content=True)
    client.emit(new_call(content=Content(input="x" * 2_000_000, bytes=0), input_tokens=7))
    client.emit(new_call(usage_raw="x" * 2_000_000))
    assert client.flush(5)
    (call,) = records(memory, LLMCall)
    assert (call.input_tokens, call.content.input, call.content.bytes, call.content.truncated) == (
        7, None, 2_000_000, True,
    )  # fmt: skip
    assert client.counts.dropped == {"too_large": 1}


def test_an_error_message_is_cut_to_a_kilobyte(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    client.emit(new_call(error_message="é" * 5_000))
    assert client.flush(5)
    assert records(memory, LLMCall)[0].error_message == "é" * 500
