"""Whether a reader's schema can read what a writer's schema wrote: Avro 1.12, "Schema Resolution".

Covers what the contract uses: records, arrays, fixed, primitives, and unions with null.
"""

from collections.abc import Iterator
from typing import Any

# Not bytes to string, which Avro lets through: bytes need not be text.
_WIDER = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
}
_NOT_ON_THE_FAST_PATH = ("map", "enum")


def unreadable(writer: Any, reader: Any) -> list[str]:
    """Return why `reader` cannot read what `writer` wrote, a line for each field; empty when it can.

    Parameters
    ----------
    writer, reader
        Schemas as written in ``.avsc`` files.

    Examples
    --------
    >>> old = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
    >>> new = {"type": "record", "name": "R", "fields": [{"name": "b", "type": "int"}]}
    >>> unreadable(old, new)
    ['R.b: is not written and has no default']
    """
    return list(_unreadable(writer, reader, {}, {}, ""))


def unsupported(schema: Any) -> list[str]:
    """Return what a schema uses that the batch decoder cannot read, a line for each field."""
    return list(_unsupported(schema, ""))


def _unreadable(
    writer: Any, reader: Any, written: dict[str, Any], read: dict[str, Any], at: str
) -> Iterator[str]:
    writer, reader = _resolved(writer, written), _resolved(reader, read)
    if isinstance(writer, list) or isinstance(reader, list):
        yield from _union(writer, reader, written, read, at)
        return
    have, want = _kind(writer), _kind(reader)
    if have == want == "record":
        yield from _record(writer, reader, written, read, at)
    elif have == want == "array":
        yield from _unreadable(writer["items"], reader["items"], written, read, f"{at}[]")
    elif have == want == "fixed" and writer["size"] != reader["size"]:
        yield f"{at}: is {writer['size']} bytes long and read as {reader['size']}"
    elif have != want and want not in _WIDER.get(have, ()):
        yield f"{at}: is {have} and read as {want}"
    elif (_logical(writer) or _logical(reader)) and _logical(writer) != _logical(reader):
        yield f"{at}: is {_logical(writer) or have} and read as {_logical(reader) or want}"


def _union(writer: Any, reader: Any, written: dict[str, Any], read: dict[str, Any], at: str) -> Iterator[str]:
    branches = reader if isinstance(reader, list) else [reader]
    for branch in writer if isinstance(writer, list) else [writer]:
        attempts = [list(_unreadable(branch, choice, dict(written), dict(read), at)) for choice in branches]
        if all(attempts):
            yield (
                f"{at}: may be null and is read as {_kind(branches[0])}"
                if branch == "null"
                else min(attempts, key=len)[0]
            )


def _record(
    writer: Any, reader: Any, written: dict[str, Any], read: dict[str, Any], at: str
) -> Iterator[str]:
    at = at or reader["name"]
    names = {reader["name"], *reader.get("aliases", [])}
    if writer["name"] not in names:
        yield f"{at}: is a {writer['name']} and read as {reader['name']}"
        return
    fields = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        source = next((fields[n] for n in (field["name"], *field.get("aliases", [])) if n in fields), None)
        if source is not None:
            yield from _unreadable(source["type"], field["type"], written, read, f"{at}.{field['name']}")
        elif "default" not in field:
            yield f"{at}.{field['name']}: is not written and has no default"


def _unsupported(schema: Any, at: str) -> Iterator[str]:
    if isinstance(schema, list):
        if len(schema) != 2 or schema[0] != "null":
            yield f"{at}: a union is of null and one other type, in this order"
        for branch in schema:
            yield from _unsupported(branch, at)
        return
    kind = _kind(schema)
    if kind in _NOT_ON_THE_FAST_PATH:
        yield f"{at}: a {kind} cannot be decoded in batches"
    elif kind == "record" and isinstance(schema, dict):
        for field in schema["fields"]:
            yield from _unsupported(field["type"], f"{at or schema['name']}.{field['name']}")
    elif kind == "array":
        yield from _unsupported(schema["items"], f"{at}[]")


def _resolved(schema: Any, named: dict[str, Any]) -> Any:
    if isinstance(schema, str):
        return named.get(schema, schema)
    if isinstance(schema, dict) and schema["type"] in ("record", "fixed"):
        named[schema["name"]] = schema
    return schema


def _kind(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _logical(schema: Any) -> str:
    if not isinstance(schema, dict) or "logicalType" not in schema:
        return ""
    parameters = [str(schema[name]) for name in ("precision", "scale") if name in schema]
    return f"{schema['logicalType']}({','.join(parameters)})" if parameters else str(schema["logicalType"])
