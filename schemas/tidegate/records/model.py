"""Registered models."""

from dataclasses import dataclass, field

from tidegate.records.alert import KeyValue


@dataclass(slots=True, kw_only=True)
class MetricValue:
    """A metric's value."""

    name: str
    value: float


@dataclass(slots=True, kw_only=True)
class Model:
    """A registered model."""

    tenant: str
    name: str
    version: str
    number: int
    provider: str
    request_model: str
    base_model: str | None = None
    artifact_uri: str | None = None
    dataset: str | None = None
    dataset_version: str | None = None
    parameters: list[KeyValue] = field(default_factory=list)
    metrics: list[MetricValue] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    protected: bool = False
    status: str
    external_ref: str | None = None
    author: str
    ts: int
