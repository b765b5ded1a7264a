"""What an event must fulfil to be counted: the one list of rules, for `emit` and for files."""

import dataclasses
import difflib
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from tidegate import limits
from tidegate.records import Evaluation, Feedback, LLMCall, Series, UsageOther
from tidegate.vocabulary import CLOSED, OTHER

Event = LLMCall | Feedback | Evaluation
EVENTS: tuple[type, ...] = (LLMCall, Feedback, Evaluation)

REASONS = (
    "missing",
    "wrong_type",
    "negative",
    "out_of_range",
    "too_many",
    "too_long",
    "target",
    "handle",
    "unknown_field",
)
"""Why an event is refused; a closed list, since the ledger counts by it."""

FILLED_IN = frozenset({"event_id", "ts", "tenant", "app", "environment", "deployment", "variant"})
"""Fields that the client fills in: optional in the record class, required on the wire."""

SIGNED = "assignment_hash"
"""The only whole number that may be negative: all others are durations, counts, sizes and times."""

TIMES = frozenset({"ts", "ts_start", "ts_end", "call_ts_end"})
INT32 = frozenset({"http_status", "attempt", "masked_count", "trial", "query_words"})
SHARES = frozenset({"sample_rate"})
AT_MOST = {"budget_keys": 8, "attributes": 32}
MONEY_LIMIT_USD = 10**9

TARGETS: dict[type, tuple[str, ...]] = {
    Feedback: ("target_event_id", "target_session_id"),
    Evaluation: ("target_event_id", "target_session_id", "dataset_item_id"),
}
"""Exactly one of these says what the event is about."""

IDS = {
    "event_id": "UUID in lower case; leave it out",
    "target_event_id": "call's event_id, a UUID in lower case",
}
"""Field -> what it must be."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_FLOAT = sys.float_info.max
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an event.

    Parameters
    ----------
    field
        Such as ``ttft_us`` or ``guardrails[0].duration_us``.
    reason
        One of `REASONS`.
    what
        What was found and what belongs there, in words.
    written, known
        A word that is none of those known; one of them may have been meant. Which one is looked for only
        where the problem is shown: most are merely counted.
    """

    field: str
    reason: str
    what: str
    written: str = ""
    known: Iterable[str] = ()

    def __str__(self) -> str:
        """Name the field, what is wrong with it, and what may have been meant."""
        near = difflib.get_close_matches(self.written[:_SHOWN_CHARS], self.known, 1)
        return f"{self.field}: {self.what}" + (f"; did you mean {near[0]}?" if near else "")


@dataclass(frozen=True, slots=True)
class Field:
    """What the record class says of one field.

    Parameters
    ----------
    name
        Its name, which carries its unit.
    types
        Types that a value may have.
    element
        Class of a nested record or of a list's entries, if it is one.
    required
        It must be there and, if it is text, not be empty.
    longest_bytes
        Of text that becomes part of a series.
    most
        Largest number, where the stream takes none above it.
    known
        Of a closed list, what it may say; empty where it may say anything.
    """

    name: str
    types: tuple[type, ...]
    element: type | None
    required: bool
    longest_bytes: int | None
    most: int | None
    known: tuple[str, ...]


@functools.cache
def fields_of(cls: Any) -> tuple[Field, ...]:
    """Return the fields of a record class."""
    hints = get_type_hints(cls)
    return tuple(_field(cls.__name__, f, hints[f.name]) for f in dataclasses.fields(cls))


def _field(record: str, f: "dataclasses.Field[Any]", hint: Any) -> Field:
    parts = get_args(hint) if get_origin(hint) is not list else (hint,)
    types: list[type] = [get_origin(part) or part for part in parts or (hint,)]
    if float in types:
        types.append(int)
    element = get_args(hint)[0] if get_origin(hint) is list else None
    nested = next((t for t in types if dataclasses.is_dataclass(t)), None)
    no_default = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    return Field(
        f.name,
        tuple(types),
        element or nested,
        no_default or f.name in FILLED_IN,
        limits.LONGEST_NAME_BYTES if f.name in limits.NAMES.get(record, ()) else None,
        _most(record, f.name),
        _known(record, f.name),
    )


def _known(record: str, name: str) -> tuple[str, ...]:
    # A series may come in a handle of a newer release, whose words are no mistakes.
    words = () if record == Series.__name__ else CLOSED.get(record, {}).get(name, ())
    return (*words, OTHER) if words else ()


def _most(record: str, name: str) -> int | None:
    if name in TIMES:
        return limits.LATEST_US
    if name in limits.DURATIONS.get(record, ()):
        return limits.LONGEST_US
    bounded = limits.COUNTS.get(record, ()) + limits.VALUES.get(record, ())
    return limits.MOST if name in bounded else None


def size_of_name(text: str) -> int:
    """Return the bytes of a name in UTF-8, also of text that is no Unicode."""
    return len(text.encode(errors="surrogatepass"))


def problems(record: Any) -> Iterator[Problem]:
    """Yield everything that is wrong with an event, or with a record inside one."""
    cls: Any = type(record)
    for field in fields_of(cls):
        value = getattr(record, field.name)
        problem = _type_problem(field, value) or _value_problem(field, value)
        if problem is not None:
            yield problem
        elif field.element is not None and value:
            yield from _nested_problems(field, value)
    yield from problems_between(record)


