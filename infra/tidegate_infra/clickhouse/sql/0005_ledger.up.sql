-- The ledger as a table: what each producer accepted, hour by hour, and where it went.
-- Projections keep which numbers (seq) arrived in which hour. A part holds them beside the rows that they are made
-- of, so they never differ from them; and the ledger reads a row a producer and hour instead of every event.

ALTER TABLE calls ADD PROJECTION IF NOT EXISTS by_producer
(
    SELECT producer_id, toStartOfHour(append_ts), tenant, max(seq), max(append_ts),
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))),
        uniqExactIf(event_id, ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1)
    GROUP BY producer_id, toStartOfHour(append_ts), tenant
);
ALTER TABLE calls MATERIALIZE PROJECTION by_producer;

ALTER TABLE feedback ADD PROJECTION IF NOT EXISTS by_producer
(
    SELECT producer_id, toStartOfHour(append_ts), tenant, max(seq), max(append_ts),
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))),
        uniqExactIf(event_id, ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1)
    GROUP BY producer_id, toStartOfHour(append_ts), tenant
);
ALTER TABLE feedback MATERIALIZE PROJECTION by_producer;

ALTER TABLE evaluations ADD PROJECTION IF NOT EXISTS by_producer
(
    SELECT producer_id, toStartOfHour(append_ts), tenant, max(seq), max(append_ts),
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))),
        uniqExactIf(event_id, ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1)
    GROUP BY producer_id, toStartOfHour(append_ts), tenant
);
ALTER TABLE evaluations MATERIALIZE PROJECTION by_producer;

ALTER TABLE duplicates ADD PROJECTION IF NOT EXISTS by_producer
(
    SELECT producer_id, toStartOfHour(append_ts), max(seq), max(append_ts),
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))),
        uniqExactIf((_topic_id, _partition, _offset), ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1)
    GROUP BY producer_id, toStartOfHour(append_ts)
);
ALTER TABLE duplicates MATERIALIZE PROJECTION by_producer;

ALTER TABLE producer_reports ADD PROJECTION IF NOT EXISTS by_producer
(
    SELECT producer_id, toStartOfHour(append_ts), max(accepted), max(append_ts),
        maxMap(CAST(dropped, 'Map(String, Int64)')),
        argMax((tenant, app, failed, final), report_seq), max(report_seq)
    GROUP BY producer_id, toStartOfHour(append_ts)
);
ALTER TABLE producer_reports MATERIALIZE PROJECTION by_producer;

CREATE VIEW IF NOT EXISTS arrivals
AS SELECT
    ifNull(producer_id, '') AS producer_id,
    hour,
    tenant,
    place,
    reason,
    greatest(ifNull(last_seq, 0), 0) AS last_seq,
    last_at,
    seqs,
    unnumbered
FROM
(
    SELECT
        producer_id,
        toStartOfHour(append_ts) AS hour,
        tenant,
        'stored' AS place,
        '' AS reason,
        max(seq) AS last_seq,
        max(append_ts) AS last_at,
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))) AS seqs,
        uniqExactIf(event_id, ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1) AS unnumbered
    FROM calls
    GROUP BY producer_id, hour, tenant
    UNION ALL
    SELECT
        producer_id,
        toStartOfHour(append_ts) AS hour,
        tenant,
        'stored' AS place,
        '' AS reason,
        max(seq) AS last_seq,
        max(append_ts) AS last_at,
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))) AS seqs,
        uniqExactIf(event_id, ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1) AS unnumbered
    FROM feedback
    GROUP BY producer_id, hour, tenant
    UNION ALL
    SELECT
        producer_id,
        toStartOfHour(append_ts) AS hour,
        tenant,
        'stored' AS place,
        '' AS reason,
        max(seq) AS last_seq,
        max(append_ts) AS last_at,
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))) AS seqs,
        uniqExactIf(event_id, ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1) AS unnumbered
    FROM evaluations
    GROUP BY producer_id, hour, tenant
    UNION ALL
    SELECT
        producer_id,
        toStartOfHour(append_ts) AS hour,
        '' AS tenant,
        'duplicate' AS place,
        '' AS reason,
        max(seq) AS last_seq,
        max(append_ts) AS last_at,
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))) AS seqs,
        uniqExactIf((_topic_id, _partition, _offset), ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1) AS unnumbered
    FROM duplicates
    GROUP BY producer_id, hour
    UNION ALL
    SELECT
        producer_id,
        toStartOfHour(at) AS hour,
        '' AS tenant,
        'dead_lettered' AS place,
        toString(why) AS reason,
        max(seq) AS last_seq,
        max(at) AS last_at,
        groupBitmapState(toUInt64(greatest(ifNull(seq, 0), 0))) AS seqs,
        uniqExactIf(source, ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1) AS unnumbered
    FROM
    (
        SELECT
            producer_id,
            seq,
            any(letter) AS source,
            argMax(said, heard) AS why,
            min(heard) AS at
        FROM
        (
            SELECT
                any(producer_id) AS producer_id,
                any(seq) AS seq,
                (source_topic_id, source_partition, source_offset) AS letter,
                min(reason) AS said,
                min(append_ts) AS heard
            FROM dead_letters
            WHERE stage != 'resolve'
            GROUP BY letter
        )
        GROUP BY producer_id, seq, if(ifNull(producer_id, '') = '' OR ifNull(seq, 0) < 1, toString(letter), '')
    )
    GROUP BY producer_id, hour, reason
)
COMMENT 'Which numbers (seq) of a producer arrived in an hour, by the broker''s clock, and where they stand: stored, duplicate or dead_lettered. seqs is a set: bitmapCardinality, bitmapOr. unnumbered events name no producer or have no number.';

