"""What changed."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class DriftCarrier:
    """A sub-series that carries a change."""

    series: str
    share: float


@dataclass(slots=True, kw_only=True)
class DriftOpinion:
    """Another detector's opinion."""

    detector: str
    fired: bool


@dataclass(slots=True, kw_only=True)
class DriftEvent:
    """Something changed: what, from what to what, since when, how sure."""

    drift_id: str
    version: int
    phase: str
    ts: int
    rollup: str
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
    kind: str
    metric: str
    unit: str
    detector: str
    detector_version: str
    reference_kind: str
    reference_from: int
    reference_to: int
    reference_value: float
    current_value: float
    effect: float
    effect_unit: str
    log_e: float
    average_run_length: float
    changed_at: int | None = None
    changed_low: int | None = None
    changed_high: int | None = None
    ended_at: int | None = None
    n_reference: int
    n_current: int
    carriers: list[DriftCarrier] = field(default_factory=list)
    opinions: list[DriftOpinion] = field(default_factory=list)
    dry_run: bool = False
