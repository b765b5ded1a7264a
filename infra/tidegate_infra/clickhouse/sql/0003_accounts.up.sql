-- The ledger's rows: what was refused, what came twice, what producers say, what the log lost.

CREATE TABLE IF NOT EXISTS dead_letters
(
    source_topic LowCardinality(String)
        COMMENT 'Topic it came from, without the installation''s prefix.',
    source_topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of that topic.',
    source_partition UInt16
        COMMENT 'Partition it came from.',
    source_offset UInt64
        COMMENT 'Offset it came from; with topic id and partition it names the record.',
    stage LowCardinality(String)
        COMMENT 'Process that refused it; the sink notes what it cannot store, too.',
    reason LowCardinality(String)
        COMMENT 'Why, one of a closed list.',
    error String
        COMMENT 'What was found, in a sentence.' CODEC(ZSTD(3)),
    event_id Nullable(String)
        COMMENT 'Its id, where it can be read.',
    producer_id LowCardinality(Nullable(String))
        COMMENT 'Its producer, where it can be read.',
    seq Nullable(Int64)
        COMMENT 'Its number among the producer''s events, where it can be read.',
    size_bytes UInt64
        COMMENT 'Bytes of its value; the bytes themselves stand in llm.dlq.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(append_ts)
ORDER BY (source_topic, source_topic_id, source_partition, source_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Records that were refused. One record may have several rows; count distinct source_topic_id, source_partition, source_offset.';

CREATE TABLE IF NOT EXISTS duplicates
(
    topic LowCardinality(String)
        COMMENT 'Topic without the installation''s prefix.',
    event_id String
        COMMENT 'Id of the copy, and of the record that came before it in the same partition.',
    producer_id LowCardinality(Nullable(String))
        COMMENT 'Its producer.',
    seq Nullable(Int64)
        COMMENT 'Its number among the producer''s events.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(append_ts)
ORDER BY (topic, _topic_id, _partition, _offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Copies that were dropped: an earlier record of the same partition had the same id.';

CREATE TABLE IF NOT EXISTS producer_reports
(
    producer_id LowCardinality(String)
        COMMENT 'UUID of the process.',
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    app LowCardinality(String)
        COMMENT 'Service.',
    sdk_version LowCardinality(String)
        COMMENT 'Version of the client.',
    host String
        COMMENT 'Host.',
    report_seq Int64
        COMMENT 'Number of this report, from 1; the highest holds.',
    ts DateTime64(6, 'UTC')
        COMMENT 'When it was made.',
    final Bool
        COMMENT 'The producer has shut down.',
    accepted Int64
        COMMENT 'Events that got a seq since the start.',
    delivered Int64
        COMMENT 'Events that Kafka confirmed.',
    last_seq Nullable(Int64)
        COMMENT 'Highest seq; null before the first.',
    failed Array(Tuple(
        from_seq Int64,
        to_seq Int64))
        COMMENT 'Events that Kafka did not confirm.',
    dropped Array(Tuple(
        reason String,
        count Int64))
        COMMENT 'Events that never got a seq, by reason.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(append_ts)
ORDER BY (producer_id, report_seq)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Producers'' own accounts: the highest report_seq of a producer holds.';

CREATE TABLE IF NOT EXISTS log_losses
(
    topic LowCardinality(String)
        COMMENT 'Topic without the installation''s prefix.',
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the topic.',
    _partition UInt16
        COMMENT 'Partition.',
    first_offset UInt64
        COMMENT 'First offset that is gone.',
    last_offset UInt64
        COMMENT 'Last offset that is gone.',
    noted_ts DateTime64(3, 'UTC')
        COMMENT 'When it was found.'
)
ENGINE = MergeTree
ORDER BY (topic, _topic_id, _partition, first_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Offsets that the log''s retention took before the sink had read them.';
