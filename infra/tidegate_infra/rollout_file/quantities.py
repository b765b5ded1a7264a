"""What people write -> numbers. Each function raises ValueError: what is wrong, the value, what to do."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidegate.limits import LONGEST_NAME_BYTES, ROUTED, ROUTED_RULE
from tidegate.metrics import Metric

_UNITS_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|min|s|m|h|d)\s*")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(rf"(?:({'|'.join(_WEEKDAYS)}) +)?([01]?[0-9]|2[0-3]):([0-5][0-9])")
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_MARGIN = re.compile(rf"(\$?)\s*({_NUMBER})\s*([A-Za-z%]*)\s*")

MAX_US = 366 * _UNITS_US["d"]


class Margin(NamedTuple):
    """A margin as the contract writes it.

    Parameters
    ----------
    kind
        ``odds``, ``relative`` or ``absolute``.
    value
        Odds ratio, share, or difference in the metric's unit.
    """

    kind: str
    value: float


def name(text: str) -> str:
    """Name that fits into a topic's key and a URL."""
    if not ROUTED.fullmatch(text):
        raise ValueError(f"{text!r} is no name: {ROUTED_RULE}")
    return text


def text(value: str) -> str:
    """Text that is not empty, and no longer than the names of events may be."""
    if not value.strip():
        raise ValueError(f"{value[:40]!r} is empty: write a value or remove the key")
    if (size := len(value.encode())) > LONGEST_NAME_BYTES:
        raise ValueError(
            f"{value[:40]!r}… has {size} bytes: events have names of up to {LONGEST_NAME_BYTES}, shorten it"
        )
    return value


def flag(value: str) -> bool:
    """``true`` or ``false``."""
    if value not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false: write one of them")
    return value == "true"


def count(value: str) -> int:
    """Whole number, such as ``500``."""
    if not re.fullmatch(r"[0-9]{1,12}", value):
        raise ValueError(f"{value[:40]!r} is no count: write a whole number from 0, such as 500")
    return int(value)


def some(value: str) -> int:
    """Whole number of at least 1: with none, a step would end at its first look."""
    number = count(value)
    if number < 1:
        raise ValueError(
            f"{value!r} would end the step before a call was seen: write at least 1, such as 100"
        )
    return number


def factor(value: str) -> float:
    """Positive number, such as ``2`` or ``0.5``."""
    number = _number(value)
    if number is None or not 0 < number <= 1e6:
        raise ValueError(f"{value!r} is no weight: write a positive number, such as 2")
    return number


def design_effect(value: str) -> float:
    """Number of at least 1, such as ``1.8``."""
    number = _number(value)
    if number is None or not 1 <= number <= 1e6:
        raise ValueError(f"{value!r} is no design effect: write a number from 1, which says none")
    return number


def duration(value: str) -> int:
    """Duration in microseconds: ``30s``, ``10m``, ``1h30m``, ``2d``."""
    at, total = 0, 0.0
    stripped = value.strip()
    while at < len(stripped):
        part = _DURATION.match(stripped, at)
        if part is None:
            break
        total += float(part[1]) * _UNITS_US[part[2]]
        at = part.end()
    if not stripped or at < len(stripped) or total > MAX_US:
        raise ValueError(f"{value!r} is no duration: write it as 30s, 10m, 1h30m or 2d, at most 366d")
    return round(total)


def time_limit(value: str) -> int:
    """Duration of more than nothing, in microseconds."""
    us = duration(value)
    if us == 0:
        raise ValueError(f"{value!r} leaves no time: write a limit such as 24h")
    return us


def moment(value: str) -> int:
    """Point in time in microseconds of the epoch: ``2026-12-24T18:00Z``, ``2026-12-24 18:00 Europe/Berlin``.

    The time zone is part of it: the machines that read a rollout file stand anywhere.
    """
    written, _, named = value.strip().partition(" ")
    if named[:1].isdigit():
        hour, _, named = named.partition(" ")
        written = f"{written}T{hour}"
    try:
        time = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(f"{value[:60]!r} is no time: write it as 2026-12-24T18:00+01:00") from None
    named = named.strip()
    if time.tzinfo is not None and not named:
        return epoch_us(time)
    if time.tzinfo is not None or not named:
        raise ValueError(
            f"{value!r} must say its time zone, once: write 2026-12-24T18:00+01:00, 2026-12-24T17:00Z or "
            f"2026-12-24 18:00 Europe/Berlin"
        )
    place = _place(named, "Europe/Berlin, or +01:00")
    readings = {epoch_us(time.replace(tzinfo=place, fold=fold)) for fold in (0, 1)}
    if len(readings) > 1:
        raise ValueError(
            f"{value!r} falls into a change of the clocks, where it is no time or two: write an offset such "
            f"as +01:00 instead of the zone"
        )
    return readings.pop()


def zone(value: str) -> ZoneInfo:
    """Time zone, such as ``Europe/Berlin`` or ``UTC``."""
    return _place(value.strip(), "Europe/Berlin or UTC")


def _place(name: str, examples: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name[:40]!r} is no known time zone: write one such as {examples}") from None


class Clock(NamedTuple):
    """A time of the day, or of the week.

    Parameters
    ----------
    minutes
        Since midnight, or since the midnight before Monday.
    """

    minutes: int

    @property
    def weekday(self) -> int:
        """Monday is 0."""
        return self.minutes // (24 * 60)

    @property
    def of_day(self) -> int:
        """Minutes since midnight."""
        return self.minutes % (24 * 60)


