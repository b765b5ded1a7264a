"""What a person should know."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import xxhash


@dataclass(slots=True, kw_only=True)
class KeyValue:
    """A key and a value."""

    key: str
    value: str


@dataclass(slots=True, kw_only=True)
class Alert:
    """Something a person should know: fires, and resolves once."""

    fingerprint: str
    status: str
    rule: str
    rule_hash: str
    severity: str
    labels: list[KeyValue] = field(default_factory=list)
    annotations: list[KeyValue] = field(default_factory=list)
    starts_at: int
    ends_at: int | None = None
    value: float | None = None
    threshold: float | None = None
    unit: str | None = None
    for_us: int = 0
    generator_url: str | None = None
    runbook_url: str | None = None
    window_version: int | None = None
    cause_id: str | None = None
    suppressed_by: str | None = None
    sequence: int
    tenant: str
    ts: int
    dry_run: bool = False


def fingerprint(labels: Mapping[str, str]) -> str:
    """Identity of an alert: 16 hex digits, the same for the same labels."""
    text = "\0".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return xxhash.xxh64_hexdigest(text.encode())
