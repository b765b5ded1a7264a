-- What the streams make of the events: windows, decisions, what appliers answered, alerts, drift.

CREATE TABLE IF NOT EXISTS window_metrics
(
    rollup LowCardinality(String)
        COMMENT 'release, app, model, prompt or tenant.',
    series_id Int64
        COMMENT 'xxh64 of the roll-up and its dimensions, as a signed integer.',
    tenant LowCardinality(String)
        COMMENT 'Dimension; * = rolled up, empty = absent.',
    environment LowCardinality(String)
        COMMENT 'Dimension.',
    app LowCardinality(String)
        COMMENT 'Dimension.',
    deployment LowCardinality(String)
        COMMENT 'Dimension.',
    variant LowCardinality(String)
        COMMENT 'Dimension.',
    operation LowCardinality(String)
        COMMENT 'Dimension.',
    provider LowCardinality(String)
        COMMENT 'Dimension.',
    request_model LowCardinality(String)
        COMMENT 'Dimension.',
    prompt_name LowCardinality(String)
        COMMENT 'Dimension.',
    prompt_version LowCardinality(String)
        COMMENT 'Dimension.',
    traffic LowCardinality(String)
        COMMENT 'Dimension.',
    `window` LowCardinality(String)
        COMMENT 'Length: 10s, 1m, 5m, 1h or 1d.',
    window_start DateTime64(6, 'UTC')
        COMMENT 'Start, inclusive.' CODEC(Delta, ZSTD),
    window_end DateTime64(6, 'UTC')
        COMMENT 'End, exclusive.' CODEC(Delta, ZSTD),
    version Int64
        COMMENT '4 x journal offset + phase; the highest holds.',
    phase LowCardinality(String)
        COMMENT 'early, on_time, late or final.',
    watermark Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Event time up to which events had been seen.',
    calls Int64
        COMMENT 'Calls.',
    comparable Int64
        COMMENT 'Calls that may decide.',
    status_ok Int64
        COMMENT 'Calls that ended ok.',
    status_error Int64
        COMMENT 'Calls that failed.',
    status_timeout Int64
        COMMENT 'Calls that timed out.',
    status_cancelled Int64
        COMMENT 'Calls that were cancelled.',
    status_rate_limited Int64
        COMMENT 'Calls that were rate limited.',
    status_filtered Int64
        COMMENT 'Calls that were filtered.',
    status_other Int64
        COMMENT 'Calls of a status that this version does not know.',
    cache_hits Int64
        COMMENT 'Calls answered by a response cache.',
    retries Int64
        COMMENT 'Calls with attempt over 1.',
    outcome_answered Int64
        COMMENT 'Calls classified as answered.',
    outcome_abstained Int64
        COMMENT 'Calls classified as abstained.',
    outcome_refused Int64
        COMMENT 'Calls classified as refused.',
    outcome_empty Int64
        COMMENT 'Calls classified as empty.',
    input_tokens Int64
        COMMENT 'Sum over leaf calls.',
    output_tokens Int64
        COMMENT 'Sum over leaf calls.',
    cache_read_tokens Int64
        COMMENT 'Sum over leaf calls.',
    cache_write_tokens Int64
        COMMENT 'Sum over leaf calls.',
    reasoning_tokens Int64
        COMMENT 'Sum over leaf calls.',
    tokens_unreported Int64
        COMMENT 'Leaf calls without token counts.',
    priced Int64
        COMMENT 'Leaf calls with a known price.',
    unpriced Int64
        COMMENT 'Leaf calls without a known price.',
    late Int64
        COMMENT 'Calls that came beyond the allowed lateness of their own pane: in no other sum, counted where they arrived.',
    clamped Int64
        COMMENT 'Calls whose time lay in the future.',
    weighted_calls Float64
        COMMENT 'Calls weighted by 1 / sample_rate.',
    cost_usd Nullable(Decimal(38, 9))
        COMMENT 'Cost in USD of the priced calls; null when none is priced.',
    users_estimate Nullable(Int64)
        COMMENT 'Distinct users, estimated with 1.6 % standard error; release and app only.',
    guardrails Array(Tuple(
        name LowCardinality(String),
        stage LowCardinality(String),
        checked Int64,
        triggered Int64,
        blocked Int64))
        COMMENT 'Guardrails.',
    feedback Array(Tuple(
        name LowCardinality(String),
        n Int64,
        positive Int64,
        negative Int64,
        sum Float64,
        sumsq Float64))
        COMMENT 'Feedback given in the window.',
    evaluations Array(Tuple(
        name LowCardinality(String),
        n Int64,
        errors Int64,
        passed Int64,
        failed Int64,
        sum Float64,
        sumsq Float64))
        COMMENT 'Evaluations made in the window.',
    error_types Array(Tuple(
        type LowCardinality(String),
        n Int64))
        COMMENT 'The ten most frequent error types.',
    distributions Array(Tuple(
        metric LowCardinality(String),
        n Int64,
        sum Decimal(38, 9),
        sumsq Float64,
        min Float64,
        max Float64,
        p50 Float64,
        p90 Float64,
        p95 Float64,
        p99 Float64,
        gamma Float64,
        zeros Int64,
        index Array(Int32),
        counts Array(Int64)))
        COMMENT 'Histograms with quantiles.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (tenant, rollup, `window`, window_start, series_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Metrics of windows: full upserts, the highest version of a row holds. Read windows_between, which gives only those.';

CREATE TABLE IF NOT EXISTS deployment_commands
(
    command_id String
        COMMENT 'Deterministic identity.',
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    environment LowCardinality(String)
        COMMENT 'Environment.',
    deployment LowCardinality(String)
        COMMENT 'The routed thing.',
    rollout LowCardinality(String)
        COMMENT 'Name of the rollout.',
    generation Int64
        COMMENT 'Its generation.',
    revision Int64
        COMMENT 'Raised with each command of the deployment.',
    previous_revision Nullable(Int64)
        COMMENT 'The revision that this one replaces.',
    action LowCardinality(String)
        COMMENT 'start, advance, hold, promote, rollback, pause, resume or abort.',
    state LowCardinality(String)
        COMMENT 'State of the rollout after the command.',
    step Int32
        COMMENT 'Step of the rollout, from 0.',
    assignment_unit LowCardinality(String)
        COMMENT 'What variants are assigned by.',
    salt String
        COMMENT 'Salt of the assignment hash.',
    weights Array(Tuple(
        variant LowCardinality(String),
        role LowCardinality(String),
        weight_bp Int32,
        mirror_bp Int32,
        prompt_name LowCardinality(Nullable(String)),
        prompt_version LowCardinality(Nullable(String)),
        provider LowCardinality(Nullable(String)),
        request_model LowCardinality(Nullable(String)),
        model_version LowCardinality(Nullable(String)),
        config_version LowCardinality(Nullable(String)),
        app_version LowCardinality(Nullable(String))))
        COMMENT 'Shares of all variants; they sum to 10,000.',
    dry_run Bool
        COMMENT 'Recorded only: route nothing.',
    reason String
        COMMENT 'Why, in a sentence.',
    actor LowCardinality(String)
        COMMENT 'Who decided.',
    actor_kind LowCardinality(String)
        COMMENT 'controller, human or gitops.',
    evidence Array(Tuple(
        metric LowCardinality(String),
        candidate LowCardinality(String),
        verdict LowCardinality(String),
        n_baseline Int64,
        n_candidate Int64,
        events_baseline Nullable(Int64),
        events_candidate Nullable(Int64),
        value_baseline Nullable(Float64),
        value_candidate Nullable(Float64),
        estimate Nullable(Float64),
        ci_low Nullable(Float64),
        ci_high Nullable(Float64),
        unit LowCardinality(String),
        log_e_rollback Nullable(Float64),
        log_e_promotion Nullable(Float64),
        margin_kind LowCardinality(String),
        rollback_margin Float64,
        promotion_margin Float64,
        alpha_rollback Float64,
        alpha_promotion Float64,
        alpha_spent Nullable(Float64),
        muted Bool,
        sentence String))
        COMMENT 'What the decision rests on, a row a metric and candidate.',
    offsets Array(Tuple(
        topic LowCardinality(String),
        partition Int32,
        offset Int64))
        COMMENT 'How far the log had been read.',
    watermark Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Event time up to which events had been seen; null before the first.',
    ts DateTime64(6, 'UTC')
        COMMENT 'Event time of the command.',
    expires_at Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Only approvals expire; weights never do.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, environment, deployment, revision)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Commands of rollouts: what each deployment should serve from then on, and why. The highest revision holds, see current_deployments.';

CREATE TABLE IF NOT EXISTS deployment_status
(
    command_id String
        COMMENT 'Command, or action_id of a refused action.',
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    environment LowCardinality(String)
        COMMENT 'Environment.',
    deployment LowCardinality(String)
        COMMENT 'The routed thing.',
    revision Int64
        COMMENT 'Revision of the command; 0 for a refused action.',
    applier LowCardinality(String)
        COMMENT 'Who applied it.',
    status LowCardinality(String)
        COMMENT 'applied, rejected, failed or expired.',
    detail Nullable(String)
        COMMENT 'More.',
    ts DateTime64(6, 'UTC')
        COMMENT 'When.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, environment, deployment, revision)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What appliers did with commands, and why actions were refused.';

CREATE TABLE IF NOT EXISTS rollout_progress
(
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    environment LowCardinality(String)
        COMMENT 'Environment.',
    deployment LowCardinality(String)
        COMMENT 'The routed thing.',
    rollout LowCardinality(String)
        COMMENT 'Name of the rollout.',
    generation Int64
        COMMENT 'Its generation.',
    revision Int64
        COMMENT 'Revision of the last command.',
    state LowCardinality(String)
        COMMENT 'State of the rollout.',
    step Int32
        COMMENT 'Step, from 0.',
    steps Int32
        COMMENT 'Number of steps.',
    paused Bool
        COMMENT 'Paused by a person.',
    reason String
        COMMENT 'Why this state, in a sentence.',
    weights Array(Tuple(
        variant LowCardinality(String),
        role LowCardinality(String),
        weight_bp Int32,
        mirror_bp Int32,
        prompt_name LowCardinality(Nullable(String)),
        prompt_version LowCardinality(Nullable(String)),
        provider LowCardinality(Nullable(String)),
        request_model LowCardinality(Nullable(String)),
        model_version LowCardinality(Nullable(String)),
        config_version LowCardinality(Nullable(String)),
        app_version LowCardinality(Nullable(String))))
        COMMENT 'Present shares.',
    exposure Array(Tuple(
        variant LowCardinality(String),
        calls Int64,
        calls_step Int64,
        units Nullable(Int64)))
        COMMENT 'What each variant has served since the start.',
    evidence Array(Tuple(
        metric LowCardinality(String),
        candidate LowCardinality(String),
        verdict LowCardinality(String),
        n_baseline Int64,
        n_candidate Int64,
        events_baseline Nullable(Int64),
        events_candidate Nullable(Int64),
        value_baseline Nullable(Float64),
        value_candidate Nullable(Float64),
        estimate Nullable(Float64),
        ci_low Nullable(Float64),
        ci_high Nullable(Float64),
        unit LowCardinality(String),
        log_e_rollback Nullable(Float64),
        log_e_promotion Nullable(Float64),
        margin_kind LowCardinality(String),
        rollback_margin Float64,
        promotion_margin Float64,
        alpha_rollback Float64,
        alpha_promotion Float64,
        alpha_spent Nullable(Float64),
        muted Bool,
        sentence String))
        COMMENT 'The evidence so far.',
    started_at Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Event time of the start.',
    watermark Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Event time up to which events had been seen.',
    looks Int64
        COMMENT 'Looks so far.',
    version Int64
        COMMENT 'Offset in the journal.',
    journal_partition Int32
        COMMENT 'Partition of the journal.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
ORDER BY (tenant, environment, deployment, generation, version)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Where rollouts stood after each look, as far as compaction left it. The highest generation and version hold.';

CREATE TABLE IF NOT EXISTS alerts
(
    fingerprint String
        COMMENT 'Hash of the sorted labels.',
    status LowCardinality(String)
        COMMENT 'firing or resolved.',
    rule LowCardinality(String)
        COMMENT 'Rule.',
    rule_hash LowCardinality(String)
        COMMENT 'Hash of the rule.',
    severity LowCardinality(String)
        COMMENT 'critical, error, warning or info.',
    labels Map(LowCardinality(String), String)
        COMMENT 'What it is about.',
    annotations Map(LowCardinality(String), String)
        COMMENT 'What it says.',
    starts_at DateTime64(6, 'UTC')
        COMMENT 'When it started.',
    ends_at Nullable(DateTime64(6, 'UTC'))
        COMMENT 'When it ended.',
    value Nullable(Float64)
        COMMENT 'Value.',
    threshold Nullable(Float64)
        COMMENT 'Threshold.',
    unit LowCardinality(Nullable(String))
        COMMENT 'Unit of both.',
    for_us Int64
        COMMENT 'How long the condition held before it fired, in microseconds.',
    generator_url Nullable(String)
        COMMENT 'Where to look.',
    runbook_url Nullable(String)
        COMMENT 'What to do.',
    window_version Nullable(Int64)
        COMMENT 'Version of the window that fired it.',
    cause_id Nullable(String)
        COMMENT 'Command or drift that caused it.',
    suppressed_by LowCardinality(Nullable(String))
        COMMENT 'What silences it.',
    sequence Int64
        COMMENT 'Raised with each change of the fingerprint''s status.',
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    ts DateTime64(6, 'UTC')
        COMMENT 'Event time of this change.',
    dry_run Bool
        COMMENT 'Recorded only.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, fingerprint, sequence)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Changes of alerts: firing and resolved.';

CREATE TABLE IF NOT EXISTS drift_events
(
    drift_id String
        COMMENT 'Identity.',
    version Int64
        COMMENT 'The highest holds.',
    phase LowCardinality(String)
        COMMENT 'started, updated or ended.',
    ts DateTime64(6, 'UTC')
        COMMENT 'Event time.',
    rollup LowCardinality(String)
        COMMENT 'Roll-up.',
    tenant LowCardinality(String)
        COMMENT 'Dimension; * = rolled up, empty = absent.',
    environment LowCardinality(String)
        COMMENT 'Dimension.',
    app LowCardinality(String)
        COMMENT 'Dimension.',
    deployment LowCardinality(String)
        COMMENT 'Dimension.',
    variant LowCardinality(String)
        COMMENT 'Dimension.',
    operation LowCardinality(String)
        COMMENT 'Dimension.',
    provider LowCardinality(String)
        COMMENT 'Dimension.',
    request_model LowCardinality(String)
        COMMENT 'Dimension.',
    prompt_name LowCardinality(String)
        COMMENT 'Dimension.',
    prompt_version LowCardinality(String)
        COMMENT 'Dimension.',
    traffic LowCardinality(String)
        COMMENT 'Dimension.',
    kind LowCardinality(String)
        COMMENT 'prompt, model, input, quality, cost or latency.',
    metric LowCardinality(String)
        COMMENT 'Metric.',
    unit LowCardinality(String)
        COMMENT 'Unit of the values.',
    detector LowCardinality(String)
        COMMENT 'Detector that decided.',
    detector_version LowCardinality(String)
        COMMENT 'Its version.',
    reference_kind LowCardinality(String)
        COMMENT 'rolling, pinned or release.',
    reference_from DateTime64(6, 'UTC')
        COMMENT 'Start of the reference.',
    reference_to DateTime64(6, 'UTC')
        COMMENT 'End of the reference.',
    reference_value Float64
        COMMENT 'Value in the reference.',
    current_value Float64
        COMMENT 'Value now.',
    effect Float64
        COMMENT 'Size of the change.',
    effect_unit LowCardinality(String)
        COMMENT 'Its unit.',
    log_e Float64
        COMMENT 'Natural logarithm of the e-detector.',
    average_run_length Float64
        COMMENT 'Windows between false alarms, at least.',
    changed_at Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Estimated time of the change.',
    changed_low Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Lower end of its interval.',
    changed_high Nullable(DateTime64(6, 'UTC'))
        COMMENT 'Upper end of its interval.',
    ended_at Nullable(DateTime64(6, 'UTC'))
        COMMENT 'When it ended.',
    n_reference Int64
        COMMENT 'Observations in the reference.',
    n_current Int64
        COMMENT 'Observations now.',
    carriers Array(Tuple(
        series LowCardinality(String),
        share Float64))
        COMMENT 'Sub-series that carry the change.',
    opinions Array(Tuple(
        detector LowCardinality(String),
        fired Bool))
        COMMENT 'What other detectors say.',
    dry_run Bool
        COMMENT 'Recorded only.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, rollup, metric, ts, drift_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Changes found in the stream: from what to what, since when, how sure. The highest version of a drift_id holds.';
