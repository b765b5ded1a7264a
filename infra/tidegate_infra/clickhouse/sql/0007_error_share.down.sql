-- As before.

CREATE OR REPLACE VIEW variant_health
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
