"""Bytes to records and back, and every way in which bytes can be wrong."""

import dataclasses
import typing
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import codec, versions
from tidegate.errors import ContractError
from tidegate.records import RECORDS, Feedback, Guardrail, LLMCall, Rollout
from tidegate.registry import SchemaRegistry
from tidegate.vocabulary import CLOSED

CALL = LLMCall(
    event_id="0193e7a0-0000-7000-8000-000000000001",
    tenant="acme",
    app="support",
    environment="prod",
    deployment="chat",
    variant="base",
    ts_start=1_700_000_000_000_000,
    ts_end=1_700_000_001_000_000,
    operation="chat",
    provider="openai",
    request_model="gpt-4",
    status="ok",
    reported_cost_usd=Decimal("0.001230000"),
    guardrails=[Guardrail(name="pii", stage="output", triggered=True)],
)

_PLAIN: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(max_size=12),
    int: st.integers(-(2**31), 2**31 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=12),
    Decimal: st.decimals(min_value=-(10**6), max_value=10**6, places=9),
}


def values(hint: Any, closed: tuple[str, ...] | None = None) -> st.SearchStrategy[Any]:
    args = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return st.lists(values(args[0]), max_size=2)
    if type(None) in args:
        return st.none() | values(args[0], closed)
    if closed:
        return st.sampled_from(closed)
    return _PLAIN[hint] if hint in _PLAIN else records(hint)


def records(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    closed = CLOSED.get(cls.__name__, {})
    return st.builds(
        cls, **{f.name: values(hints[f.name], closed.get(f.name)) for f in dataclasses.fields(cls)}
    )


@pytest.mark.parametrize("cls", RECORDS.values(), ids=lambda cls: cls.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_record_comes_back_as_it_was(cls: type, data: st.DataObject) -> None:
    record = data.draw(records(cls))
    assert codec.decode(codec.encode(record)) == record


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_decode_or_give_a_listed_reason(data: bytes) -> None:
    header = codec.SINGLE_OBJECT + versions.latest(LLMCall).fingerprint
    for prefix in (b"", header, b"\x00\x00\x00\x00\x01", b"{"):
        assert reason_of(prefix + data) in (None, *codec.REASONS)


def reason_of(data: bytes) -> str | None:
    try:
        codec.decode(data, expect=LLMCall)
    except ContractError as error:
        return error.reason
    return None


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(codec.encode(CALL)) - 1))
def test_a_truncated_record_is_refused(cut: int) -> None:
    with pytest.raises(ContractError) as caught:
        codec.decode(codec.encode(CALL)[:cut])
    assert caught.value.reason in {"empty", "undecodable", "unknown_framing"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "unknown_framing"),
        (b"\xc3\x01" + b"\x00" * 8 + b"rest", "unknown_schema"),
        (b"\x00\x00\x00\x00\x07rest", "no_registry"),
        (codec.encode(CALL) + b"\x00", "trailing_bytes"),
        (codec.encode(CALL)[:40], "undecodable"),
    ],
)
def test_the_reason_names_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(ContractError) as caught:
        codec.decode(data)
    assert caught.value.reason == reason


def test_a_record_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ContractError, match="LLMCall where Feedback or Rollout belongs"):
        codec.decode(codec.encode(CALL), expect=(Feedback, Rollout))


def test_a_value_that_does_not_fit_names_its_record() -> None:
    wrong = dataclasses.replace(CALL, input_tokens="many")
    with pytest.raises(ContractError, match="LLMCall cannot be written"):
        codec.encode(wrong)


def test_a_value_outside_a_closed_list_decodes_as_other() -> None:
    decoded = codec.decode(codec.encode(dataclasses.replace(CALL, status="exploded")))
    assert decoded.status == "other"


def test_json_is_read_with_the_same_field_names() -> None:
    assert codec.decode(codec.as_json(CALL).encode(), expect=LLMCall) == CALL


def test_confluent_framing_is_read_through_the_registry() -> None:
    registry = SchemaRegistry("mock://codec")
    schema_id = registry.schema_id(versions.latest(LLMCall), "llm.calls")
    data = codec.encode_confluent(CALL, schema_id)
    assert data[:5] == b"\x00" + schema_id.to_bytes(4, "big")
    assert codec.decode(data, registry) == CALL


def test_an_id_that_the_registry_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.registry.PATIENCE_S", 0.0)
    with pytest.raises(ContractError) as caught:
        codec.decode(b"\x00\x00\x00\x03\xe7rest", SchemaRegistry("mock://empty"))
    assert caught.value.reason == "unknown_schema"
