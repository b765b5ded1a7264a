"""The balance of every producer: each event that it was promised to be delivered is somewhere.

    accepted = stored + duplicate + dead lettered + failed + in flight + missing

The left side is what the producer says of itself, by its reports; the right side is counted in the store, by
the numbers (`seq`) that a producer gives its events without gaps. Each number counts once, in the first of
the places where it is found. What was refused or dropped before it got a number stands apart, by reason.
"""

from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

LIVING_SECONDS = 600
"""A producer that has not said good-bye, and was heard of within so many seconds, may still have events on
the way."""

SETTLING_SECONDS = 60
"""For so long after a producer's good-bye its last events may still be on their way into the store."""

_ACCOUNTS = """
WITH
    found AS
    (
        SELECT
            assumeNotNull(who) AS producer_id,
            assumeNotNull(number) AS seq,
            min(rank) AS place,
            argMin(why, rank) AS reason,
            max(append_ts) AS at,
            max(owner) AS tenant
        FROM
        (
            SELECT producer_id AS who, seq AS number, 0 AS rank, '' AS why, append_ts, tenant AS owner
            FROM calls
            UNION ALL SELECT producer_id, seq, 0, '', append_ts, tenant FROM feedback
            UNION ALL SELECT producer_id, seq, 0, '', append_ts, tenant FROM evaluations
            UNION ALL SELECT producer_id, seq, 1, '', append_ts, '' FROM duplicates
            UNION ALL SELECT producer_id, seq, 2, reason, append_ts, '' FROM dead_letters
        )
        WHERE who IS NOT NULL AND number IS NOT NULL
        GROUP BY who, number
    ),
    counted AS
    (
        SELECT
            producer_id,
            countIf(place = 0) AS stored,
            countIf(place = 1) AS duplicate,
            sumMapIf(map(reason, toUInt64(1)), place = 2) AS dead_lettered,
            countIf(place = 2) AS dead,
            max(seq) AS last_seq,
            max(at) AS last_at,
            max(tenant) AS tenant
        FROM found GROUP BY producer_id
    ),
    reported AS
    (
        SELECT
            producer_id,
            argMax(tenant, report_seq) AS tenant,
            argMax(app, report_seq) AS app,
            argMax(accepted, report_seq) AS accepted,
            argMax(failed, report_seq) AS failed,
            argMax(dropped, report_seq) AS dropped,
            argMax(final, report_seq) AS final,
            max(append_ts) AS last_at
        FROM producer_reports GROUP BY producer_id
    ),
    unseen_failures AS
    (
        SELECT producer_id, sum(width) - sum(seen) AS failed
        FROM
        (
            SELECT
                ranges.producer_id AS producer_id,
                ranges.first,
                any(ranges.last - ranges.first + 1) AS width,
                countIf(found.seq BETWEEN ranges.first AND ranges.last) AS seen
            FROM
            (
                SELECT producer_id, r.from_seq AS first, r.to_seq AS last FROM reported ARRAY JOIN failed AS r
            ) AS ranges
            LEFT JOIN found ON found.producer_id = ranges.producer_id
            GROUP BY ranges.producer_id, ranges.first
        )
        GROUP BY producer_id
    )
SELECT
    if(reported.producer_id != '', reported.producer_id, counted.producer_id) AS producer,
    if(reported.producer_id != '', reported.tenant, counted.tenant) AS tenant,
    reported.app AS app,
    reported.producer_id != '' AS has_reported,
    greatest(reported.accepted, counted.last_seq) AS accepted,
    counted.stored AS stored,
    counted.duplicate AS duplicate,
    counted.dead_lettered AS dead_lettered,
    counted.dead AS dead,
    unseen_failures.failed AS failed,
    reported.dropped AS refused,
    reported.final AS final,
    greatest(reported.last_at, counted.last_at) > now64(3) - toIntervalSecond(
        if(reported.final, {settling_seconds:UInt32}, {living_seconds:UInt32})
    ) AS living
FROM reported
FULL OUTER JOIN counted ON reported.producer_id = counted.producer_id
LEFT JOIN unseen_failures ON unseen_failures.producer_id = reported.producer_id
ORDER BY tenant, app, producer
"""

