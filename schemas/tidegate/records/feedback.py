"""What people and signals say of an answer."""

from dataclasses import dataclass, field

from tidegate.records.call import Attribute


@dataclass(slots=True, kw_only=True)
class Series:
    """The call's series: all that a join would need."""

    app: str
    environment: str
    deployment: str
    variant: str
    operation: str
    provider: str
    request_model: str
    prompt_name: str | None = None
    prompt_version: str | None = None
    segment: str | None = None
    experiment: str | None = None
    traffic: str
    call_ts_end: int | None = None
    assignment_hash: int | None = None
    assignment_revision: int | None = None
    comparable: bool


@dataclass(slots=True, kw_only=True)
class Feedback:
    """What a person or a signal said of an answer."""

    event_id: str = ""
    ts: int = 0
    tenant: str = ""
    producer_id: str | None = None
    seq: int | None = None
    source: str = "sdk"
    name: str
    target_event_id: str | None = None
    target_session_id: str | None = None
    value: float | None = None
    scale_min: float | None = None
    scale_max: float | None = None
    label: str | None = None
    tags: list[str] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)
    series: Series | None = None
    kind: str
    positive: bool | None = None
    comment: str | None = None
    correction: str | None = None
    given_by: str
    user_hash: str | None = None
    retracted: bool = False
    training_allowed: bool | None = None
