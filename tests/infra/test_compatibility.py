"""Whether one schema reads another: the library that reads is the judge."""

import io
from typing import Any

import fastavro
import pytest
from fastavro.schema import SchemaParseException
from fastavro.types import Schema

from tidegate import versions
from tidegate_infra.compatibility import unreadable, unsupported


def record(*fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": "kept", "type": "int"}, *fields]}


def field(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "f", "type": kind} | more


def many(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def fixed(size: int) -> dict[str, Any]:
    return {"type": "fixed", "name": "F", "size": size}


INNER = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "long"}]}
WIDER_INNER = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "double"}]}
OTHER_INNER = {"type": "record", "name": "Inner", "fields": [{"name": "y", "type": "long"}]}

PAIRS: list[tuple[Any, Any, Any]] = [
    (record(field("int")), record(field("int")), 1),
    (record(field("int")), record(field("long")), 1),
    (record(field("long")), record(field("int")), 2**40),
    (record(field("long")), record(field("double")), 1),
    (record(field("double")), record(field("long")), 1.5),
    (record(field("string")), record(field("bytes")), "a"),
    (record(field("string")), record(field("long")), "a"),
    (record(field("boolean")), record(field("int")), True),
    (record(), record(field("int")), None),
    (record(), record(field("int", default=3)), None),
    (record(field("int")), record(), 1),
    (record(field("int")), record(field(["null", "int"], default=None)), 1),
    (record(field(["null", "int"])), record(field("int")), None),
    (record(field(["null", "int"])), record(field(["null", "long"])), 1),
    (record(field(["null", "string"])), record(field(["null", "long"])), "a"),
    (record(field(many("int"))), record(field(many("long"))), [1]),
    (record(field(many("long"))), record(field(many("string"))), [1]),
    (record(field(INNER)), record(field(WIDER_INNER)), {"x": 1}),
    (record(field(INNER)), record(field(OTHER_INNER)), {"x": 1}),
    (record(field(fixed(2))), record(field(fixed(2))), b"ab"),
    (record(field(fixed(2))), record(field(fixed(3))), b"ab"),
    (record(field("int")), record(field({"type": "array", "items": "int"})), 1),
]  # fmt: skip


def can_read(writer: Schema, reader: Schema, value: Any) -> bool:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(writer), {"kept": 1, "f": value})
    out.seek(0)
    try:
        fastavro.schemaless_reader(out, fastavro.parse_schema(writer), fastavro.parse_schema(reader))
    except (fastavro.read.SchemaResolutionError, SchemaParseException, KeyError):
        return False
    return True


@pytest.mark.parametrize(("writer", "reader", "value"), PAIRS)
def test_the_reason_and_the_readers_failure_come_together(writer: Any, reader: Any, value: Any) -> None:
    assert (unreadable(writer, reader) == []) == can_read(writer, reader, value)


def test_a_reason_names_the_field_inside_a_list_of_records() -> None:
    writer = record(field({"type": "array", "items": INNER}))
    reader = record(field({"type": "array", "items": OTHER_INNER}))
    assert unreadable(writer, reader) == ["R.f[].y: is not written and has no default"]


def test_a_changed_unit_is_a_problem_although_the_bytes_are_the_same() -> None:
    writer = record(field({"type": "long", "logicalType": "timestamp-micros"}))
    reader = record(field({"type": "long", "logicalType": "timestamp-millis"}))
    assert unreadable(writer, reader) == ["R.f: is timestamp-micros and read as timestamp-millis"]


def test_a_record_of_another_name_is_one_problem() -> None:
    assert unreadable(record(), record() | {"name": "S"}) == ["S: is a R and read as S"]
    assert unreadable(record(), record() | {"name": "S", "aliases": ["R"]}) == []


def test_every_shipped_schema_reads_itself_and_is_supported() -> None:
    for history in versions.history().values():
        for version in history:
            assert unreadable(version.source, version.source) == []
            assert unsupported(version.source) == []


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ({"type": "map", "values": "int"}, "a map cannot be decoded in batches"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "a enum cannot be decoded in batches"),
        (["int", "null"], "a union is of null and one other type, in this order"),
        ({"type": "array", "items": {"type": "map", "values": "int"}}, "a map cannot be decoded in batches"),
    ],
)
def test_what_the_batch_decoder_cannot_read_is_named(kind: Any, what: str) -> None:
    assert [problem.partition(": ")[2] for problem in unsupported(record(field(kind)))] == [what]