CREATE VIEW IF NOT EXISTS ledger_since
AS WITH
    accounts AS
    (
        SELECT
            producer_id,
            toStartOfHour(append_ts) AS hour,
            max(accepted) AS accepted,
            max(append_ts) AS last_at,
            maxMap(CAST(dropped, 'Map(String, Int64)')) AS dropped,
            argMax((tenant, app, failed, final), report_seq) AS said,
            max(report_seq) AS number
        FROM producer_reports
        GROUP BY producer_id, hour
    ),
    marks AS
    (
        SELECT
            producer_id,
            if(hour >= toStartOfHour({since:DateTime64(6, 'UTC')}), hour, NULL) AS shown_hour,
            max(last) AS mark,
            maxMap(dropped) AS dropped,
            max(at) AS at,
            max(tenant) AS tenant
        FROM
        (
            SELECT
                producer_id,
                hour,
                last_seq AS last,
                CAST(map(), 'Map(String, Int64)') AS dropped,
                last_at AS at,
                tenant
            FROM arrivals
            WHERE producer_id != ''
            UNION ALL
            SELECT producer_id, hour, accepted, dropped, last_at, said.1 FROM accounts
        )
        GROUP BY producer_id, shown_hour
    ),
    turns AS
    (
        SELECT
            producer_id,
            shown_hour,
            max(mark) OVER until_before AS lo,
            max(mark) OVER until_here AS hi,
            maxMap(dropped) OVER until_before AS dropped_before,
            maxMap(dropped) OVER until_here AS dropped_here,
            max(at) OVER whole AS last_at,
            max(tenant) OVER whole AS tenant
        FROM marks
        WINDOW
            whole AS (PARTITION BY producer_id),
            until_here AS
            (
                PARTITION BY producer_id ORDER BY shown_hour ASC NULLS FIRST
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ),
            until_before AS
            (
                PARTITION BY producer_id ORDER BY shown_hour ASC NULLS FIRST
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
    ),
    places AS
    (
        SELECT
            producer_id,
            groupBitmapMergeStateIf(seqs, place = 'stored') AS kept,
            groupBitmapMergeStateIf(seqs, place != 'dead_lettered') AS good,
            groupBitmapMergeState(seqs) AS found,
            groupArrayIf((reason, seqs), place = 'dead_lettered') AS letters
        FROM arrivals
        WHERE hour >= toStartOfHour({since:DateTime64(6, 'UTC')}) AND producer_id != ''
        GROUP BY producer_id
    ),
    last_words AS
    (
        SELECT producer_id, argMax(said, number) AS said FROM accounts GROUP BY producer_id
    )
SELECT
    turns.producer_id AS producer_id,
    assumeNotNull(shown_hour) AS hour,
    if(said.1 != '', said.1, turns.tenant) AS tenant,
    said.2 AS app,
    CAST(said.1 != '', 'Bool') AS reported,
    said.4 AS final,
    hi - lo AS accepted,
    bitmapCardinality(bitmapSubsetInRange(kept, toUInt64(lo + 1), toUInt64(hi + 1))) AS stored,
    bitmapCardinality(bitmapSubsetInRange(good, toUInt64(lo + 1), toUInt64(hi + 1))) - stored AS duplicate,
    mapFilter((_, n) -> n > 0, arrayFold(
        (sum, letter) -> mapAdd(sum, map(letter.1, bitmapCardinality(
            bitmapSubsetInRange(bitmapAndnot(letter.2, good), toUInt64(lo + 1), toUInt64(hi + 1))
        ))),
        letters, CAST(map(), 'Map(String, UInt64)')
    )) AS dead_lettered,
    arraySum(
        range -> least(range.to_seq, hi) - greatest(range.from_seq, lo + 1) + 1
            - bitmapCardinality(bitmapSubsetInRange(
                found, toUInt64(greatest(range.from_seq, lo + 1)), toUInt64(least(range.to_seq, hi) + 1)
            )),
        arrayFilter(range -> range.to_seq > lo AND range.from_seq <= hi, said.3)
    ) AS failed,
    accepted - failed - bitmapCardinality(bitmapSubsetInRange(found, toUInt64(lo + 1), toUInt64(hi + 1))) AS unseen,
    mapFilter((_, n) -> n > 0, mapSubtract(dropped_here, dropped_before)) AS refused,
    turns.last_at AS last_at
FROM turns
LEFT JOIN places ON places.producer_id = turns.producer_id
LEFT JOIN last_words ON last_words.producer_id = turns.producer_id
WHERE shown_hour IS NOT NULL AND (accepted > 0 OR notEmpty(refused))
UNION ALL
SELECT
    '' AS producer_id,
    hour,
    tenant,
    '' AS app,
    false AS reported,
    false AS final,
    toInt64(sum(unnumbered)) AS accepted,
    sumIf(unnumbered, place = 'stored') AS stored,
    sumIf(unnumbered, place = 'duplicate') AS duplicate,
    sumMapIf(map(reason, unnumbered), place = 'dead_lettered') AS dead_lettered,
    0 AS failed,
    0 AS unseen,
    CAST(map(), 'Map(String, Int64)') AS refused,
    max(last_at) AS last_at
FROM arrivals
WHERE hour >= toStartOfHour({since:DateTime64(6, 'UTC')}) AND unnumbered > 0
GROUP BY hour, tenant
COMMENT 'The balance of every producer, hour by hour: accepted = stored + duplicate + dead_lettered + failed + unseen. FROM ledger_since(since = ''2026-01-01''). A number belongs to the hour in which it, or one above it, was first heard of by the broker''s clock, and counts there wherever and whenever it is found. failed: not confirmed by Kafka and never seen. unseen: found nowhere, so on its way or lost. refused: never got a number. Without producer_id: events that name no producer or have no number; a rating that was published again with its series may stand in two hours.';
