"""Freezes of a rollout file: single ones, and those that come again every day or week, written out."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tidegate.records import Freeze
from tidegate_infra.document import Element, Section
from tidegate_infra.rollout_file import quantities
from tidegate_infra.rollout_file.quantities import Clock

AHEAD = timedelta(days=400)
"""So far ahead of the application recurring freezes are written out: longer than a rollout may last.
Written out there, once, they need no time zones where decisions are replayed."""

_PERIODS = {"day": 1, "week": 7}


class Recurring(NamedTuple):
    """A freeze that comes again.

    Parameters
    ----------
    every
        ``day`` or ``week``.
    starts, ends
        Local times.
    zone
        Where they are local.
    """

    every: str
    starts: Clock
    ends: Clock
    zone: ZoneInfo


def freezes_of(top: Section) -> tuple[list[Freeze], list[Recurring]]:
    """Read the freezes of a rollout: single ones, and those that come again."""
    element = top.take("freezes")
    single: list[Freeze] = []
    recurring: list[Recurring] = []
    for item in () if element is None else element.items():
        section = item.section()
        every = section.take("every")
        if every is None:
            single += _single(section, item)
        else:
            recurring += _recurring(section, item, every)
        section.close()
    return single, recurring


def _single(section: Section, item: Element) -> list[Freeze]:
    starts_at = section.required("from", quantities.moment, "2026-12-24T18:00+01:00")
    ends_at = section.required("to", quantities.moment, "2027-01-02T08:00+01:00")
    if starts_at is None or ends_at is None:
        return []
    if ends_at <= starts_at:
        item.complain("it ends before it begins: `to` must be later than `from`")
    return [Freeze(starts_at=starts_at, ends_at=ends_at)]


def _recurring(section: Section, item: Element, every: Element) -> list[Recurring]:
    period = every.value(quantities.one_of(*_PERIODS))
    clock = quantities.clock(of_week=period == "week")
    examples = ("fri 16:00", "mon 08:00") if period == "week" else ("22:00", "06:00")
    starts = section.required("from", clock, examples[0])
    ends = section.required("to", clock, examples[1])
    zone = section.required("timeZone", quantities.zone, "Europe/Berlin")
    if period is None or starts is None or ends is None or zone is None:
        return []
    if starts == ends:
        item.complain(f"it lasts a whole {period}, every {period}: nothing would ever advance")
    return [Recurring(period, starts, ends, zone)]


def written_out(recurring: Recurring, from_us: int) -> list[Freeze]:
    """Return when a recurring freeze comes, for 400 days.

    Parameters
    ----------
    recurring
        Where the clocks are changed at one of its ends, it is the longer one of those that can be meant.
    from_us
        When the rollout is applied, in microseconds since the epoch.

    Returns
    -------
    list of Freeze
        In order; the first may have begun earlier.
    """
    days = _PERIODS[recurring.every]
    begins = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=from_us)
    first = begins.astimezone(recurring.zone).date() - timedelta(days=days)
    lasts = (recurring.ends.minutes - recurring.starts.minutes) % (days * 24 * 60)
    found = []
    for ahead in range(AHEAD.days + days):
        day = first + timedelta(days=ahead)
        if days == 7 and day.weekday() != recurring.starts.weekday:
            continue
        starts = datetime.combine(day, datetime.min.time()) + timedelta(minutes=recurring.starts.of_day)
        starts_at = min(_readings(starts, recurring.zone))
        ends_at = max(_readings(starts + timedelta(minutes=lasts), recurring.zone))
        if ends_at > from_us:
            found.append(Freeze(starts_at=starts_at, ends_at=ends_at))
    return found


def _readings(local: datetime, zone: ZoneInfo) -> list[int]:
    return [quantities.epoch_us(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1)]
