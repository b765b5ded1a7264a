"""Schemas of other producers, from a registry: every way of reading refuses the same ones."""

import copy
import io
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import pytest
from fastavro import schemaless_writer

from tidegate import versions
from tidegate.records import LLMCall
from tidegate.versions import Version, load
from tidegate_infra.kafka.batches import Batch, decode_batch

Fields = list[dict[str, Any]]

CALL = LLMCall(
    event_id="0190a7b4-0000-7000-8000-000000000001",
    ts_start=1_760_000_000_000_000,
    ts_end=1_760_000_001_000_000,
    tenant="acme",
    app="chat",
    environment="prod",
    deployment="bot",
    variant="old",
    operation="chat",
    provider="openai",
    request_model="gpt-4-0314",
    status="ok",
    input_tokens=12,
)


class Message:
    def __init__(self, event_id: str, value: bytes) -> None:
        self._key, self._value = event_id.encode(), value

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def offset(self) -> int:
        return 0


class Registry:
    def __init__(self, version: Version) -> None:
        self._version = version

    def version(self, schema_id: int) -> Version:
        return self._version

    def schema_id(self, version: Version, topic: str) -> int:
        raise NotImplementedError


def read(call: LLMCall, change: Callable[[Fields], object], values: dict[str, Any], *, slow: bool) -> Batch:
    source = copy.deepcopy(versions.latest(LLMCall).source)
    change(source["fields"])
    version = load("call", 0, source)
    out = io.BytesIO()
    schemaless_writer(out, version.parsed, asdict(call) | values)
    message = Message(call.event_id, b"\x00\x00\x00\x00\x01" + out.getvalue())
    return decode_batch([message] * 3, slow=slow, registry=Registry(version))


def field(fields: Fields, name: str) -> dict[str, Any]:
    return next(one for one in fields if one["name"] == name)


def as_text(fields: Fields) -> None:
    changed = field(fields, "input_tokens")
    changed["type"] = "string"
    del changed["default"]


def without_its_provider(fields: Fields) -> None:
    fields.remove(field(fields, "provider"))


def as_bytes(fields: Fields) -> None:
    field(fields, "provider")["type"] = "bytes"


def with_a_map(fields: Fields) -> None:
    fields.append({"name": "extra", "type": {"type": "map", "values": "string"}})


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
@pytest.mark.parametrize(
    ("change", "values", "why"),
    [
        # Digits could be taken for a number by one way of reading, and not by the other.
        (as_text, {"input_tokens": "12"}, "is string and read as"),
        (as_text, {"input_tokens": "a few"}, "is string and read as"),
        (as_bytes, {"provider": b"\xff"}, "is bytes and read as"),
        (without_its_provider, {}, "provider: is not written"),
        (with_a_map, {"extra": {}}, "a map cannot be decoded"),
    ],
    ids=["digits", "words", "bytes", "less", "map"],
)
def test_a_schema_that_is_not_ours_is_refused_whatever_its_values(
    change: Callable[[Fields], object],
    values: dict[str, Any],
    why: str,
    slow: bool,
) -> None:
    batch = read(CALL, change, values, slow=slow)
    assert batch.frame.height == 0
    assert {one.reason for one in batch.rejected} == {"unknown_schema"}
    assert all(why in one.detail for one in batch.rejected)


def nested(depth: int) -> Any:
    return {"type": "array", "items": nested(depth - 1)} if depth else "int"


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
FIXED = {"type": "fixed", "name": "F", "size": 16}
EMPTY = {"type": "record", "name": "Empty", "fields": []}
UNMADE: dict[str, tuple[dict[str, Any], Any]] = {
    "fixed": ({"name": "extra", "type": FIXED}, b"x" * 16),
    "a decimal of fixed length": (
        {"name": "extra", "type": FIXED | {"logicalType": "decimal", "precision": 38, "scale": 2}},
        Decimal("1.25"),
    ),
    "a duration": ({"name": "extra", "type": FIXED | {"size": 12, "logicalType": "duration"}}, b"x" * 12),
    "null": ({"name": "extra", "type": "null"}, None),
    "a record in itself": ({"name": "extra", "type": ["null", NODE]}, None),
    "the call in itself": ({"name": "extra", "type": ["null", "tidegate.LLMCall"]}, None),
    "the name of another field": ({"name": "provider", "type": "string"}, "openai"),
    "the name of the row": ({"name": "_row", "type": "long"}, 1),
    "lists in lists": ({"name": "extra", "type": nested(150)}, []),
    "a list of nothing": ({"name": "extra", "type": {"type": "array", "items": EMPTY}}, [{}]),
}
"""Fields that are compatible, since nobody reads them, and for which some decoder cannot be made."""


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
@pytest.mark.parametrize("what", UNMADE)
def test_a_schema_for_which_a_decoder_cannot_be_made_is_refused_either_way(what: str, slow: bool) -> None:
    extra, value = UNMADE[what]
    batch = read(CALL, lambda fields: fields.append(extra), {extra["name"]: value}, slow=slow)
    assert [one.reason for one in batch.rejected] == ["unknown_schema"] * 3


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_a_number_of_half_the_length_is_read(slow: bool) -> None:
    def change(fields: Fields) -> None:
        field(fields, "sample_rate").update(type="float", default=1.0)

    batch = read(CALL, change, {"sample_rate": 0.25}, slow=slow)
    assert not batch.rejected
    assert batch.frame.get_column("sample_rate").to_list() == [0.25] * 3


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_a_schema_with_more_fields_in_another_order_is_read(slow: bool) -> None:
    def change(fields: Fields) -> None:
        fields[:9] = reversed(fields[:9])
        fields.append({"name": "weather", "type": ["null", "string"], "default": None})

    batch = read(CALL, change, {"weather": "fair"}, slow=slow)
    assert not batch.rejected
    assert batch.frame.select("event_id", "input_tokens").rows() == [(CALL.event_id, 12)] * 3
