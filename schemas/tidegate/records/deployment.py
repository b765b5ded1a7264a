"""What was decided, what appliers did, and where a rollout stands."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Weight:
    """A variant's share and definition."""

    variant: str
    role: str
    weight_bp: int
    mirror_bp: int = 0
    prompt_name: str | None = None
    prompt_version: str | None = None
    provider: str | None = None
    request_model: str | None = None
    model_version: str | None = None
    config_version: str | None = None
    app_version: str | None = None


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What one metric says of one candidate."""

    metric: str
    candidate: str
    verdict: str
    n_baseline: int
    n_candidate: int
    events_baseline: int | None = None
    events_candidate: int | None = None
    value_baseline: float | None = None
    value_candidate: float | None = None
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    unit: str
    log_e_rollback: float | None = None
    log_e_promotion: float | None = None
    margin_kind: str
    rollback_margin: float
    promotion_margin: float
    alpha_rollback: float
    alpha_promotion: float
    alpha_spent: float | None = None
    muted: bool = False
    sentence: str
    design_effects: list[float] = field(default_factory=list)
    mean_baseline: float | None = None
    mean_candidate: float | None = None
    mean_change: float | None = None
    mean_change_low: float | None = None
    mean_change_high: float | None = None


@dataclass(slots=True, kw_only=True)
class SourceOffset:
    """A position in the log."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True, kw_only=True)
class DeploymentCommand:
    """The full desired state of a deployment, and why.

    Readers take the highest revision, never the last record.
    """

    command_id: str
    tenant: str
    environment: str
    deployment: str
    rollout: str
    generation: int
    revision: int
    previous_revision: int | None = None
    action: str
    state: str
    step: int
    assignment_unit: str
    salt: str
    weights: list[Weight] = field(default_factory=list)
    dry_run: bool = False
    reason: str
    actor: str
    actor_kind: str
    evidence: list[Evidence] = field(default_factory=list)
    offsets: list[SourceOffset] = field(default_factory=list)
    watermark: int | None = None
    ts: int
    expires_at: int | None = None


@dataclass(slots=True, kw_only=True)
class DeploymentStatus:
    """What an applier did with a command, or why an action was refused."""

    command_id: str
    tenant: str
    environment: str
    deployment: str
    revision: int
    applier: str
    status: str
    detail: str | None = None
    ts: int


@dataclass(slots=True, kw_only=True)
class Exposure:
    """What a variant has served in this rollout."""

    variant: str
    calls: int
    calls_step: int
    units: int | None = None


@dataclass(slots=True, kw_only=True)
class RolloutProgress:
    """Where a rollout stands after a look: the status beside the specification. Highest version wins."""

    tenant: str
    environment: str
    deployment: str
    rollout: str
    generation: int
    revision: int
    state: str
    step: int
    steps: int
    paused: bool = False
    reason: str
    weights: list[Weight] = field(default_factory=list)
    exposure: list[Exposure] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    started_at: int | None = None
    watermark: int | None = None
    looks: int = 0
    version: int
    partition: int
    self_tests: int = 0
    self_alarms: int = 0
