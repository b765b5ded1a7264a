"""Avro datums one at a time, in plain Python: no bytes can crash it, and it reads what blocks read.

Whatever one way takes for a record the other must take for the same one, also where the bytes are such as no
writer makes: a range counts the same when it is done again the slow way. So a Boolean is true only as 1, any
branch of a union but the first is the second, and of text that is passed over only the length is looked at.

What passes over a field must not count what another refuses for that field. So text that is no UTF-8 is
refused only in fields that everybody reads; elsewhere the bytes that are wrong become U+FFFD.
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

from tidegate import versions
from tidegate.errors import ContractError
from tidegate.versions import Version

Reader = Callable[[bytes, int], tuple[Any, int]]
"""Bytes and a place in them -> a value and the place behind it."""

_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_LONGEST = 10
_LEAST = -(2**63)
_MOST_DECIMAL_BYTES = 16
_WIDE = Context(prec=60)
_readers: dict[tuple[bytes, tuple[str, ...], frozenset[str]], Reader] = {}


def read_datum(
    version: Version, start: int, value: bytes, columns: Sequence[str], exact: Collection[str]
) -> dict[str, Any]:
    """Decode one datum.

    Parameters
    ----------
    version
        The writer's schema.
    start
        Bytes of framing before it.
    value
        The framed datum.
    columns
        Fields to decode; the others are skipped.
    exact
        Those whose text must be UTF-8.

    Raises
    ------
    ContractError
        When the datum is malformed, or longer than its schema says.
    """
    key = version.fingerprint, tuple(columns), frozenset(exact)
    if key not in _readers:
        _readers[key] = make_reader(version, columns, exact)
    try:
        record, end = _readers[key](value, start)
    except (IndexError, ValueError, struct.error) as error:
        raise ContractError("undecodable", f"not a {version.name} v{version.number}: {error}") from error
    if end != len(value):
        raise ContractError("trailing_bytes", f"{len(value) - end} bytes follow the {version.name}")
    return {column: record[column] for column in columns}


def make_reader(version: Version, columns: Sequence[str], exact: Collection[str]) -> Reader:
    """Return what reads a datum without its framing, with parameters as of `read_datum`.

    Raises
    ------
    TypeError
        The schema has a type that the contract has not.
    """
    schema = versions.plain_times(versions.container_schema(version))
    texts = {column: _text if column in exact else _mended_text for column in columns}
    return _record(schema["fields"], texts)


def _record(fields: Sequence[dict[str, Any]], texts: Mapping[str, Reader | None]) -> Reader:
    readers = [(field["name"], _reader(field["type"], texts.get(field["name"]))) for field in fields]

    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        record = {}
        for name, inner in readers:
            record[name], at = inner(data, at)
        return record, at

    return read


def _reader(schema: Any, text: Reader | None) -> Reader:
    """Return what reads a field, and text in it by `text`; or passes over it when there is none."""
    match schema:
        case ["null", inner]:
            return _nullable(_reader(inner, text))
        # An empty record has no bytes: of such a list could hold as many as would take for ever to count.
        case {"type": "record", "fields": [_, *_] as fields}:
            return _record(fields, {field["name"]: text for field in fields})
        case {"type": "array", "items": items}:
            return _array(_reader(items, text), text is not None)
        case {"type": "bytes", "logicalType": "decimal", "scale": scale} if text is not None:
            return _decimal(scale)
        case {"type": inner}:
            return _reader(inner, text)
        case "string" if text is not None:
            return text
        case "string" | "bytes":
            return _bytes
        case "long" | "int":
            return _long
        case "boolean":
            return _boolean
        case "double":
            return _double
        case "float":
            return _float
    raise TypeError(f"the contract has no {schema!r}")


def _long(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            value &= 0xFFFF_FFFF_FFFF_FFFF
            return (value >> 1) ^ -(value & 1), at + place + 1
    raise ValueError(f"a number has over {_LONGEST} bytes")


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(data, at)
    if not 0 <= size <= len(data) - at:
        raise ValueError(f"{size} bytes are said to follow, there are {len(data) - at}")
    return data[at : at + size], at + size


def _text(data: bytes, at: int) -> tuple[str, int]:
    value, at = _bytes(data, at)
    return value.decode(), at


def _mended_text(data: bytes, at: int) -> tuple[str, int]:
    value, at = _bytes(data, at)
    return value.decode(errors="replace"), at


def _boolean(data: bytes, at: int) -> tuple[bool, int]:
    return data[at] == 1, at + 1


def _double(data: bytes, at: int) -> tuple[float, int]:
    return _DOUBLE.unpack_from(data, at)[0], at + _DOUBLE.size


def _float(data: bytes, at: int) -> tuple[float, int]:
    return _FLOAT.unpack_from(data, at)[0], at + _FLOAT.size


def _decimal(scale: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[Decimal, int]:
        value, at = _bytes(data, at)
        if len(value) > _MOST_DECIMAL_BYTES:
            raise ValueError(f"a decimal has {len(value)} bytes")
        return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-scale, _WIDE), at

    return read


def _nullable(inner: Reader) -> Reader:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        branch, at = _long(data, at)
        return inner(data, at) if branch else (None, at)

    return read


def _array(item: Reader, kept: bool) -> Reader:
    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while True:
            count, at = _long(data, at)
            if count < 0 and not kept:
                # Its size is said in order that it can be passed over.
                _, at = _bytes(data, at)
                continue
            if count == 0:
                return items, at
            if count < 0:
                _, at = _long(data, at)
                # Its opposite is no number of 64 bits: blocks read no item.
                count = 0 if count == _LEAST else -count
            for _ in range(count):
                value, at = item(data, at)
                items.append(value)

    return read
