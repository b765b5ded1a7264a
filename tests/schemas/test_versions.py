"""The whole schema history: readable both ways, on the fast path, and the same as the dataclasses."""

import dataclasses
import io
import itertools
import random
import typing
from typing import Any

import fastavro
import polars as pl
import pytest
from fastavro.schema import parse_schema

from tidegate import versions
from tidegate.records import RECORDS
from tidegate.topics import TOPICS
from tidegate.versions import Version
from tidegate.vocabulary import CLOSED

ALL = [v for history in versions.history().values() for v in history]
IDS = [f"{v.name}-{v.number}" for v in ALL]


def sample(schema: Any, named: dict[str, Any], rng: random.Random) -> Any:
    """Return a datum of a schema as written; unions are null as often as not."""
    if isinstance(schema, list):
        return None if rng.random() < 0.5 else sample(schema[1], named, rng)
    if isinstance(schema, str):
        if schema in named:
            return sample(named[schema], named, rng)
        return {"string": "é" * rng.randint(0, 3), "bytes": b"\x00\xff", "boolean": True, "double": 0.5}.get(
            schema, rng.randint(-(2**31), 2**31 - 1)
        )
    kind = schema["type"]
    if kind == "record":
        named[schema["name"]] = schema
        return {f["name"]: sample(f["type"], named, rng) for f in schema["fields"]}
    if kind == "array":
        # At least one item is made, so that a type named here is known where it is used again.
        return [sample(schema["items"], named, rng) for _ in range(3)][: rng.randint(0, 3)]
    return b"\x01" if kind == "bytes" else rng.randint(0, 2**40)


@pytest.mark.parametrize("version", ALL, ids=IDS)
def test_every_version_decodes_on_the_fast_path(version: Version) -> None:
    rng = random.Random(7)
    plain = parse_schema(_without_logical_types(version.source))
    data = [sample(version.source, {}, rng) for _ in range(25)]
    body = io.BytesIO()
    for datum in data:
        fastavro.schemaless_writer(body, plain, datum)
    header = io.BytesIO()
    fastavro.writer(header, versions.container_schema(version), [])
    out = io.BytesIO()
    for value in (len(data), len(body.getvalue())):
        fastavro.schemaless_writer(out, {"type": "long"}, value)
    sync = header.getvalue()[-16:]
    frame = pl.read_avro(io.BytesIO(header.getvalue() + out.getvalue() + body.getvalue() + sync))
    assert frame.height == len(data)
    assert frame.columns == [f["name"] for f in version.source["fields"]]
    first = version.source["fields"][0]["name"]
    assert frame[first].to_list() == [datum[first] for datum in data]


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(s) for s in schema]
    if isinstance(schema, dict):
        return {
            k: _without_logical_types(v)
            for k, v in schema.items()
            if k not in ("logicalType", "precision", "scale")
        }
    return schema


@pytest.mark.parametrize("subject", RECORDS)
def test_every_version_is_read_by_the_newest_and_the_newest_by_the_one_before(subject: str) -> None:
    history = versions.history()[subject]
    newest = history[-1]
    pairs = [(old, newest) for old in history] + [(b, a) for a, b in itertools.pairwise(history)]
    rng = random.Random(3)
    for written, read in pairs:
        for _ in range(10):
            out = io.BytesIO()
            fastavro.schemaless_writer(out, written.parsed, sample(written.source, {}, rng))
            out.seek(0)
            fastavro.schemaless_reader(out, written.parsed, read.parsed)


def test_version_numbers_have_no_gaps_and_fingerprints_no_repeats() -> None:
    for history in versions.history().values():
        assert [v.number for v in history] == list(range(1, len(history) + 1))
    assert len(versions.by_fingerprint()) == len(ALL)


def test_the_fingerprint_is_the_specifications() -> None:
    # Avro 1.12: the CRC-64-AVRO of "int" is 7275d51a3f395c8f, little-endian on the wire.
    assert versions.fingerprint_of("int") == bytes.fromhex("7275d51a3f395c8f")[::-1]


@pytest.mark.parametrize("version", [h[-1] for h in versions.history().values()], ids=lambda v: v.name)
def test_dataclasses_and_schemas_agree(version: Version) -> None:
    for schema, cls in _records_of(version.source, version.record):
        fields = dataclasses.fields(cls)
        assert [f.name for f in fields] == [f["name"] for f in schema["fields"]]
        for field, declared in zip(fields, schema["fields"], strict=True):
            nullable = isinstance(declared["type"], list)
            hint = typing.get_type_hints(cls)[field.name]
            assert nullable == (type(None) in typing.get_args(hint)), (cls, field.name)
            if "default" in declared and declared["default"] not in ([], None):
                assert field.default == declared["default"], (cls, field.name)


def _records_of(schema: Any, cls: type) -> list[tuple[dict[str, Any], type]]:
    found = [(schema, cls)]
    hints = typing.get_type_hints(cls)
    for f in schema["fields"]:
        declared = f["type"][1] if isinstance(f["type"], list) else f["type"]
        item = declared.get("items", declared) if isinstance(declared, dict) else declared
        if isinstance(item, dict) and item["type"] == "record":
            hint = hints[f["name"]]
            inner = next(a for a in typing.get_args(hint) if dataclasses.is_dataclass(a))
            found += _records_of(item, typing.cast("type", inner))
    return found


def test_every_field_is_documented() -> None:
    for version in ALL:
        for schema, _ in _records_of(version.source, version.record):
            assert schema["doc"].endswith(".")
            for field in schema["fields"]:
                assert field["doc"].endswith("."), (version.name, field["name"])


def test_nothing_is_used_that_the_fast_path_cannot_read() -> None:
    for version in ALL:
        text = str(version.source)
        assert "'enum'" not in text
        assert "'map'" not in text


def test_closed_lists_name_fields_that_exist() -> None:
    known = {schema["name"]: schema for v in ALL for schema, _ in _records_of(v.source, v.record)}
    for record, fields in CLOSED.items():
        assert set(fields) <= {f["name"] for f in known[record]["fields"]}


def test_the_topic_table_places_every_record_once() -> None:
    placed = [cls for topic in TOPICS.values() for cls in topic.records]
    from tidegate.records import WindowMetrics

    assert sorted(c.__name__ for c in placed) == sorted(
        c.__name__ for c in RECORDS.values() if c is not WindowMetrics
    )
