ALTER TABLE window_metrics MODIFY COLUMN feedback Array(Tuple(
    name LowCardinality(String),
    n Int64,
    positive Int64,
    negative Int64,
    sum Float64,
    sumsq Float64));
ALTER TABLE window_metrics MODIFY COLUMN evaluations Array(Tuple(
    name LowCardinality(String),
    n Int64,
    errors Int64,
    passed Int64,
    failed Int64,
    sum Float64,
    sumsq Float64));
