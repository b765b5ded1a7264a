"""The event that everything rests on: one LLM request and its answer."""

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(slots=True, kw_only=True)
class UsageOther:
    """A billed quantity other than plain tokens."""

    unit: str
    quantity: float


@dataclass(slots=True, kw_only=True)
class Guardrail:
    """What one guardrail said of a call, and what the app did about it."""

    name: str
    stage: str
    triggered: bool | None = None
    action: str = "none"
    result_raw: str | None = None
    categories: list[str] = field(default_factory=list)
    score: float | None = None
    duration_us: int | None = None
    policy_version: str | None = None


@dataclass(slots=True, kw_only=True)
class Routing:
    """How a model router chose the model."""

    router: str
    complexity: str | None = None
    score: float | None = None
    query_words: int | None = None


@dataclass(slots=True, kw_only=True)
class Retrieval:
    """What retrieval brought to a call."""

    source_id: str | None = None
    count: int
    duration_us: int | None = None
    top_score: float | None = None
    mean_score: float | None = None
    relevant_count: int | None = None
    answered_from_context: bool | None = None
    context_tokens: int | None = None
    doc_ids: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Content:
    """Bodies, masked before they leave the app."""

    input: str | None = None
    output: str | None = None
    context: str | None = None
    ref: str | None = None
    bytes: int
    truncated: bool = False
    masked_count: int = 0
    mask_policy: str | None = None


@dataclass(slots=True, kw_only=True)
class Attribute:
    """One further fact."""

    key: str
    value: str


@dataclass(slots=True, kw_only=True)
class LLMCall:
    """One LLM request and its answer, or one agent step that wraps several."""

    event_id: str = ""
    producer_id: str | None = None
    seq: int | None = None
    source: str = "sdk"
    ts_start: int
    ts_end: int
    ttft_us: int | None = None
    queue_us: int | None = None
    gateway_us: int | None = None
    tenant: str = ""
    app: str = ""
    app_version: str | None = None
    environment: str = ""
    segment: str | None = None
    budget_keys: list[str] = field(default_factory=list)
    session_id: str | None = None
    user_hash: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    deployment: str = ""
    variant: str = ""
    experiment: str | None = None
    assignment_unit: str | None = None
    assignment_hash: int | None = None
    assignment_reason: str | None = None
    assignment_revision: int | None = None
    traffic: str = "live"
    shadow_of: str | None = None
    operation: str
    is_leaf: bool = True
    provider: str
    request_model: str
    response_model: str | None = None
    model_version: str | None = None
    response_id: str | None = None
    server_address: str | None = None
    region: str | None = None
    service_tier: str | None = None
    stream: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    reasoning_level: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    prompt_hash: str | None = None
    config_version: str | None = None
    agent_name: str | None = None
    agent_version: str | None = None
    workflow: str | None = None
    tools_offered: list[str] = field(default_factory=list)
    tools_called: list[str] = field(default_factory=list)
    attempt: int = 1
    retry_of: str | None = None
    fallback_from: str | None = None
    cache_hit: bool = False
    status: str
    error_type: str | None = None
    error_code: str | None = None
    http_status: int | None = None
    error_message: str | None = None
    finish_reasons: list[str] = field(default_factory=list)
    outcome: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_other: list[UsageOther] = field(default_factory=list)
    usage_source: str | None = None
    usage_raw: str | None = None
    reported_cost_usd: Decimal | None = None
    guardrails: list[Guardrail] = field(default_factory=list)
    routing: Routing | None = None
    retrieval: Retrieval | None = None
    input_chars: int | None = None
    output_chars: int | None = None
    input_hash: str | None = None
    output_hash: str | None = None
    input_language: str | None = None
    content: Content | None = None
    training_allowed: bool | None = None
    sample_rate: float = 1.0
    head_sampled: bool = True
    tags: list[str] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)
