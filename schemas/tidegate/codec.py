"""Records to bytes and back.

Two framings are read, told apart by their first bytes, and JSON besides: ``C3 01`` is Avro single-object
encoding (an 8-byte fingerprint names the writer's schema), ``00`` is Confluent framing (a 4-byte id names
it in a schema registry), ``{`` is a JSON object with the record's field names.
"""

import dataclasses
import functools
import io
import json
import struct
import typing
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

from fastavro import schemaless_reader, schemaless_writer

from tidegate import versions
from tidegate.errors import ContractError
from tidegate.versions import Version
from tidegate.vocabulary import CLOSED, OTHER

REASONS = (
    "empty",
    "unknown_framing",
    "unknown_schema",
    "no_registry",
    "undecodable",
    "trailing_bytes",
    "bad_json",
    "unexpected_record",
    "invalid_field",
    "too_large",
)
"""Why bytes are refused; a closed list, since it becomes a metric label."""

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"
_HEADER = 10
_CONFLUENT_ID = struct.Struct(">I")


class Registry(Protocol):
    """Where schemas are found by the id of Confluent framing."""

    def version(self, schema_id: int) -> Version:
        """Return the writer's schema; raises `ContractError` when the id is not known."""

    def schema_id(self, version: Version, topic: str) -> int:
        """Return the id of a schema that this release writes, registering it at need."""


def encode(record: Any) -> bytes:
    """Return a record as Avro single-object encoding.

    Raises
    ------
    ContractError
        With reason ``invalid_field`` when a value does not fit its field; nothing was written.
    """
    version = versions.latest(type(record))
    return SINGLE_OBJECT + version.fingerprint + _datum(record, version)


def encode_confluent(record: Any, schema_id: int) -> bytes:
    """Return a record in Confluent framing, under an id from the registry."""
    return CONFLUENT + _CONFLUENT_ID.pack(schema_id) + _datum(record, versions.latest(type(record)))


def _datum(record: Any, version: Version) -> bytes:
    out = io.BytesIO()
    try:
        schemaless_writer(out, version.parsed, as_dict(record))
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, ArithmeticError) as error:
        raise ContractError("invalid_field", f"{version.name} cannot be written: {error}") from error
    return out.getvalue()


def writer(data: bytes, registry: Registry | None = None) -> tuple[Version, int]:
    """Return the schema that wrote the bytes, and where the datum starts.

    Raises
    ------
    ContractError
        When the bytes are empty, framed in no known way, or of a schema nobody here knows.
    """
    if not data:
        raise ContractError("empty", "the value holds no bytes")
    if data[:2] == SINGLE_OBJECT:
        if len(data) < _HEADER:
            raise ContractError("undecodable", f"{len(data)} bytes end inside the 10-byte header")
        version = versions.by_fingerprint().get(data[2:_HEADER])
        if version is None:
            raise ContractError(
                "unknown_schema",
                f"fingerprint {data[2:_HEADER].hex()} is of no shipped schema; is its producer newer?",
            )
        return version, _HEADER
    if data[:1] == CONFLUENT:
        if len(data) < 5:
            raise ContractError("undecodable", f"{len(data)} bytes end inside the 5-byte header")
        schema_id = _CONFLUENT_ID.unpack_from(data, 1)[0]
        if registry is None:
            raise ContractError(
                "no_registry",
                f"schema id {schema_id} needs a schema registry; set TIDEGATE_SCHEMA_REGISTRY_URL",
            )
        return registry.version(schema_id), 5
    raise ContractError("unknown_framing", f"first bytes {data[:4].hex()} are neither C3 01, 00 nor '{{'")


