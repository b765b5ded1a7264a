"""The store's answer about ratings: their calls' series, and which of them have theirs already."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from tidegate.errors import DependencyUnavailable
from tidegate.limits import LATEST_US, LONGEST_NAME_BYTES
from tidegate.records import Series
from tidegate.topics import EVALUATIONS, FEEDBACK
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.settings import Settings
from tidegate_streams.resolve.ratings import Answer, Identity, Lonely

_TABLES = {FEEDBACK: "feedback", EVALUATIONS: "evaluations"}
_SERIES = [one.name for one in fields(Series)]
_FIELDS = ["toUnixTimestamp64Micro(ts_end)" if name == "call_ts_end" else name for name in _SERIES]
_ASKED = 400
_ASKED_BYTES = 200_000
"""Ratings of one question, and about its length: a statement may have 262,144 bytes."""
_DAYS_BYTES = 64
"""Of a rating's days and all marks around its names."""

_CALLS = """SELECT tenant, event_id, {fields} FROM calls
WHERE tenant IN %(tenants)s AND event_id IN %(ids)s"""
_NEAR = " AND toYYYYMMDD(ts) IN %(days)s"
_FIRST = " ORDER BY _topic_id, _partition, _offset LIMIT 1 BY tenant, event_id"

_RESOLVED = """SELECT DISTINCT tenant, event_id FROM {table} WHERE has_series
AND tenant IN %(tenants)s AND name IN %(names)s AND event_id IN %(ids)s
AND ts BETWEEN fromUnixTimestamp64Micro(%(from_us)s) AND fromUnixTimestamp64Micro(%(until_us)s)"""


class Calls:
    """The calls of the store.

    Parameters
    ----------
    settings
        Where ClickHouse is.

    Raises
    ------
    DependencyUnavailable
        ClickHouse does not answer.
    ConfigError
        It refuses the user, or has no such database.
    """

    def __init__(self, settings: Settings) -> None:
        self._client: Client = clickhouse.connect(settings, readonly=True)

    def ask(self, topic: str, ratings: Sequence[Lonely], *, everywhere: bool) -> Answer:
        """Look up what belongs to ratings of one topic.

        Parameters
        ----------
        topic
            Where they stand.
        ratings
            Each names its call.
        everywhere
            Look at all days, not only at those about which id and rating give a hint. An id may have been
            given long after its call, as in a replay of the past.

        Raises
        ------
        DependencyUnavailable
            The store does not answer, or refuses.
        """
        series: dict[Identity, Series] = {}
        resolved: set[Identity] = set()
        try:
            for some in questions(ratings):
                series |= self._series(some, everywhere=everywhere)
                resolved |= self._resolved(_TABLES[topic], some)
        except (ClickHouseError, OSError) as error:
            why = clickhouse.reason(error)
            raise DependencyUnavailable(f"the store does not say which calls it has: {why}") from error
        return Answer(series, resolved)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _series(self, ratings: Sequence[Lonely], *, everywhere: bool) -> dict[Identity, Series]:
        ids = {id_ for _, id_ in (rating.call for rating in ratings) if len(id_) <= LONGEST_NAME_BYTES}
        asked = {
            "tenants": _distinct(rating.record.tenant for rating in ratings),
            "ids": sorted(ids),
            "days": sorted({day for rating in ratings for day in days(rating)}),
        }
        statement = _CALLS.format(fields=", ".join(_FIELDS)) + ("" if everywhere else _NEAR) + _FIRST
        rows = self._client.query(statement, asked).result_rows if ids else []
        return {
            (tenant, event_id): Series(**dict(zip(_SERIES, values, strict=True)))
            for tenant, event_id, *values in rows
        }

    def _resolved(self, table: str, ratings: Sequence[Lonely]) -> set[Identity]:
        asked = {
            "tenants": _distinct(rating.record.tenant for rating in ratings),
            "names": _distinct(rating.record.name for rating in ratings),
            "ids": _distinct(rating.record.event_id for rating in ratings),
            "from_us": min(rating.ts_us for rating in ratings),
            "until_us": max(rating.record.ts for rating in ratings),
        }
        rows = self._client.query(_RESOLVED.format(table=table), asked).result_rows
        return {(tenant, event_id) for tenant, event_id in rows}


def questions(ratings: Iterable[Lonely]) -> Iterator[list[Lonely]]:
    """Part ratings so that none of the questions about them is too long a statement."""
    some: list[Lonely] = []
    size = 0
    for rating in ratings:
        names = (*rating.identity, rating.record.name, rating.call[1])
        # Every character may have to be escaped.
        more = 2 * sum(len(name.encode()) for name in names) + _DAYS_BYTES
        if some and (len(some) == _ASKED or size + more > _ASKED_BYTES):
            yield some
            some, size = [], 0
        some.append(rating)
        size += more
    if some:
        yield some


def days(rating: Lonely) -> Iterator[int]:
    """Days in which a rating's call probably ended: about its id's time, or not long before the rating."""
    id_us = _time_us(rating.call[1])
    near_us = [] if id_us is None else [(id_us, (-1, 0, 1))]
    for time_us, shifts in [*near_us, (rating.ts_us, (-1, 0))]:
        for shift in shifts:
            moment = datetime.fromtimestamp(time_us / 1e6, UTC) + timedelta(days=shift)
            yield moment.year * 10_000 + moment.month * 100 + moment.day


def _time_us(event_id: str) -> int | None:
    """Return the time in a UUIDv7; None for other ids."""
    if event_id[14:15] != "7":
        return None
    try:
        time_us = int(event_id[:8] + event_id[9:13], 16) * 1_000
    except ValueError:
        return None
    return time_us if 0 < time_us <= LATEST_US else None


def _distinct(names: Iterable[str]) -> list[str]:
    return sorted(set(names))