def problems_between(record: Any) -> Iterator[Problem]:
    """Yield what is wrong with several fields together."""
    check = _BETWEEN.get(type(record))
    return check(record) if check is not None else iter(())


def _type_problem(field: Field, value: Any) -> Problem | None:
    if isinstance(value, field.types) and not (isinstance(value, bool) and bool not in field.types):
        return None
    if value is None:
        return Problem(field.name, "missing", "is missing")
    wanted = " or ".join(t.__name__ for t in field.types if t is not NoneType)
    return Problem(field.name, "wrong_type", f"{type(value).__name__} where {wanted} belongs")


def _value_problem(field: Field, value: Any) -> Problem | None:
    name = field.name
    match value:
        case "" if field.required:
            return Problem(name, "missing", "is missing")
        case str() if field.known and value not in field.known:
            wanted = ", ".join(word for word in field.known if word != OTHER)
            words = f"{value[:_SHOWN_CHARS]!r} is none of {wanted}"
            return Problem(name, "wrong_type", words, value, field.known)
        case str() if name in IDS and value and not UUID.fullmatch(value):
            return Problem(name, "wrong_type", f"{value[:50]!r} is no {IDS[name]}")
        case str() if field.longest_bytes is not None and size_of_name(value) > field.longest_bytes:
            size, most = size_of_name(value), field.longest_bytes
            return Problem(name, "too_long", f"{value[:20]}… is {size} bytes long, at most {most}")
        case list() if len(value) > AT_MOST.get(name, len(value)):
            return Problem(name, "too_many", f"{len(value)} entries, at most {AT_MOST[name]}")
        case Decimal() if not (value.is_finite() and abs(value) < MONEY_LIMIT_USD):
            return Problem(name, "out_of_range", f"{value} is no amount below {MONEY_LIMIT_USD} USD")
        case bool():
            return None
        case int() | float() if float in field.types:
            return _float_problem(field, value)
        case int():
            return _int_problem(field, value)
    return None


def _float_problem(field: Field, value: float) -> Problem | None:
    name = field.name
    if not -MAX_FLOAT <= value <= MAX_FLOAT:
        return Problem(name, "out_of_range", f"{value} is no finite number")
    if name in SHARES and not limits.LEAST_SHARE <= value <= 1:
        return Problem(name, "out_of_range", f"{value} is no share from {limits.LEAST_SHARE} to 1")
    if field.most is not None and abs(value) > field.most:
        return Problem(name, "out_of_range", f"{value} is farther from zero than {field.most}")
    return None


def _int_problem(field: Field, value: int) -> Problem | None:
    name = field.name
    if value < 0 and name != SIGNED:
        return Problem(name, "negative", f"{value} is negative")
    if name == "attempt" and value == 0:
        return Problem(name, "out_of_range", "attempts count from 1")
    if field.most is not None and value > field.most:
        words = "no time in microseconds; is it in nanoseconds?" if name in TIMES else f"above {field.most}"
        return Problem(name, "out_of_range", f"{value} is {words}")
    bits = 31 if name in INT32 else 63
    if not -(2**bits) <= value < 2**bits:
        return Problem(name, "out_of_range", f"does not fit {bits + 1} bits")
    return None


def _nested_problems(field: Field, value: Any) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield from _under(f"{field.name}.", problems(value))
        return
    for i, item in enumerate(value):
        place = f"{field.name}[{i}]"
        if type(item) is not field.element and not (field.element is str and isinstance(item, str)):
            wanted = getattr(field.element, "__name__", "")
            yield Problem(place, "wrong_type", f"{type(item).__name__} where {wanted} belongs")
        elif field.element is not str:
            yield from _under(f"{place}.", problems(item))


def _under(prefix: str, found: Iterator[Problem]) -> Iterator[Problem]:
    return (dataclasses.replace(problem, field=prefix + problem.field) for problem in found)


def _span(call: LLMCall) -> Iterator[Problem]:
    times = (call.ts_start, call.ts_end)
    if not all(type(t) is int and 0 <= t <= limits.LATEST_US for t in times):
        return
    duration_us = call.ts_end - call.ts_start
    if duration_us < 0:
        yield Problem("ts_end", "negative", f"lies {-duration_us} µs before ts_start")
    if duration_us > limits.LONGEST_US:
        what = f"lies {duration_us} µs after ts_start, at most {limits.LONGEST_US}"
        yield Problem("ts_end", "out_of_range", what)


def _target(event: Feedback | Evaluation) -> Iterator[Problem]:
    names = TARGETS[type(event)]
    given = [name for name in names if getattr(event, name)]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        wanted = f"exactly one of {', '.join(names)} says what the event is about; found {found}"
        yield Problem(given[-1] if given else names[0], "target", wanted)


def _feedback(event: Feedback) -> Iterator[Problem]:
    yield from _target(event)
    if event.kind == "thumbs" and event.value is not None and event.value not in limits.THUMBS:
        yield Problem("value", "out_of_range", f"{event.value} is no thumb: 1 is up, 0 is down")


def _quantity(usage: UsageOther) -> Iterator[Problem]:
    if isinstance(usage.quantity, (int, float)) and usage.quantity < 0:
        yield Problem("quantity", "negative", f"{usage.quantity} is negative")


_BETWEEN: dict[type, Callable[[Any], Iterator[Problem]]] = {
    LLMCall: _span,
    Feedback: _feedback,
    Evaluation: _target,
    UsageOther: _quantity,
}