_ANONYMOUS = """
SELECT tenant, sum(stored), sum(duplicate), sum(dead)
FROM
(
    SELECT tenant, count() AS stored, 0 AS duplicate, 0 AS dead FROM calls
    WHERE producer_id IS NULL OR seq IS NULL GROUP BY tenant
    UNION ALL SELECT tenant, uniqExact(event_id), 0, 0 FROM feedback
    WHERE producer_id IS NULL OR seq IS NULL GROUP BY tenant
    UNION ALL SELECT tenant, uniqExact(event_id), 0, 0 FROM evaluations
    WHERE producer_id IS NULL OR seq IS NULL GROUP BY tenant
    UNION ALL SELECT '', 0, count(), 0 FROM duplicates WHERE producer_id IS NULL OR seq IS NULL
    UNION ALL SELECT '', 0, 0, uniqExact(source_topic_id, source_partition, source_offset) FROM dead_letters
    WHERE (producer_id IS NULL OR seq IS NULL) AND stage != 'resolve'  -- what it gave up is stored
)
GROUP BY tenant HAVING sum(stored) + sum(duplicate) + sum(dead) > 0 ORDER BY tenant
"""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """The account of one producer.

    Parameters
    ----------
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
        Reason -> numbers found only among dead letters.
    failed
        Numbers that the producer says Kafka did not confirm, and that were never seen.
    final
        Whether that account is the last one: the producer has ended.
    in_flight
        Numbers not found yet, of a producer that is alive or ended a moment ago.
    missing
        Numbers not found of a producer that has ended: a loss, unless the sink is far behind.
    refused
        Reason -> events that never got a number.
    """

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


def ledger(
    client: Client, living_seconds: int = LIVING_SECONDS, settling_seconds: int = SETTLING_SECONDS
) -> list[LedgerRow]:
    """Account for every producer.

    Parameters
    ----------
    client
        Of the store; reading is enough.
    living_seconds, settling_seconds
        See `LIVING_SECONDS` and `SETTLING_SECONDS`.

    Returns
    -------
    list of LedgerRow
        By tenant, app and producer; events that name no producer last, one row a tenant.
    """
    result = client.query(
        _ACCOUNTS, parameters={"living_seconds": living_seconds, "settling_seconds": settling_seconds}
    )
    rows = [_row(dict(zip(result.column_names, values, strict=True))) for values in result.result_rows]
    return rows + [_anonymous(*values) for values in client.query(_ANONYMOUS).result_rows]


def _row(found: dict[str, object]) -> LedgerRow:
    def number(name: str) -> int:
        return int(str(found[name] or 0))

    seen = number("stored") + number("duplicate") + number("dead")
    unseen = number("accepted") - seen - number("failed")
    living = bool(found["living"])
    return LedgerRow(
        producer_id=str(found["producer"]),
        tenant=str(found["tenant"]),
        app=str(found["app"]),
        reported=bool(found["has_reported"]),
        final=bool(found["final"]),
        accepted=number("accepted"),
        stored=number("stored"),
        duplicate=number("duplicate"),
        dead_lettered=_counts(found["dead_lettered"]),
        failed=number("failed"),
        in_flight=unseen if living else 0,
        missing=0 if living else unseen,
        refused=_counts(found["refused"]),
        balanced=unseen == 0 or (living and unseen > 0),
    )


def _anonymous(tenant: str, stored: int, duplicate: int, dead: int) -> LedgerRow:
    return LedgerRow(
        producer_id="",
        tenant=tenant,
        app="",
        reported=False,
        final=False,
        accepted=stored + duplicate + dead,
        stored=stored,
        duplicate=duplicate,
        dead_lettered={"any": dead} if dead else {},
        failed=0,
        in_flight=0,
        missing=0,
        refused={},
        balanced=True,
    )


def _counts(value: object) -> dict[str, int]:
    if isinstance(value, dict):
        return {str(reason): int(count) for reason, count in sorted(value.items())}
    if isinstance(value, list):
        pairs = (item.values() if isinstance(item, dict) else item for item in value)
        return {str(reason): int(count) for reason, count in pairs}
    return {}
