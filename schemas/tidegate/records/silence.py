"""Alerts that nobody is told of for a while."""

from dataclasses import dataclass, field

from tidegate.records.alert import KeyValue


@dataclass(slots=True, kw_only=True)
class Silence:
    """Alerts that nobody is told of for a while. The last record of a silence holds."""

    silence_id: str
    matchers: list[KeyValue] = field(default_factory=list)
    starts_at: int
    ends_at: int
    actor: str
    reason: str
    ts: int
