"""Metrics of windows."""

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(slots=True, kw_only=True)
class WindowMetricsBatch:
    """Windows that changed with one journal message."""

    partition: int
    offset: int
    watermark: int | None = None
    rows: bytes


@dataclass(slots=True, kw_only=True)
class GuardrailCount:
    """Counts of one guardrail."""

    name: str
    stage: str
    checked: int
    triggered: int
    blocked: int


@dataclass(slots=True, kw_only=True)
class FeedbackCount:
    """Counts of one kind of feedback."""

    name: str
    n: int
    positive: int
    negative: int
    valued: int | None = None
    sum: float
    sumsq: float


@dataclass(slots=True, kw_only=True)
class EvaluationCount:
    """Counts of one evaluation."""

    name: str
    n: int
    errors: int
    passed: int
    failed: int
    valued: int | None = None
    sum: float
    sumsq: float


@dataclass(slots=True, kw_only=True)
class ErrorTypeCount:
    """Count of one error type."""

    type: str
    n: int


@dataclass(slots=True, kw_only=True)
class Distribution:
    """A log-bucket histogram and its quantiles."""

    metric: str
    n: int
    sum: Decimal
    sumsq: float
    min: float
    max: float
    p50: float
    p90: float
    p95: float
    p99: float
    gamma: float
    zeros: int
    index: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class WindowMetrics:
    """One window of one roll-up: a full, versioned upsert."""

    rollup: str
    series_id: int
    tenant: str
    environment: str
    app: str
    deployment: str
    variant: str
    operation: str
    provider: str
    request_model: str
    prompt_name: str
    prompt_version: str
    traffic: str
    window: str
    window_start: int
    window_end: int
    version: int
    phase: str
    watermark: int | None = None
    calls: int
    comparable: int
    status_ok: int
    status_error: int
    status_timeout: int
    status_cancelled: int
    status_rate_limited: int
    status_filtered: int
    status_other: int
    cache_hits: int
    retries: int
    outcome_answered: int
    outcome_abstained: int
    outcome_refused: int
    outcome_empty: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    tokens_unreported: int
    priced: int
    unpriced: int
    late: int
    clamped: int
    weighted_calls: float
    cost_usd: Decimal | None = None
    users_estimate: int | None = None
    guardrails: list[GuardrailCount] = field(default_factory=list)
    feedback: list[FeedbackCount] = field(default_factory=list)
    evaluations: list[EvaluationCount] = field(default_factory=list)
    error_types: list[ErrorTypeCount] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
