"""Journals made by hand: what stage 1 would write about calls that a test lists."""

import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tidegate import topics
from tidegate.records import (
    Frame,
    Heartbeat,
    JournalAction,
    JournalRollout,
    PartialBatch,
    SourceProgress,
)
from tidegate.series import DIMENSIONS
from tidegate_streams import histogram, partials, published, users
from tidegate_streams.aggregate.columns import pane
from tidegate_streams.published import Published
from tidegate_streams.waits import call_time

# What several files of tests share stands in modules of its own beside them, found from the root.
sys.path.insert(0, str(Path(__file__).parents[2]))


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call, as far as windows tell calls apart."""

    ts_us: int
    latency_us: int = 100_000
    cost_nano: int | None = None
    status: str = "ok"
    user: str | None = None
    revision: int | None = None
    comparable: bool = True
    dimensions: dict[str, str] = field(default_factory=dict)

    @property
    def series(self) -> dict[str, str]:
        """Its dimensions, all of them."""
        usual = {"tenant": "acme", "environment": "prod", "app": "chat"}
        usual |= {"deployment": "chat", "variant": "v1"}
        usual |= {"operation": "chat", "provider": "openai", "request_model": "gpt-4", "traffic": "live"}
        return {name: (usual | self.dimensions).get(name, "") for name in DIMENSIONS}


def calls_frame(calls: Iterable[Call]) -> pl.DataFrame:
    rows = []
    for call in calls:
        row: dict[str, Any] = dict.fromkeys(partials.CALL_SUMS, 0)
        row |= {"shard": call.series["tenant"], "pane_us": call.ts_us // partials.PANE_US * partials.PANE_US}
        row |= call.series | {"comparable": call.comparable, "assignment_revision": call.revision, "aa": None}
        row |= {"calls": 1, f"status_{call.status}": 1, "weighted_calls_micro": 1_000_000}
        row |= {"priced": int(call.cost_nano is not None), "unpriced": int(call.cost_nano is None)}
        row |= {"cost_usd_nano": call.cost_nano or 0, "guardrails": [], "users": []}
        row["error_types"] = [] if call.status == "ok" else [{"type": call.status, "n": 1}]
        if call.user is not None:
            hashes = users.hash_users([f"{call.series['tenant']}\0{call.user}".encode()])
            register, rank = (values[0].item() for values in users.registers(hashes))
            row["users"] = [{"register": register, "rank": rank}]
        # Sorted by metric, as stage 1 writes them: a row that is added to no other keeps its lists.
        costs = [] if call.cost_nano is None else [_observation("cost_usd", call.cost_nano)]
        row["distributions"] = [*costs, _observation("latency_us", call.latency_us)]
        rows.append(row)
    return partials.merge(pl.DataFrame(rows, schema=partials.SCHEMAS["calls"]))


def _observation(metric: str, value: int) -> dict[str, Any]:
    buckets = [int(histogram.bucket([value])[0])] if value else []
    return {
        "metric": metric,
        "n": 1,
        "sum": value,
        "sumsq": value * value,
        "min": value,
        "max": value,
        "zeros": int(not value),
        "index": buckets,
        "counts": [1] * len(buckets),
    }


def ratings_frame(
    kind: str, ratings: Iterable[tuple[Call, str, bool]], rated_us: int | None = None
) -> pl.DataFrame:
    """Ratings at one time, or at those of their calls: call, name, whether satisfied or passed."""
    rows = []
    for call, name, good in ratings:
        row = calls_frame([call]).select(list(partials.SERIES_KEY)).to_dicts()[0]
        row |= {column: 0 for column in partials.SCHEMAS[kind] if column not in row}
        row["call_us"], row["_time"] = call.ts_us, call.ts_us if rated_us is None else rated_us
        yes, no = ("positive", "negative") if kind == "feedback" else ("passed", "failed")
        rows.append(row | {"name": name, "n": 1, yes: int(good), no: int(not good)})
    frame = pl.DataFrame(rows, schema=partials.SCHEMAS[kind] | {"_time": pl.Int64})
    told = frame.with_columns(pane(), call_time(pl.col("call_us"), pl.col("_time")))
    return partials.merge(told.drop("_time"))


class Journal:
    """Writes the messages of stage 1 for one partition of the calls and of each other source."""

    Call = Call

    def __init__(self, partition_count: int = 1) -> None:
        self.partition_count = partition_count
        self._next: dict[str, itertools.count[int]] = {}

    def _head(self, topic: str, n: int, digest: int | None = None) -> dict[str, Any]:
        offsets = self._next.setdefault(topic, itertools.count())
        taken = [next(offsets) for _ in range(max(n, 1))]
        head = {"topic_id": f"id-{topic}", "topic": topic, "partition": 0, "lo": taken[0], "hi": taken[-1]}
        return head | {"part": 0, "parts": 1, "digest": taken[0] if digest is None else digest}

    def calls(self, calls: Sequence[Call], parts: int = 1) -> list[PartialBatch]:
        """One range of calls, in so many parts."""
        head = self._head(topics.CALLS, len(calls))
        shares = [calls[part::parts] for part in range(parts)]
        return [
            PartialBatch(
                **(head | {"part": part, "parts": parts}),
                prices="",
                frames=[Frame(kind="calls", rows=partials.pack(calls_frame(share)))] if share else [],
            )
            for part, share in enumerate(shares)
        ]

    def ratings(
        self, kind: str, ratings: Sequence[tuple[Call, str, bool]], rated_us: int | None = None
    ) -> PartialBatch:
        """One range of feedback or evaluations."""
        topic = topics.FEEDBACK if kind == "feedback" else topics.EVALUATIONS
        frame = Frame(kind=kind, rows=partials.pack(ratings_frame(kind, ratings, rated_us)))
        return PartialBatch(**self._head(topic, len(ratings)), prices="", frames=[frame])

    def rollout(self, spec: bytes) -> JournalRollout:
        """A specification, as received."""
        return JournalRollout(**self._head(topics.ROLLOUTS, 1), record=spec)

    def action(self, action: bytes) -> JournalAction:
        """A manual action, as received."""
        return JournalAction(**self._head(topics.ACTIONS, 1), record=action)

    def beat(self, watermark_us: int, worker: str = "w1", partition: int = 0) -> Heartbeat:
        """What a worker says of one partition of the calls."""
        source = SourceProgress(
            topic_id=f"id-{topics.CALLS}",
            topic=topics.CALLS,
            partition=partition,
            next_offset=0,
            watermark=watermark_us,
        )
        return Heartbeat(worker=worker, epoch=1, sources=[source], partition_count=self.partition_count, ts=0)


@pytest.fixture(scope="session")
def journal() -> type[Journal]:
    """Makes journals; also `journal.Call`."""
    return Journal


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Published:
    """What stands in the output topics, for all who would read it back."""
    stands = Published()
    monkeypatch.setattr(published, "read", lambda *_: stands)
    return stands
