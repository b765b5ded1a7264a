-- Questions people ask first. Views read facts as they are; the one that needs FINAL takes bounds in time.

CREATE VIEW IF NOT EXISTS usage_by_hour
AS SELECT
    toStartOfHour(ts) AS hour,
    tenant,
    environment,
    app,
    provider,
    request_model,
    traffic,
    count() AS calls,
    countIf(status NOT IN ('ok', 'filtered')) AS failed_calls,
    sumIf(input_tokens, is_leaf) AS input_tokens,
    sumIf(output_tokens, is_leaf) AS output_tokens,
    sumIf(cost_usd, is_leaf) AS cost_usd,
    countIf(cost_status = 'unpriced') AS unpriced_calls,
    quantileTDigest(0.5)(latency_us) / 1000 AS latency_p50_ms,
    quantileTDigest(0.95)(latency_us) / 1000 AS latency_p95_ms
FROM calls
GROUP BY hour, tenant, environment, app, provider, request_model, traffic
COMMENT 'Calls, tokens, cost in USD and latency in milliseconds by hour and model. cost_usd leaves out unpriced_calls.';

CREATE VIEW IF NOT EXISTS variant_health
AS SELECT
    tenant,
    environment,
    deployment,
    variant,
    experiment,
    assignment_revision,
    count() AS calls,
    min(ts) AS first_ts,
    max(ts) AS last_ts,
    countIf(status IN ('error', 'timeout')) / calls AS error_share,
    countIf(outcome = 'abstained') / nullIf(countIf(outcome IS NOT NULL), 0) AS abstained_share,
    countIf(outcome = 'refused') / nullIf(countIf(outcome IS NOT NULL), 0) AS refused_share,
    quantileTDigest(0.5)(latency_us) / 1000 AS latency_p50_ms,
    quantileTDigest(0.95)(latency_us) / 1000 AS latency_p95_ms,
    avg(output_tokens) AS output_tokens_per_call,
    avg(cost_usd) AS cost_usd_per_call
FROM calls
WHERE comparable
GROUP BY tenant, environment, deployment, variant, experiment, assignment_revision
COMMENT 'What a rollout compares: the calls that may decide, by variant and by the revision of the command that they obeyed.';

CREATE VIEW IF NOT EXISTS current_deployments
AS SELECT
    tenant,
    environment,
    deployment,
    rollout,
    revision,
    action,
    state,
    step,
    weights,
    reason,
    actor,
    ts
FROM deployment_commands
WHERE NOT dry_run
ORDER BY revision DESC
LIMIT 1 BY tenant, environment, deployment
COMMENT 'What each deployment should serve: the command with the highest revision.';

CREATE VIEW IF NOT EXISTS feedback_given
AS SELECT *
FROM
(
    SELECT *
    FROM
    (
        SELECT * FROM feedback
        ORDER BY has_series DESC
        LIMIT 1 BY event_id
    )
    ORDER BY ts DESC, event_id DESC
    LIMIT 1 BY tenant, target_event_id, target_session_id, name, given_by, user_hash
)
WHERE NOT retracted
COMMENT 'Feedback that holds: each record once, with its series where it came, the last one of a giver, without what was taken back.';

CREATE VIEW IF NOT EXISTS commands_answered
AS SELECT
    commands.tenant AS tenant,
    commands.environment AS environment,
    commands.deployment AS deployment,
    commands.revision AS revision,
    commands.action AS action,
    commands.reason AS reason,
    commands.ts AS ts,
    answers.applier AS applier,
    answers.status AS status,
    answers.detail AS detail,
    answers.ts AS answered_ts
FROM deployment_commands AS commands
LEFT JOIN deployment_status AS answers ON commands.command_id = answers.command_id
SETTINGS join_use_nulls = 1
COMMENT 'Every command with what appliers answered; no applier where nobody has answered.';

CREATE VIEW IF NOT EXISTS windows_between
AS SELECT *
FROM window_metrics FINAL
WHERE window_start >= {since:DateTime64(6, 'UTC')} AND window_start < {until:DateTime64(6, 'UTC')}
COMMENT 'Windows that start in [since, until), each once: FROM windows_between(since = ''2026-01-01'', until = ''2026-01-02'').';
