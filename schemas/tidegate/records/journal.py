"""The one order that stage 2 decides from."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Frame:
    """Rows of one kind."""

    kind: str
    rows: bytes


@dataclass(slots=True, kw_only=True)
class PartialBatch:
    """What a range of source offsets adds to the metrics of one journal partition."""

    topic_id: str
    topic: str
    partition: int
    lo: int
    hi: int
    part: int
    parts: int
    digest: int
    prices: str
    unresolved: int = 0
    frames: list[Frame] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class SourceProgress:
    """How far one source partition has come."""

    topic_id: str
    topic: str
    partition: int
    next_offset: int
    watermark: int | None = None
    at_end: bool = False
    end: int | None = None


@dataclass(slots=True, kw_only=True)
class Heartbeat:
    """How far stage 1 has come: carries the watermarks."""

    worker: str
    epoch: int
    sources: list[SourceProgress] = field(default_factory=list)
    partition_count: int
    feedback_partition_count: int = 0
    evaluations_partition_count: int = 0
    ts: int


@dataclass(slots=True, kw_only=True)
class EndOfStream:
    """The end of a replay: raises the watermark of its partition of llm.calls to ts, no further."""

    run_id: str
    ts: int


@dataclass(slots=True, kw_only=True)
class JournalRollout:
    """A rollout's specification, in the order of the journal."""

    topic_id: str
    topic: str
    partition: int
    lo: int
    hi: int
    part: int
    parts: int
    digest: int
    record: bytes


@dataclass(slots=True, kw_only=True)
class JournalAction:
    """A manual action, in the order of the journal."""

    topic_id: str
    topic: str
    partition: int
    lo: int
    hi: int
    part: int
    parts: int
    digest: int
    record: bytes
