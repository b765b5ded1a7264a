"""The history of every schema, as shipped in `tidegate/avro/<subject>/<number>.avsc`."""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fastavro import parse_schema
from fastavro.schema import fingerprint

from tidegate.records import RECORDS


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one record's schema.

    Parameters
    ----------
    subject
        Folder of the history, such as ``call``.
    number
        From 1; the highest is what this release writes.
    fingerprint
        CRC-64-AVRO of the parsing canonical form, 8 bytes little-endian: bytes 2 to 10 of
        single-object encoding (Avro 1.12 specification, "Single object encoding").
    source
        The schema as written, with its doc strings.
    parsed
        The same for fastavro, with times as plain integers of microseconds.
    """

    subject: str
    number: int
    fingerprint: bytes
    source: dict[str, Any]
    parsed: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the record, such as ``LLMCall``."""
        return str(self.source["name"])

    @property
    def record(self) -> type:
        """The dataclass that holds it."""
        return RECORDS[self.subject]


def plain_times(schema: Any) -> Any:
    """Return the schema without ``timestamp-micros``: fastavro then reads and writes plain integers."""
    if isinstance(schema, list):
        return [plain_times(branch) for branch in schema]
    if isinstance(schema, dict):
        return {
            key: plain_times(value)
            for key, value in schema.items()
            if not (key == "logicalType" and value == "timestamp-micros")
        }
    return schema


def fingerprint_of(schema: Any) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a schema, as it stands on the wire."""
    digest: str = fingerprint(_canonical(schema), "CRC-64-AVRO")
    return bytes.fromhex(digest)


def _canonical(schema: Any) -> str:
    from fastavro.schema import to_parsing_canonical_form

    text: str = to_parsing_canonical_form(schema)
    return text


def load(subject: str, number: int, source: dict[str, Any]) -> Version:
    """Make a version out of a schema as written."""
    parsed: Any = parse_schema(plain_times(source))
    return Version(subject, number, fingerprint_of(source), source, parsed)


def _shipped() -> Iterator[Version]:
    root = resources.files("tidegate") / "avro"
    for subject in RECORDS:
        files = {int(f.name.removesuffix(".avsc")): f for f in (root / subject).iterdir()}
        for number in sorted(files):
            yield load(subject, number, json.loads(files[number].read_text("utf-8")))


@functools.cache
def history() -> dict[str, list[Version]]:
    """Return every shipped version, oldest first, by subject."""
    versions: dict[str, list[Version]] = {}
    for version in _shipped():
        versions.setdefault(version.subject, []).append(version)
    return versions


@functools.cache
def by_fingerprint() -> dict[bytes, Version]:
    """Return every shipped version by its fingerprint on the wire."""
    return {v.fingerprint: v for versions in history().values() for v in versions}


@functools.cache
def _latest_by_record() -> dict[type, Version]:
    return {RECORDS[subject]: versions[-1] for subject, versions in history().items()}


def latest(record: type) -> Version:
    """Return the version that this release writes for a record class."""
    try:
        return _latest_by_record()[record]
    except KeyError:
        raise TypeError(f"{record!r} is no record of the contract") from None


@functools.cache
def int_fields() -> dict[str, tuple[str, ...]]:
    """Return the fields of 32 bits of every record that has any, by the record's name."""
    found: dict[str, tuple[str, ...]] = {}

    def walk(schema: Any) -> None:
        for branch in schema if isinstance(schema, list) else [schema]:
            match branch:
                case {"type": "record", "name": name, "fields": fields}:
                    ints = (field["name"] for field in fields if field["type"] in ("int", ["null", "int"]))
                    found[name] = tuple(ints)
                    for field in fields:
                        walk(field["type"])
                case {"items": items}:
                    walk(items)

    for versions in history().values():
        walk(versions[-1].source)
    return {name: ints for name, ints in found.items() if ints}


def container_schema(version: Version) -> dict[str, Any]:
    """Return the schema in the form that `polars.read_avro` decodes.

    Defaults, docs and aliases are dropped and named types written out where they are used, under
    names of their own, because the reader refuses a non-null default and a named type used twice.
    The bytes on the wire are the same.
    """
    named: dict[str, dict[str, Any]] = {}
    count = iter(range(1_000_000))

    def walk(schema: Any) -> Any:
        if isinstance(schema, list):
            return [walk(branch) for branch in schema]
        if isinstance(schema, str):
            return walk(named[schema]) if schema in named else schema
        kind = schema["type"]
        if kind == "record":
            named[schema["name"]] = schema
            return {
                "type": "record",
                "name": f"{schema['name']}_{next(count)}",
                "fields": [{"name": f["name"], "type": walk(f["type"])} for f in schema["fields"]],
            }
        if kind == "array":
            return {"type": "array", "items": walk(schema["items"])}
        return dict(schema)

    normalised: dict[str, Any] = walk(version.source)
    return normalised
