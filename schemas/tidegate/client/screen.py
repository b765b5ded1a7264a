"""Says in a few microseconds that an event breaks no rule; whatever is doubtful is left to `rules`.

Runs on the app's thread. A loop over the hundred fields of a call would take fifty microseconds, so the
rules of each record class are compiled into one function without a loop, as `dataclasses` does it.
"""

import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tidegate.client.rules import (
    AT_MOST,
    EVENTS,
    IDS,
    INT32,
    MAX_FLOAT,
    MONEY_LIMIT_USD,
    SHARES,
    SIGNED,
    UUID,
    Field,
    fields_of,
    problems,
    problems_between,
    size_of_name,
)
from tidegate.limits import LATEST_US, LEAST_SHARE


def holds(record: Any) -> bool:
    """Say whether the record breaks no rule: the answer of ``not any(problems(record))``, sooner."""
    cls: Any = type(record)
    return _compiled(cls)(record) or not any(problems(record))


def prepare() -> None:
    """Compile the rules of every event now, so that the first one need not wait for it."""
    for cls in EVENTS:
        _compiled(cls)


@functools.cache
def _compiled(cls: Any) -> Callable[[Any], bool]:
    lines = ["def surely_holds(record):"]
    for field in fields_of(cls):
        absent = "v is None or " if type(None) in field.types else ""
        lines.append(f"    v = record.{field.name}")
        lines.append(f"    if not ({absent}{_condition(field)}): return False")
    lines.append("    return not any(problems_between(record))")
    names: dict[str, Any] = {
        "isinstance": isinstance,
        "any": any,
        "Decimal": Decimal,
        "is_uuid": UUID.fullmatch,
        "texts_hold": _texts_hold,
        "size_of_name": size_of_name,
        "records_hold": _records_hold,
        "record_holds": _record_holds,
        "problems_between": problems_between,
        "elements": {f.name: f.element for f in fields_of(cls)},
    }
    exec("\n".join(lines), names)  # noqa: S102 - nothing in the text comes from outside the record classes
    compiled: Callable[[Any], bool] = names["surely_holds"]
    return compiled


def _condition(field: Field) -> str:
    """Return the expression over ``v`` that is true only for a value that breaks no rule."""
    most = AT_MOST.get(field.name)
    if list in field.types:
        check = "texts_hold(v)" if field.element is str else f"records_hold(v, elements[{field.name!r}])"
        bound = f" and len(v) <= {most}" if most is not None else ""
        return f"v.__class__ is list and (not v or {check}){bound}"
    if field.element is not None:
        return f"record_holds(v, elements[{field.name!r}])"
    if field.known:
        return f"isinstance(v, str) and v in {field.known!r}"
    if str in field.types:
        special = " and v != ''" if field.required else ""
        if field.name in IDS:
            special += " and (v == '' or is_uuid(v))"
        longest = field.longest_bytes
        bound = "" if longest is None else f" and (len(v) <= {longest // 4} or size_of_name(v) <= {longest})"
        return f"isinstance(v, str){special}{bound}"
    if Decimal in field.types:
        return f"v.__class__ is Decimal and v.is_finite() and -{MONEY_LIMIT_USD} < v < {MONEY_LIMIT_USD}"
    if bool in field.types:
        return "v is True or v is False"
    if field.name in SHARES:
        return f"v.__class__ is float and {LEAST_SHARE!r} <= v <= 1"
    if float in field.types:
        most_value = MAX_FLOAT if field.most is None else field.most
        return f"v.__class__ is float and {-most_value!r} <= v <= {most_value!r}"
    lowest = -(2**63) if field.name == SIGNED else 1 if field.name == "attempt" else 0
    limit = 2**63 if field.name == SIGNED else 2**31 if field.name in INT32 else (field.most or LATEST_US) + 1
    return f"v.__class__ is int and {lowest} <= v < {limit}"


def _texts_hold(values: list[Any]) -> bool:
    return set(map(type, values)) == {str}


def _records_hold(values: list[Any], element: Any) -> bool:
    compiled = _compiled(element)
    return all(type(value) is element and compiled(value) for value in values)


def _record_holds(value: Any, element: Any) -> bool:
    return value.__class__ is element and _compiled(element)(value)
