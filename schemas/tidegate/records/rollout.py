"""What operators want: specifications and manual actions."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Freeze:
    """A time in which nothing advances."""

    starts_at: int
    ends_at: int


@dataclass(slots=True, kw_only=True)
class Filter:
    """A condition on one dimension of the series."""

    dimension: str
    op: str
    value: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Variant:
    """One of the things compared."""

    name: str
    role: str
    prompt_name: str | None = None
    prompt_version: str | None = None
    provider: str | None = None
    request_model: str | None = None
    model_version: str | None = None
    config_version: str | None = None
    app_version: str | None = None


@dataclass(slots=True, kw_only=True)
class StepOverride:
    """Margins of one metric in one step."""

    metric: str
    rollback_margin: float | None = None
    promotion_margin: float | None = None


@dataclass(slots=True, kw_only=True)
class Step:
    """One share of the candidate."""

    weight_bp: int
    mirror_bp: int = 0
    min_calls: int = 0
    min_units: int = 0
    warmup_us: int | None = None
    max_duration_us: int | None = None
    approval: bool = False
    overrides: list[StepOverride] = field(default_factory=list)
    min_duration_us: int = 0


@dataclass(slots=True, kw_only=True)
class DecisionMetric:
    """One metric that decides, with its two margins."""

    name: str
    kind: str
    quantiles: list[float] = field(default_factory=list)
    increase_is: str = "bad"
    margin_kind: str
    rollback_margin: float
    promotion_margin: float
    weight: float = 1.0
    critical: bool = False
    muted: bool = False
    min_n: int = 0
    design_effect: float | None = None


@dataclass(slots=True, kw_only=True)
class Rollout:
    """What an operator wants: the specification of a rollout. Key: tenant/environment/deployment."""

    name: str
    tenant: str
    environment: str
    deployment: str
    generation: int
    spec_hash: str
    source_yaml: str
    actor: str
    reason: str | None = None
    ts: int
    strategy: str
    assignment_unit: str
    salt: str
    dry_run: bool = False
    paused: bool = False
    min_calls: int = 0
    min_units: int = 0
    max_duration_us: int
    on_inconclusive: str = "hold"
    alpha_rollback: float = 0.01
    alpha_promotion: float = 0.05
    alpha_srm: float = 0.001
    freezes: list[Freeze] = field(default_factory=list)
    filters: list[Filter] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    metrics: list[DecisionMetric] = field(default_factory=list)
    force: bool = False


@dataclass(slots=True, kw_only=True)
class RolloutAction:
    """What a person did to a rollout: pause, resume, promote, advance, rollback, abort or approve."""

    action_id: str
    key: str
    generation: int
    action: str
    target: str | None = None
    expected_revision: int | None = None
    actor: str
    reason: str
    ts: int
    expires_at: int | None = None
