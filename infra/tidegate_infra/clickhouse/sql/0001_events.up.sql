-- What applications send: calls without bodies, bodies apart, feedback and evaluations.
-- Every row names the message it came from; one range of a source partition is one insert.
-- Durations are microseconds (_us), money is US dollars (_usd), shares are 0 to 1. NULL is unknown, never zero.

CREATE TABLE IF NOT EXISTS calls
(
    event_id String
        COMMENT 'UUIDv7 in lower case, ours and never the provider''s; the identity that duplicates are recognised by, and the Kafka key.',
    tenant LowCardinality(String)
        COMMENT 'Owner: the unit of isolation and retention.',
    environment LowCardinality(String)
        COMMENT 'prod, staging and so on. OTel: deployment.environment.name.',
    app LowCardinality(String)
        COMMENT 'The service. OTel: service.name.',
    ts DateTime64(6, 'UTC')
        COMMENT 'Event time, as windows count it: ts_end, at most 1 s after append_ts.' CODEC(Delta, ZSTD),
    ts_start DateTime64(6, 'UTC')
        COMMENT 'When the request was issued, after any queue. OTel: span start.' CODEC(Delta, ZSTD),
    ts_end DateTime64(6, 'UTC')
        COMMENT 'Last byte, error or cancellation: ts_start + monotonic elapsed time. OTel: span end.' CODEC(Delta, ZSTD),
    latency_us Int64
        COMMENT 'ts_end - ts_start, in microseconds.',
    producer_id LowCardinality(Nullable(String))
        COMMENT 'UUID of the producing process, new at every start and after fork.',
    seq Nullable(Int64)
        COMMENT 'Number of this event among its producer''s, without gaps; the ledger counts by it.',
    source LowCardinality(String)
        COMMENT 'Where the event came from: sdk, litellm, otel, http, cli or replay.',
    ttft_us Nullable(Int64)
        COMMENT 'From ts_start to the first chunk of content, in microseconds. OTel: gen_ai.response.time_to_first_chunk (seconds).',
    queue_us Nullable(Int64)
        COMMENT 'Wait before ts_start, in microseconds.',
    gateway_us Nullable(Int64)
        COMMENT 'Overhead of a proxy, in microseconds.',
    app_version LowCardinality(Nullable(String))
        COMMENT 'Release of the service. OTel: service.version.',
    segment LowCardinality(Nullable(String))
        COMMENT 'The app''s own class of traffic, of low cardinality.',
    budget_keys Array(LowCardinality(String))
        COMMENT 'At most 8 keys that budgets are kept for, such as team:x or key:hash.',
    session_id Nullable(String)
        COMMENT 'Conversation. OTel: gen_ai.conversation.id, else session.id.',
    user_hash Nullable(String)
        COMMENT 'Keyed hash of the user. OTel: user.hash.',
    trace_id Nullable(String)
        COMMENT 'W3C trace id, hex.',
    span_id Nullable(String)
        COMMENT 'W3C span id, hex.',
    parent_span_id Nullable(String)
        COMMENT 'W3C span id of the parent, hex.',
    deployment LowCardinality(String)
        COMMENT 'The routed thing; the client fills in the app''s name when nothing is routed. OTel: feature_flag.key.',
    variant LowCardinality(String)
        COMMENT 'Name of the variant that served, not its role; `default` when nothing is routed. OTel: feature_flag.result.variant.',
    experiment LowCardinality(Nullable(String))
        COMMENT 'Name of the rollout that assigned the variant.',
    assignment_unit LowCardinality(Nullable(String))
        COMMENT 'What the variant was assigned by: user, session, tenant or request.',
    assignment_hash Nullable(Int64)
        COMMENT 'Salted 64-bit hash of the unit, as a signed integer; the A/A arm is a bit of it. OTel: feature_flag.context.id.',
    assignment_reason LowCardinality(Nullable(String))
        COMMENT 'Why this variant: split, targeting_match, static or default. OTel: feature_flag.result.reason.',
    assignment_revision Nullable(Int64)
        COMMENT 'Revision of the command that was obeyed; it names the stratum. OTel: feature_flag.version.',
    traffic LowCardinality(String)
        COMMENT 'live, shadow, eval or synthetic.',
    shadow_of Nullable(String)
        COMMENT 'event_id of the served call that this one mirrors.',
    operation LowCardinality(String)
        COMMENT 'OTel''s values, such as chat, embeddings or invoke_agent. OTel: gen_ai.operation.name.',
    is_leaf Bool
        COMMENT 'True for a billed model call; false for a wrapper, whose tokens are never summed.',
    provider LowCardinality(String)
        COMMENT 'OTel''s values, such as openai or aws.bedrock. OTel: gen_ai.provider.name.',
    request_model LowCardinality(String)
        COMMENT 'Model asked for. OTel: gen_ai.request.model.',
    response_model LowCardinality(Nullable(String))
        COMMENT 'Model that answered. OTel: gen_ai.response.model.',
    model_version LowCardinality(Nullable(String))
        COMMENT 'Version in a model registry.',
    response_id Nullable(String)
        COMMENT 'The provider''s id; never a key. OTel: gen_ai.response.id.',
    server_address LowCardinality(Nullable(String))
        COMMENT 'Host of the provider. OTel: server.address.',
    region LowCardinality(Nullable(String))
        COMMENT 'Region of the provider; an input of the price.',
    service_tier LowCardinality(Nullable(String))
        COMMENT 'Service tier; an input of the price. OTel: openai.response.service_tier.',
    stream Bool
        COMMENT 'The answer was streamed. OTel: gen_ai.request.stream.',
    temperature Nullable(Float64)
        COMMENT 'Sampling temperature. OTel: gen_ai.request.temperature.',
    max_tokens Nullable(Int64)
        COMMENT 'Limit of output tokens. OTel: gen_ai.request.max_tokens.',
    reasoning_level LowCardinality(Nullable(String))
        COMMENT 'Reasoning effort asked for. OTel: gen_ai.request.reasoning.level.',
    prompt_name LowCardinality(Nullable(String))
        COMMENT 'Name of the prompt. OTel: gen_ai.prompt.name.',
    prompt_version LowCardinality(Nullable(String))
        COMMENT 'Version of the prompt. OTel: gen_ai.prompt.version.',
    prompt_hash LowCardinality(Nullable(String))
        COMMENT 'SHA-256 of the template.',
    config_version LowCardinality(Nullable(String))
        COMMENT 'Version of the retrieval or parameter bundle.',
    agent_name LowCardinality(Nullable(String))
        COMMENT 'Agent. OTel: gen_ai.agent.name.',
    agent_version LowCardinality(Nullable(String))
        COMMENT 'Version of the agent. OTel: gen_ai.agent.version.',
    workflow LowCardinality(Nullable(String))
        COMMENT 'Workflow. OTel: gen_ai.workflow.name.',
    tools_offered Array(LowCardinality(String))
        COMMENT 'Names of the tools offered. OTel: gen_ai.tool.definitions.',
    tools_called Array(LowCardinality(String))
        COMMENT 'Names of the tools called; repeats stay. OTel: gen_ai.tool.name.',
    attempt Int32
        COMMENT 'Number of the attempt, from 1. OTel: http.request.resend_count + 1.',
    retry_of Nullable(String)
        COMMENT 'event_id of the previous attempt.',
    fallback_from LowCardinality(Nullable(String))
        COMMENT 'Provider or model that failed before this one.',
    cache_hit Bool
        COMMENT 'Answered by the app''s or the gateway''s response cache.',
    status LowCardinality(String)
        COMMENT 'ok, error, timeout, cancelled, rate_limited or filtered (a guard may block before the model runs: tokens are then null).',
    error_type LowCardinality(Nullable(String))
        COMMENT 'Class of the error, of low cardinality. OTel: error.type.',
    error_code LowCardinality(Nullable(String))
        COMMENT 'The provider''s error code.',
    http_status Nullable(Int32)
        COMMENT 'HTTP status. OTel: http.response.status_code.',
    error_message Nullable(String)
        COMMENT 'Masked, at most 1 kB.',
    finish_reasons Array(LowCardinality(String))
        COMMENT 'Why the model stopped. OTel: gen_ai.response.finish_reasons.',
    outcome LowCardinality(Nullable(String))
        COMMENT 'answered, abstained (said that it does not know), refused or empty; null when nobody classified it.',
    input_tokens Nullable(Int64)
        COMMENT 'Tokens in, cache reads and writes included. OTel: gen_ai.usage.input_tokens.',
    output_tokens Nullable(Int64)
        COMMENT 'Tokens out, reasoning included. OTel: gen_ai.usage.output_tokens.',
    cache_read_tokens Nullable(Int64)
        COMMENT 'Subset of input_tokens read from the provider''s cache. OTel: gen_ai.usage.cache_read.input_tokens.',
    cache_write_tokens Nullable(Int64)
        COMMENT 'Subset of input_tokens written to the provider''s cache. OTel: gen_ai.usage.cache_write.input_tokens.',
    cache_write_1h_tokens Nullable(Int64)
        COMMENT 'Subset of cache_write_tokens kept for one hour; the rest is kept for five minutes.',
    reasoning_tokens Nullable(Int64)
        COMMENT 'Subset of output_tokens. OTel: gen_ai.usage.reasoning.output_tokens.',
    usage_other Array(Tuple(
        unit LowCardinality(String),
        quantity Float64))
        COMMENT 'Other billed quantities.',
    usage_source LowCardinality(Nullable(String))
        COMMENT 'provider or estimated.',
    usage_raw Nullable(String)
        COMMENT 'Usage as received, JSON.',
    reported_cost_usd Nullable(Decimal(18, 9))
        COMMENT 'Cost in USD in the gateway''s opinion; ours is computed.',
    guardrails Array(Tuple(
        name LowCardinality(String),
        stage LowCardinality(String),
        triggered Nullable(Bool),
        action LowCardinality(String),
        result_raw Nullable(String),
        categories Array(LowCardinality(String)),
        score Nullable(Float64),
        duration_us Nullable(Int64),
        policy_version LowCardinality(Nullable(String))))
        COMMENT 'Verdicts of guardrails on this call.',
    routing_router LowCardinality(Nullable(String))
        COMMENT 'Name of the router.',
    routing_complexity LowCardinality(Nullable(String))
        COMMENT 'Its class of complexity.',
    routing_score Nullable(Float64)
        COMMENT 'Its score.',
    routing_query_words Nullable(Int32)
        COMMENT 'Words of the query.',
    retrieval_source_id LowCardinality(Nullable(String))
        COMMENT 'Data source. OTel: gen_ai.data_source.id.',
    retrieval_count Nullable(Int32)
        COMMENT 'Documents retrieved.',
    retrieval_duration_us Nullable(Int64)
        COMMENT 'Duration in microseconds.',
    retrieval_top_score Nullable(Float64)
        COMMENT 'Best score.',
    retrieval_mean_score Nullable(Float64)
        COMMENT 'Mean score.',
    retrieval_relevant_count Nullable(Int32)
        COMMENT 'Documents judged relevant.',
    retrieval_answered_from_context Nullable(Bool)
        COMMENT 'The answer rests on the context.',
    retrieval_context_tokens Nullable(Int64)
        COMMENT 'Tokens of the context.',
    retrieval_doc_ids Array(LowCardinality(String))
        COMMENT 'Documents. OTel: gen_ai.retrieval.documents.',
    input_chars Nullable(Int64)
        COMMENT 'Length of the prompt in characters.',
    output_chars Nullable(Int64)
        COMMENT 'Length of the answer in characters.',
    input_hash Nullable(String)
        COMMENT 'Keyed hash of the prompt, 16 hex digits.',
    output_hash Nullable(String)
        COMMENT 'Keyed hash of the answer, 16 hex digits.',
    input_language LowCardinality(Nullable(String))
        COMMENT 'BCP 47.',
    training_allowed Nullable(Bool)
        COMMENT 'May be exported for training; null means no.',
    sample_rate Float64
        COMMENT 'Probability with which such a call is kept, over 0 to 1.',
    head_sampled Bool
        COMMENT 'False when kept only because it failed: counts in sums, never in a decision.',
    tags Array(LowCardinality(String))
        COMMENT 'Free words; never a dimension.',
    attributes Map(LowCardinality(String), String)
        COMMENT 'At most 32 further facts.',
    has_content Bool
        COMMENT 'The bodies were sent, and stand in call_bodies.',
    cost_usd Nullable(Decimal(18, 9))
        COMMENT 'Cost in USD by our price table; NULL when a price is unknown. 0 for free and not called.',
    cost_status LowCardinality(String)
        COMMENT 'priced, unpriced, free or not_called.',
    price_version LowCardinality(String)
        COMMENT 'Hash of the price table; llm.prices holds it.',
    comparable Bool ALIAS traffic = 'live' AND ifNull(assignment_reason, '') NOT IN ('targeting_match', 'default') AND attempt = 1 AND NOT cache_hit AND head_sampled
        COMMENT 'May decide a rollout: live, assigned by a split, first attempt, no cache hit, not kept only because it failed.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1,
    INDEX by_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_trace_id trace_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_session_id session_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(ts)
ORDER BY (tenant, app, toStartOfHour(ts), request_model, event_id)
SETTINGS non_replicated_deduplication_window = 30000
COMMENT 'LLM calls: a row a request and its answer, without bodies.';

CREATE TABLE IF NOT EXISTS call_bodies
(
    event_id String
        COMMENT 'The call.',
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    app LowCardinality(String)
        COMMENT 'The service.',
    ts DateTime64(6, 'UTC')
        COMMENT 'Event time, as windows count it: the time reported, at most 1 s after append_ts.' CODEC(Delta, ZSTD),
    input Nullable(String)
        COMMENT 'The prompt.' CODEC(ZSTD(3)),
    output Nullable(String)
        COMMENT 'The answer.' CODEC(ZSTD(3)),
    context Nullable(String)
        COMMENT 'Retrieved context; faithfulness needs it.' CODEC(ZSTD(3)),
    ref Nullable(String)
        COMMENT 'Where the body is kept instead.',
    bytes Int64
        COMMENT 'Size before truncation, in bytes.',
    truncated Bool
        COMMENT 'Something was cut.',
    masked_count Int32
        COMMENT 'Places that were masked.',
    mask_policy LowCardinality(Nullable(String))
        COMMENT 'Name of the masking policy.',
    training_allowed Nullable(Bool)
        COMMENT 'May be exported for training; null means no.',
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
PARTITION BY toYYYYMMDD(append_ts)
ORDER BY (tenant, app, event_id)
TTL toDateTime(append_ts) + INTERVAL 14 DAY
SETTINGS non_replicated_deduplication_window = 30000, ttl_only_drop_parts = 1
COMMENT 'Bodies of calls, opt-in and masked by the application, kept for 14 days after they came.';

CREATE TABLE IF NOT EXISTS feedback
(
    event_id String
        COMMENT 'Own id, UUIDv7.',
    ts DateTime64(6, 'UTC')
        COMMENT 'Event time, as windows count it: the time reported, at most 1 s after append_ts.' CODEC(Delta, ZSTD),
    ts_reported DateTime64(6, 'UTC')
        COMMENT 'When it was given; its window is that of this time.' CODEC(Delta, ZSTD),
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    producer_id LowCardinality(Nullable(String))
        COMMENT 'UUID of the producing process.',
    seq Nullable(Int64)
        COMMENT 'Number among its producer''s events, without gaps.',
    source LowCardinality(String)
        COMMENT 'Where the event came from.',
    name LowCardinality(String)
        COMMENT 'What was asked or observed, such as helpful, copied or escalated.',
    target_event_id Nullable(String)
        COMMENT 'The call; exactly one target is given.',
    target_session_id Nullable(String)
        COMMENT 'The session.',
    value Nullable(Float64)
        COMMENT 'Value.',
    scale_min Nullable(Float64)
        COMMENT 'Lowest possible value.',
    scale_max Nullable(Float64)
        COMMENT 'Highest possible value.',
    label LowCardinality(Nullable(String))
        COMMENT 'Label.',
    tags Array(LowCardinality(String))
        COMMENT 'Free words.',
    attributes Map(LowCardinality(String), String)
        COMMENT 'Further facts.',
    app LowCardinality(Nullable(String))
        COMMENT 'The call''s app.',
    environment LowCardinality(Nullable(String))
        COMMENT 'The call''s environment.',
    deployment LowCardinality(Nullable(String))
        COMMENT 'The call''s deployment.',
    variant LowCardinality(Nullable(String))
        COMMENT 'The call''s variant.',
    operation LowCardinality(Nullable(String))
        COMMENT 'The call''s operation.',
    provider LowCardinality(Nullable(String))
        COMMENT 'The call''s provider.',
    request_model LowCardinality(Nullable(String))
        COMMENT 'The call''s request_model.',
    prompt_name LowCardinality(Nullable(String))
        COMMENT 'The call''s prompt_name.',
    prompt_version LowCardinality(Nullable(String))
        COMMENT 'The call''s prompt_version.',
    segment LowCardinality(Nullable(String))
        COMMENT 'The call''s segment.',
    experiment LowCardinality(Nullable(String))
        COMMENT 'The call''s experiment.',
    traffic LowCardinality(Nullable(String))
        COMMENT 'The call''s traffic.',
    call_ts_end Nullable(DateTime64(6, 'UTC'))
        COMMENT 'The call''s ts_end; only the call-time view uses it.',
    assignment_hash Nullable(Int64)
        COMMENT 'The call''s assignment_hash.',
    assignment_revision Nullable(Int64)
        COMMENT 'The call''s assignment_revision, when its reason was split: which stratum.',
    comparable Nullable(Bool)
        COMMENT 'The call may decide.',
    kind LowCardinality(String)
        COMMENT 'thumbs, stars, score, label, comment, correction or implicit.',
    positive Nullable(Bool)
        COMMENT 'Satisfied; thumbs as they are, stars from 4 yes and up to 2 no.',
    comment Nullable(String)
        COMMENT 'Opt-in, masked.' CODEC(ZSTD(3)),
    correction Nullable(String)
        COMMENT 'Opt-in, masked.' CODEC(ZSTD(3)),
    given_by LowCardinality(String)
        COMMENT 'user, reviewer or system; implicit signals are names such as edited or regenerated.',
    user_hash Nullable(String)
        COMMENT 'Keyed hash of the giver.',
    retracted Bool
        COMMENT 'Takes back an earlier one of the same target, name, given_by and user_hash; the last ts wins.',
    training_allowed Nullable(Bool)
        COMMENT 'May be exported for training; null means no.',
    has_series Bool
        COMMENT 'The call''s series came with it; only such records are in windows.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1,
    INDEX by_target target_event_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, name, toStartOfHour(ts), event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Feedback as given: a row a record. A record that came without the series of its call may come again with it, see feedback_given.';

CREATE TABLE IF NOT EXISTS evaluations
(
    event_id String
        COMMENT 'Own id, UUIDv7.',
    ts DateTime64(6, 'UTC')
        COMMENT 'Event time, as windows count it: the time reported, at most 1 s after append_ts.' CODEC(Delta, ZSTD),
    ts_reported DateTime64(6, 'UTC')
        COMMENT 'When it was made; its window is that of this time.' CODEC(Delta, ZSTD),
    tenant LowCardinality(String)
        COMMENT 'Owner.',
    producer_id LowCardinality(Nullable(String))
        COMMENT 'UUID of the producing process.',
    seq Nullable(Int64)
        COMMENT 'Number among its producer''s events, without gaps.',
    source LowCardinality(String)
        COMMENT 'Where the event came from.',
    name LowCardinality(String)
        COMMENT 'What was evaluated. OTel: gen_ai.evaluation.name.',
    target_event_id Nullable(String)
        COMMENT 'The call; exactly one target is given.',
    target_session_id Nullable(String)
        COMMENT 'The session.',
    value Nullable(Float64)
        COMMENT 'Score. OTel: gen_ai.evaluation.score.value.',
    scale_min Nullable(Float64)
        COMMENT 'Lowest possible value.',
    scale_max Nullable(Float64)
        COMMENT 'Highest possible value.',
    label LowCardinality(Nullable(String))
        COMMENT 'Label. OTel: gen_ai.evaluation.score.label.',
    tags Array(LowCardinality(String))
        COMMENT 'Free words.',
    attributes Map(LowCardinality(String), String)
        COMMENT 'Further facts.',
    app LowCardinality(Nullable(String))
        COMMENT 'The call''s app.',
    environment LowCardinality(Nullable(String))
        COMMENT 'The call''s environment.',
    deployment LowCardinality(Nullable(String))
        COMMENT 'The call''s deployment.',
    variant LowCardinality(Nullable(String))
        COMMENT 'The call''s variant.',
    operation LowCardinality(Nullable(String))
        COMMENT 'The call''s operation.',
    provider LowCardinality(Nullable(String))
        COMMENT 'The call''s provider.',
    request_model LowCardinality(Nullable(String))
        COMMENT 'The call''s request_model.',
    prompt_name LowCardinality(Nullable(String))
        COMMENT 'The call''s prompt_name.',
    prompt_version LowCardinality(Nullable(String))
        COMMENT 'The call''s prompt_version.',
    segment LowCardinality(Nullable(String))
        COMMENT 'The call''s segment.',
    experiment LowCardinality(Nullable(String))
        COMMENT 'The call''s experiment.',
    traffic LowCardinality(Nullable(String))
        COMMENT 'The call''s traffic.',
    call_ts_end Nullable(DateTime64(6, 'UTC'))
        COMMENT 'The call''s ts_end; only the call-time view uses it.',
    assignment_hash Nullable(Int64)
        COMMENT 'The call''s assignment_hash.',
    assignment_revision Nullable(Int64)
        COMMENT 'The call''s assignment_revision, when its reason was split: which stratum.',
    comparable Nullable(Bool)
        COMMENT 'The call may decide.',
    kind LowCardinality(String)
        COMMENT 'judge, assertion, heuristic, human, guardrail, pairwise or custom.',
    status LowCardinality(String)
        COMMENT 'ok, error or skipped: a failed judge is no failed answer.',
    passed Nullable(Bool)
        COMMENT 'The answer passed.',
    threshold Nullable(Float64)
        COMMENT 'The value that divides pass from fail.',
    higher_is_better Bool
        COMMENT 'False for such as hallucination.',
    explanation Nullable(String)
        COMMENT 'Opt-in. OTel: gen_ai.evaluation.explanation.' CODEC(ZSTD(3)),
    evaluator LowCardinality(String)
        COMMENT 'Who evaluated.',
    evaluator_version LowCardinality(Nullable(String))
        COMMENT 'Its version.',
    judge_provider LowCardinality(Nullable(String))
        COMMENT 'Provider of the judge''s model.',
    judge_model LowCardinality(Nullable(String))
        COMMENT 'The judge''s model.',
    judge_prompt_version LowCardinality(Nullable(String))
        COMMENT 'Version of the judge''s prompt.',
    judge_event_id Nullable(String)
        COMMENT 'The judge''s own call (traffic eval): its cost is counted there, once.',
    cost_usd Nullable(Decimal(18, 9))
        COMMENT 'Cost in USD, only without judge_event_id.',
    input_tokens Nullable(Int64)
        COMMENT 'Tokens in, only without judge_event_id.',
    output_tokens Nullable(Int64)
        COMMENT 'Tokens out, only without judge_event_id.',
    duration_us Nullable(Int64)
        COMMENT 'Duration in microseconds, only without judge_event_id.',
    run_id Nullable(String)
        COMMENT 'Evaluation run.',
    dataset LowCardinality(Nullable(String))
        COMMENT 'Data set, instead of a call.',
    dataset_version LowCardinality(Nullable(String))
        COMMENT 'Version of the data set.',
    dataset_item_id Nullable(String)
        COMMENT 'Item of the data set: the target when there is no call.',
    trial Nullable(Int32)
        COMMENT 'Number of the trial.',
    compared_event_id Nullable(String)
        COMMENT 'The other call of a pairwise or shadow comparison.',
    stage LowCardinality(Nullable(String))
        COMMENT 'Stage of a guardrail that ran in the stream.',
    action LowCardinality(Nullable(String))
        COMMENT 'What was done.',
    categories Array(LowCardinality(String))
        COMMENT 'Categories.',
    sample_rate Float64
        COMMENT 'Share of calls that is judged.',
    has_series Bool
        COMMENT 'The call''s series came with it; only such records are in windows.',
    append_ts DateTime64(3, 'UTC')
        COMMENT 'When Kafka appended the event, by the broker''s clock.' CODEC(Delta, ZSTD),
    _topic_id LowCardinality(String)
        COMMENT 'Kafka''s id of the source topic.',
    _partition UInt16
        COMMENT 'Source partition.',
    _offset UInt64
        COMMENT 'Source offset. A row a topic id, partition and offset, that is what the audit counts.' CODEC(Delta, ZSTD),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1,
    INDEX by_target target_event_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, name, toStartOfHour(ts), event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Evaluations as made: a row a record. A record that came without the series of its call may come again with it.';
