"""Events from text: JSON lines as people and scripts write them, checked by the rules of `emit`."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import IO, Any, cast
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from tidegate.client.completion import Defaults, complete
from tidegate.client.encoding import MAX_EVENT_BYTES, size_without_bodies
from tidegate.client.rules import TIMES, Event, Problem, fields_of, problems
from tidegate.errors import ContractError
from tidegate.records import Evaluation, Feedback, LLMCall

KINDS: dict[str, type] = {"call": LLMCall, "feedback": Feedback, "evaluation": Evaluation}
"""What ``type`` may say in a line; a line without it is a call."""

MAX_LINE_BYTES = 10_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PLACE = re.compile(r"(.*) at line (\d+) column (\d+)", re.DOTALL)
_FILLERS: dict[type, Any] = {str: "?", int: 0, float: 0.0, bool: False, Decimal: 0, list: [], bytes: ""}
_SHOWN_CHARS = 40
_SPOOL_BYTES = 16_000_000
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a file holds: an event, or why there is none.

    Parameters
    ----------
    number
        From 1.
    event
        The event, complete but for its place among a producer's events; None when something is wrong.
    problems
        Everything that is wrong with the line.
    """

    number: int
    event: Event | None
    problems: tuple[Problem, ...] = ()


def read(file: IO[bytes], defaults: Defaults, source: str = "cli") -> Iterator[Line]:
    """Yield what each line of a file holds; empty lines are passed over.

    An event without an id gets one that follows from the file's digest and the line's number, so that
    reading the same file twice gives the same ids, and the events count once.

    Parameters
    ----------
    file
        JSON lines in UTF-8. What cannot be read twice, such as a pipe, is kept on disk meanwhile.
    defaults
        Tenant, app and environment of events that name none.
    source
        ``source`` of events that name none.
    """
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        text: IO[bytes] = file if file.seekable() else cast("IO[bytes]", spool)
        start = file.tell() if file.seekable() else 0
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if text is not file:
                text.write(chunk)
        text.seek(start)
        for number, data in _lines(text):
            if data is None:
                found = Problem("line", "too_large", f"longer than {MAX_LINE_BYTES} bytes")
                yield Line(number, None, (found,))
            elif data.strip():
                yield _line(number, data, defaults, source, digest.digest())