def clock(*, of_week: bool) -> Callable[[str], Clock]:
    """Make a parser of local times that come again: ``22:00``, or of a week ``fri 16:00``."""
    example = "fri 16:00" if of_week else "22:00"

    def parse(value: str) -> Clock:
        parts = _CLOCK.fullmatch(value.strip().lower())
        if parts is None or (parts[1] is not None) != of_week:
            raise ValueError(
                f"{value[:40]!r} is no time of a {'week' if of_week else 'day'}: write it as {example}"
            )
        day = _WEEKDAYS.index(parts[1]) if parts[1] else 0
        return Clock((day * 24 + int(parts[2])) * 60 + int(parts[3]))

    return parse


def epoch_us(time: datetime) -> int:
    """Return a point in time with its time zone in microseconds of the epoch."""
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def share(value: str) -> int:
    """Share of the candidate in basis points: ``10%``. Above 0 and below 100 %: promotion does the rest."""
    percent = _number(value.strip().removesuffix("%"))
    if percent is None or not value.strip().endswith("%"):
        raise ValueError(f"{value!r} is no share: write it in percent, such as 10%")
    if not 0 < percent < 100 or abs(percent * 100 - round(percent * 100)) > 1e-9:
        raise ValueError(
            f"{value} is out of bounds: a share is above 0% and below 100%, in steps of 0.01% "
            f"(promotion goes to 100% by itself)"
        )
    return round(percent * 100)


def alpha(value: str) -> float:
    """Probability of an error: ``1%`` or ``0.01``, between 0 and 0.5."""
    stripped = value.strip()
    number = _number(stripped.removesuffix("%"))
    if number is not None and stripped.endswith("%"):
        number /= 100
    if number is None or not 0 < number < 0.5:
        raise ValueError(f"{value!r} is no error probability: write one above 0 and below 0.5, such as 0.01")
    return number


def level(value: str) -> float:
    """Quantile: ``p95`` or ``0.95``."""
    number = _number(value[1:]) if value[:1] == "p" else _number(value)
    if number is not None and value[:1] == "p":
        number /= 100
    if number is None or not 0 < number < 1:
        raise ValueError(f"{value!r} is no quantile: write it as p95, above p0 and below p100")
    return round(number, 9)


def one_of(*allowed: str) -> Callable[[str], str]:
    """Make a parser of a closed list."""
    what_to_do = f"use one of {', '.join(allowed)}" if len(allowed) > 1 else f"write {allowed[0]}"

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r} is not known here: {what_to_do}")
        return value

    return parse


def margin(metric: Metric) -> Callable[[str], Margin]:
    """Make a parser of margins of one metric: ``1.10 odds``, ``+5%``, ``2 points``, ``200ms``, ``$0.002``.

    Parameters
    ----------
    metric
        Its kind and unit say which of them make sense.
    """

    def parse(value: str) -> Margin:
        parts = _MARGIN.fullmatch(value.strip())
        if parts is None:
            raise ValueError(f"{value!r} is no margin: {_examples(metric)}")
        dollars, digits, unit = parts.groups()
        number = float(digits)
        found = _in_units(metric, number, "usd" if dollars else unit.lower())
        if found is None:
            raise ValueError(f"{value!r} has no unit that {metric.name} is measured in: {_examples(metric)}")
        if found.kind == "odds" and found.value < 1:
            raise ValueError(
                f"{value!r} would ask for improvement: odds margins are at least 1, such as 1.10 odds"
            )
        if found.value < 0:
            raise ValueError(
                f"{value!r} has the wrong sign: a margin is how much worse is tolerated, from 0 up, "
                f"whichever direction is worse"
            )
        if found.value > 1e9 or (metric.kind == "rate" and found.kind == "absolute" and found.value >= 1):
            raise ValueError(f"{value!r} tolerates everything: {_examples(metric)}")
        return found

    return parse


def _in_units(metric: Metric, number: float, unit: str) -> Margin | None:
    if unit == "odds":
        return Margin("odds", number)
    if unit == "%":
        return Margin("relative", round(number / 100, 12))
    if metric.kind == "rate":
        return Margin("absolute", round(number / 100, 12)) if unit in ("point", "points") else None
    if metric.unit == "us" and unit in _UNITS_US:
        return Margin("absolute", number * _UNITS_US[unit])
    if (metric.unit, unit) in (("USD", "usd"), ("1", "tokens")):
        return Margin("absolute", number)
    return None


def written(metric: Metric, margin: Margin) -> str:
    """Write a margin as a rollout file does: the other way round."""
    if margin.kind == "odds":
        return f"{margin.value:g} odds"
    if margin.kind == "relative":
        return f"+{100 * margin.value:g}%"
    if metric.kind == "rate":
        return f"{100 * margin.value:g} points"
    if metric.unit == "us":
        return f"{margin.value / _UNITS_US['ms']:g}ms"
    return f"${margin.value:g}" if metric.unit == "USD" else f"{margin.value:g} tokens"


def _examples(metric: Metric) -> str:
    if metric.kind == "rate":
        return "write it as 1.10 odds, +10% or 2 points"
    absolute = {"us": "200ms", "USD": "$0.002"}.get(metric.unit, "50 tokens")
    return f"write it as +5%, {absolute} or 1.10 odds"


def _number(value: str) -> float | None:
    return float(value) if re.fullmatch(_NUMBER, value.strip()) else None
