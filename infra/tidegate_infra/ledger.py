"""The balance of every producer: each event that it was promised to be delivered is somewhere.

    accepted = stored + duplicate + dead lettered + failed + in flight + missing

The left side is what the producer says of itself, by its reports; the right side is counted in the store, by
the numbers (`seq`) that a producer gives its events without gaps. Each number counts once, in the first of
the places where it is found, and in the hour in which it was first heard of by the broker's clock. What was
refused or dropped before it got a number stands apart, by reason.

The store does the counting, in its view ``ledger_since``; here it is said what an unseen number means.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter

from clickhouse_connect.driver.client import Client

LIVING_SECONDS = 600
"""A producer that has not said good-bye, and was heard of within so many seconds, may still have events on
the way: those of an hour that ended no longer ago."""

SETTLING_SECONDS = 60
"""For so long after a producer's good-bye its last events may still be on their way into the store."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """The account of one producer, of an hour or of all that was asked for.

    Parameters
    ----------
    hour
        Which one, in UTC; None of more than one.
    producer_id
        UUID of the process; empty for events that name no producer, which are counted from the log.
    tenant, app
        Whose it is, as far as known.
    reported
        Whether the producer has sent an account of its own. Without one, `accepted` is the highest number
        that was seen.
    accepted
        Events that got a number.
    stored
        Numbers found among calls, feedback or evaluations.
    duplicate
        Numbers found only among dropped copies: another event of the same id had come before.
    dead_lettered
        Reason -> numbers found only among dead letters; the last reason, where one was put back in vain.
    failed
        Numbers that the producer says Kafka did not confirm, and that were never seen.
    final
        Whether that account is the last one: the producer has ended.
    in_flight
        Numbers not found yet, of a producer that is alive or ended a moment ago.
    missing
        Numbers not found of a producer that has ended, or of an hour long over: a loss, unless the sink is
        far behind.
    refused
        Reason -> events that never got a number.
    """

    hour: datetime | None
    producer_id: str
    tenant: str
    app: str
    reported: bool
    final: bool
    accepted: int
    stored: int
    duplicate: int
    dead_lettered: dict[str, int]
    failed: int
    in_flight: int
    missing: int
    refused: dict[str, int]
    balanced: bool


_HOURS = """
SELECT
    hour, producer_id, tenant, app, reported, final,
    accepted, stored, duplicate, dead_lettered, failed, unseen, refused,
    last_at > now64(3) - toIntervalSecond(if(final, {settling_seconds:UInt32}, {living_seconds:UInt32}))
        AND hour + INTERVAL 1 HOUR > now() - toIntervalSecond({living_seconds:UInt32}) AS may_come
FROM ledger_since(since = {since:DateTime64(6, 'UTC')})
ORDER BY producer_id = '', tenant, app, producer_id, hour
"""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def by_hour(
    client: Client,
    living_seconds: int = LIVING_SECONDS,
    settling_seconds: int = SETTLING_SECONDS,
    *,
    since: datetime | None = None,
) -> list[LedgerRow]:
    """Account for every producer, hour by hour.

    Parameters
    ----------
    client
        Of the store; reading is enough.
    living_seconds, settling_seconds
        See `LIVING_SECONDS` and `SETTLING_SECONDS`.
    since
        Only hours that end later; all of them unless given.

    Returns
    -------
    list of LedgerRow
        By tenant, app, producer and hour; events that name no producer last, one row a tenant and hour.
    """
    parameters = {
        "living_seconds": living_seconds,
        "settling_seconds": settling_seconds,
        "since": since or _BEGINNING,
    }
    return [_row(*values) for values in client.query(_HOURS, parameters=parameters).result_rows]


def ledger(
    client: Client,
    living_seconds: int = LIVING_SECONDS,
    settling_seconds: int = SETTLING_SECONDS,
    *,
    since: datetime | None = None,
) -> list[LedgerRow]:
    """Account for every producer; parameters and order as in `by_hour`, one row a producer."""
    hours = by_hour(client, living_seconds, settling_seconds, since=since)
    return [_sum(rows) for _, rows in groupby(hours, attrgetter("producer_id", "tenant", "app"))]


def _row(
    hour: datetime,
    producer_id: str,
    tenant: str,
    app: str,
    reported: bool,
    final: bool,
    accepted: int,
    stored: int,
    duplicate: int,
    dead_lettered: dict[str, int],
    failed: int,
    unseen: int,
    refused: dict[str, int],
    may_come: bool,
) -> LedgerRow:
    return LedgerRow(
        hour=hour.replace(tzinfo=UTC),
        producer_id=producer_id,
        tenant=tenant,
        app=app,
        reported=reported,
        final=final,
        accepted=accepted,
        stored=stored,
        duplicate=duplicate,
        dead_lettered=dict(sorted(dead_lettered.items())),
        failed=failed,
        in_flight=unseen if may_come else 0,
        missing=0 if may_come else unseen,
        refused=dict(sorted(refused.items())),
        balanced=bool(may_come) or unseen == 0,
    )


def _sum(rows: Iterable[LedgerRow]) -> LedgerRow:
    total, *others = rows
    total = replace(total, hour=None)
    for row in others:
        total = replace(
            total,
            **{name: getattr(total, name) + getattr(row, name) for name in _COUNTS},
            dead_lettered=_added(total.dead_lettered, row.dead_lettered),
            refused=_added(total.refused, row.refused),
            balanced=total.balanced and row.balanced,
        )
    return total


_COUNTS = [field.name for field in fields(LedgerRow) if field.type is int]


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in sorted({*one, *other})}
