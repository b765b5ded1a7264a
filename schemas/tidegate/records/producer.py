"""The left side of the ledger: a producer's own account."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class SeqRange:
    """A range of seq, both ends included."""

    from_seq: int
    to_seq: int


@dataclass(slots=True, kw_only=True)
class DroppedCount:
    """Events that were refused or dropped for one reason."""

    reason: str
    count: int


@dataclass(slots=True, kw_only=True)
class ProducerReport:
    """The left side of the ledger: what a producing process knows of its own events."""

    producer_id: str
    tenant: str
    app: str
    sdk_version: str
    host: str
    report_seq: int
    ts: int
    final: bool = False
    accepted: int
    delivered: int
    last_seq: int | None = None
    failed: list[SeqRange] = field(default_factory=list)
    dropped: list[DroppedCount] = field(default_factory=list)
