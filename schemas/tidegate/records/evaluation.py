"""What judges, assertions and reviewers find of an answer."""

from dataclasses import dataclass, field
from decimal import Decimal

from tidegate.records.call import Attribute
from tidegate.records.feedback import Series


@dataclass(slots=True, kw_only=True)
class Evaluation:
    """What a judge, an assertion or a reviewer found of an answer."""

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
    status: str = "ok"
    passed: bool | None = None
    threshold: float | None = None
    higher_is_better: bool = True
    explanation: str | None = None
    evaluator: str
    evaluator_version: str | None = None
    judge_provider: str | None = None
    judge_model: str | None = None
    judge_prompt_version: str | None = None
    judge_event_id: str | None = None
    cost_usd: Decimal | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    duration_us: int | None = None
    run_id: str | None = None
    dataset: str | None = None
    dataset_version: str | None = None
    dataset_item_id: str | None = None
    trial: int | None = None
    compared_event_id: str | None = None
    stage: str | None = None
    action: str | None = None
    categories: list[str] = field(default_factory=list)
    sample_rate: float = 1.0
