"""Records and ranges that the tests of sinks write."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Message
from uuid_utils import uuid7

from tidegate import codec
from tidegate.records import (
    Attribute,
    Content,
    Feedback,
    Guardrail,
    LLMCall,
    Retrieval,
    Routing,
    Series,
    UsageOther,
)
from tidegate.topics import CALLS
from tidegate_infra.kafka.ranges import Range

APPENDED_MS = 1_760_000_010_000

Calls = Callable[..., LLMCall]
Ranges = Callable[..., Range]


def _call(**changes: Any) -> LLMCall:
    plain = LLMCall(
        event_id=str(uuid7()),
        ts_start=1_760_000_000_000_000,
        ts_end=1_760_000_001_250_000,
        tenant="acme",
        app="support",
        environment="prod",
        deployment="chat",
        variant="base",
        operation="chat",
        provider="openai",
        request_model="gpt-4o",
        status="ok",
        input_tokens=1_000,
        output_tokens=200,
    )
    return replace(plain, **changes)


def _full_call(**changes: Any) -> LLMCall:
    return _call(
        producer_id="9d3b1c5e-0000-4000-8000-000000000001",
        seq=7,
        ttft_us=200_000,
        queue_us=3,
        gateway_us=4,
        app_version="2.1",
        segment="eu",
        budget_keys=["team:x", "key:y"],
        session_id="s1",
        user_hash="u1",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        experiment="upgrade",
        assignment_unit="user",
        assignment_hash=-(2**63),
        assignment_reason="split",
        assignment_revision=3,
        response_model="gpt-4o-2024-08-06",
        temperature=0.5,
        prompt_name="answer",
        prompt_version="12",
        tools_called=["search", "search"],
        http_status=200,
        finish_reasons=["stop"],
        outcome="answered",
        cache_read_tokens=100,
        usage_other=[UsageOther(unit="web_searches", quantity=1.5)],
        reported_cost_usd=Decimal("0.000123456"),
        guardrails=[
            Guardrail(name="pii", stage="input", triggered=False, categories=["a", "b"], score=0.25),
            Guardrail(name="toxic", stage="output", action="block", triggered=True, duration_us=9),
        ],
        routing=Routing(router="r", query_words=4),
        retrieval=Retrieval(count=2, duration_us=50, doc_ids=["d1", "d2"]),
        content=Content(input="Why?", output="Because ü.", bytes=15, masked_count=1),
        training_allowed=True,
        sample_rate=0.25,
        tags=["x"],
        attributes=[Attribute(key="k", value="v"), Attribute(key="k2", value="")],
        **changes,
    )


def _feedback(*, resolved: bool = True, **changes: Any) -> Feedback:
    series = Series(
        app="support",
        environment="prod",
        deployment="chat",
        variant="base",
        operation="chat",
        provider="openai",
        request_model="gpt-4o",
        traffic="live",
        call_ts_end=1_760_000_001_250_000,
        assignment_revision=3,
        comparable=True,
    )
    plain = Feedback(
        event_id=str(uuid7()),
        ts=1_760_000_005_000_000,
        tenant="acme",
        name="helpful",
        target_event_id="0190a0b0-0000-7000-8000-000000000001",
        kind="thumbs",
        positive=False,
        given_by="user",
        comment="wrong",
        attributes=[Attribute(key="page", value="3")],
        series=series if resolved else None,
    )
    return replace(plain, **changes)


def _key(record: Any) -> bytes | None:
    match record:
        case LLMCall():
            return record.event_id.encode()
        case bytes():
            return b"poison"
        case _:
            return None


def _ranged(
    records: Iterable[Any],
    topic: str = CALLS,
    lo: int = 0,
    *,
    topic_id: str = "topic/id",
    partition: int = 3,
    redo: bool = False,
    headers: list[tuple[str, bytes]] | None = None,
    appended_ms: int = APPENDED_MS,
) -> Range:
    messages = [
        Message(
            topic=topic,
            partition=partition,
            offset=offset,
            key=_key(record),
            value=record if isinstance(record, bytes) else codec.encode(record),
            headers=headers,
            timestamp=(2, appended_ms),
        )
        for offset, record in enumerate(records, start=lo)
    ]
    return Range(
        topic=topic,
        topic_id=topic_id,
        partition=partition,
        lo=lo,
        hi=lo + len(messages) - 1,
        messages=messages,
        redo=redo,
        epoch=1,
    )


@pytest.fixture
def call() -> Calls:
    """A call with its required fields, and changes."""
    return _call


@pytest.fixture
def full_call() -> Calls:
    """A call with nearly every field set."""
    return _full_call


@pytest.fixture
def feedback() -> Callable[..., Feedback]:
    """Feedback on a call, with or without its series."""
    return _feedback


@pytest.fixture
def ranged() -> Ranges:
    """A range of records or raw bytes, as a consumer would hand it over."""
    return _ranged