def _lines(text: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield numbered lines; None for one that is too long, which is never held in memory."""
    number = 0
    while data := text.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(data) <= MAX_LINE_BYTES or data.endswith(b"\n"):
            yield number, data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data
            continue
        while data and not data.endswith(b"\n"):
            data = text.readline(_CHUNK_BYTES)
        yield number, None


def _line(number: int, data: bytes, defaults: Defaults, source: str, digest: bytes) -> Line:
    try:
        values = _object(data)
        kind = values.pop("type", "call")
        if not isinstance(kind, str) or kind not in KINDS:
            raise _Refused(Problem("type", "wrong_type", f"{_shown(kind)} is none of {', '.join(KINDS)}"))
    except _Refused as refused:
        return Line(number, None, (refused.problem,))
    values.setdefault("source", source)
    event, found = _mended(KINDS[kind], values)
    time_us = event.ts_end if isinstance(event, LLMCall) else event.ts
    if not event.event_id:
        event.event_id = derived_id(time_us, digest, number)
    complete(event, defaults, 0)
    places = {problem.field for problem in found}
    if isinstance(event, LLMCall) and not (event.app or event.deployment):
        # It would have been the app's name: one mistake, not two.
        places.add("deployment")
    found += [p for p in problems(event) if not places & {p.field, p.field.rpartition(".")[0]}]
    when = "ts_end" if kind == "call" else "ts"
    if time_us == 0 and when not in places:
        found.append(Problem(when, "missing", "is missing"))
    if not found and len(data) > MAX_EVENT_BYTES // 2:
        # Avro takes less than JSON, but for the names that the client fills in.
        found += _too_large(event)
    return Line(number, None if found else event, tuple(found))


def _too_large(event: Event) -> Iterator[Problem]:
    size = size_without_bodies(event)
    if size > MAX_EVENT_BYTES:
        words = f"{size} bytes without its bodies, at most {MAX_EVENT_BYTES} go to Kafka"
        yield Problem("line", "too_large", words)


def derived_id(time_us: int, digest: bytes, number: int) -> str:
    """Return the UUIDv7 (RFC 9562) of a line: its time, and bits that follow from file and line."""
    bits = hashlib.sha256(digest + number.to_bytes(8, "big")).digest()
    milliseconds = min(max(time_us, 0) // 1_000, 2**48 - 1)
    raw = bytearray(milliseconds.to_bytes(6, "big") + bits[:10])
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(raw)))


def record_from_json(cls: type, data: bytes) -> Any:
    """Return the record that a JSON object holds, for values that stand as JSON in Kafka.

    Raises
    ------
    ContractError
        With reason ``bad_json`` or ``invalid_field``, and everything that was found.
    """
    try:
        values = _object(data)
    except _Refused as refused:
        raise ContractError("bad_json", str(refused.problem)) from None
    record, found = _mended(cls, values)
    if found:
        raise ContractError("invalid_field", "; ".join(map(str, found)))
    return record


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def _object(data: bytes) -> dict[str, Any]:
    try:
        values = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _Refused(Problem("line", "bad_json", _located(data, str(error)))) from None
    if not isinstance(values, dict):
        raise _Refused(Problem("line", "bad_json", f"{_shown(values)} is no JSON object"))
    return values


def _located(data: bytes, message: str) -> str:
    """Say where the text ends to be JSON: the parser counts bytes, people count characters."""
    match = _PLACE.fullmatch(message)
    if match is None:
        return message
    what, row, column = match.groups()
    before = data.split(b"\n")[int(row) - 1][: int(column)]
    place = f"character {len(before.decode(errors='replace'))}"
    return f"no JSON at {place if row == '1' else f'line {row}, {place}'}: {what}"


def _mended(cls: type, values: dict[str, Any]) -> tuple[Any, list[Problem]]:
    """Return a record and all that hinders it from being one.

    Read strictly: no text is taken for a number, no unknown name is passed over. What does not fit is told
    and replaced by something that does, so that it hides no other fault.
    """
    found = list(_fit(cls, values, ""))
    try:
        return _strict(cls, values), found
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        _replace(cls, values, detail["loc"])
    return _strict(cls, values), found + [_problem(detail) for detail in details]


def _strict(cls: type, values: dict[str, Any]) -> Any:
    return _adapter(cls).validate_json(to_json(values), strict=True)


def _replace(cls: Any, values: Any, place: Sequence[int | str]) -> None:
    """Put something that fits at a place inside a record's values."""
    name, *inside = place
    field = next(field for field in fields_of(cls) if field.name == name)
    match inside:
        case []:
            values[name] = _some_time(values) if name in TIMES else _filler(field.types[0])
        case [int() as at]:
            values[name][at] = _filler(field.element)
        case [int() as at, *rest]:
            _replace(field.element, values[name][at], rest)
        case _:
            _replace(field.element, values[name], inside)


def _filler(kind: Any) -> Any:
    if is_dataclass(kind):
        record = cast("type", kind)
        return {field.name: _filler(field.types[0]) for field in fields_of(record) if field.required}
    return copy(_FILLERS[kind])


def _some_time(values: Mapping[str, Any]) -> int:
    # Another time of the same event, so that no span is told that nobody wrote.
    return next((time for name in TIMES if type(time := values.get(name)) is int), 0)


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _fit(cls: type, values: dict[str, Any], prefix: str) -> Iterator[Problem]:
    """Turn times into microseconds, in place; yield names that the record does not have."""
    fields = {field.name: field for field in fields_of(cls)}
    unreadable = []
    for name, value in list(values.items()):
        place = prefix + name[:_SHOWN_CHARS]
        field = fields.get(name)
        if field is None:
            yield Problem(place, "unknown_field", "no such field", name, fields)
        elif name in TIMES and isinstance(value, str):
            time_us = microseconds(value)
            if time_us is None:
                wanted = "a time such as 2026-03-01T12:00:00.25Z"
                yield Problem(place, "wrong_type", f"{_shown(value)} where microseconds or {wanted} belongs")
                unreadable.append(name)
            else:
                values[name] = time_us
        elif is_dataclass(field.element):
            items = enumerate(value) if isinstance(value, list) else [("", value)]
            for i, item in items:
                if isinstance(item, dict):
                    yield from _fit(
                        cast("type", field.element), item, f"{place}[{i}]." if i != "" else f"{place}."
                    )
    for name in unreadable:
        values[name] = _some_time(values)


def microseconds(text: str) -> int | None:
    """Return an RFC 3339 time in microseconds since the epoch; None when it is none.

    Examples
    --------
    >>> microseconds("1970-01-01T01:00:00.25+01:00")
    250000
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    date, time, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{zone.upper()}")
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) + int((fraction or ".")[1:7].ljust(6, "0"))


def _problem(detail: ErrorDetails) -> Problem:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])[1:]
    if detail["type"] == "missing" or detail["input"] is None:
        return Problem(place, "missing", "is missing")
    what = detail["msg"].removeprefix("Input should be ")
    return Problem(place, "wrong_type", f"{_shown(detail['input'])} where {what} belongs")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