def decode(
    data: bytes,
    registry: Registry | None = None,
    expect: type | tuple[type, ...] | None = None,
    *,
    mend: bool = False,
) -> Any:
    """Return the record that bytes hold.

    Parameters
    ----------
    data
        A Kafka value.
    registry
        Where ids of Confluent framing are looked up.
    expect
        Record classes that may stand here. JSON needs it: the first one is what an object is read as.
    mend
        Take text of Avro that is no UTF-8, with U+FFFD for what is wrong in it.

    Raises
    ------
    ContractError
        With one of `REASONS` and what was found. Bytes behind the datum are refused: they are the sign
        of a datum read with a wrong schema.
    """
    expected = expect if isinstance(expect, tuple) else (expect,) if expect else ()
    if data[:1] == b"{":
        return _from_json(data, expected)
    version, start = writer(data, registry)
    if expected and version.record not in expected:
        names = " or ".join(cls.__name__ for cls in expected)
        raise ContractError("unexpected_record", f"{version.name} where {names} belongs")
    reader = versions.latest(version.record)
    stream = io.BytesIO(data)
    stream.seek(start)
    wanted = None if version.fingerprint == reader.fingerprint else reader.parsed
    errors = "replace" if mend else "strict"
    try:
        value = schemaless_reader(stream, version.parsed, wanted, handle_unicode_errors=errors)
    except Exception as error:
        what = str(error) or type(error).__name__
        raise ContractError("undecodable", f"not a {version.name} v{version.number}: {what}") from error
    if stream.tell() != len(data):
        raise ContractError("trailing_bytes", f"{len(data) - stream.tell()} bytes follow the {version.name}")
    return from_dict(version.record, typing.cast("dict[str, Any]", value))


def _from_json(data: bytes, expected: tuple[type, ...]) -> Any:
    if not expected:
        raise ContractError("unexpected_record", "JSON does not say which record it is")
    from tidegate.intake import record_from_json

    record = record_from_json(expected[0], data)
    encode(record)  # JSON has numbers of any length
    return record


_Convert = Callable[[Any], Any]


def _element(hint: Any) -> Any:
    """Return the record class inside ``X``, ``X | None`` or ``list[X]``, if there is one."""
    for part in (hint, *typing.get_args(hint)):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part
    return None


def _is_list(hint: Any) -> bool:
    return typing.get_origin(hint) is list


@functools.cache
def _to_dict(cls: Any) -> _Convert:
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    nested: dict[str, tuple[_Convert, bool]] = {}
    for name in names:
        inner = _element(hints[name])
        if inner is not None:
            nested[name] = (_to_dict(inner), _is_list(hints[name]))

    def convert(record: Any) -> dict[str, Any]:
        values = {name: getattr(record, name) for name in names}
        for name, (inner, many) in nested.items():
            value = values[name]
            if value:
                values[name] = [inner(item) for item in value] if many else inner(value)
        return values

    return convert


@functools.cache
def _from_dict(cls: Any) -> _Convert:
    hints = typing.get_type_hints(cls)
    closed = CLOSED.get(cls.__name__, {})
    ints = versions.int_fields().get(cls.__name__, ())
    nested: dict[str, tuple[_Convert, bool]] = {}
    for f in dataclasses.fields(cls):
        inner = _element(hints[f.name])
        if inner is not None:
            nested[f.name] = (_from_dict(inner), _is_list(hints[f.name]))

    def convert(values: dict[str, Any]) -> Any:
        for name in ints:
            # fastavro reads an int of any length.
            if values[name] is not None and not -(2**31) <= values[name] < 2**31:
                raise ContractError("invalid_field", f"{name} is {values[name]}, which has over 32 bits")
        for name, (inner, many) in nested.items():
            value = values[name]
            if value:
                values[name] = [inner(item) for item in value] if many else inner(value)
        for name, allowed in closed.items():
            value = values[name]
            if value is not None and value not in allowed:
                values[name] = OTHER
        return cls(**values)

    return convert


def as_dict(record: Any) -> dict[str, Any]:
    """Return a record as plain dicts and lists, by field name."""
    cls: Any = type(record)
    values: dict[str, Any] = _to_dict(cls)(record)
    return values


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """Return a record from what fastavro read; values outside a closed list become ``other``."""
    return _from_dict(cls)(values)


def as_json(record: Any) -> str:
    """Return a record as one line of JSON: times in microseconds, money as a string, bytes as hex."""
    return json.dumps(as_dict(record), default=_json_default, ensure_ascii=False)


def _json_default(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
