"""Both demos through the real cores, without Kafka: codec, stage 1, journal, stage 2 and router in a loop."""

import dataclasses
import heapq
import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tidegate import Router, codec, topics
from tidegate.client.completion import complete
from tidegate.client.configuration import Configuration
from tidegate.client.handle import series_of
from tidegate.records import (
    DeploymentCommand,
    Evaluation,
    Heartbeat,
    JournalRollout,
    LLMCall,
    RolloutProgress,
    SourceProgress,
)
from tidegate_infra import rollout_file
from tidegate_infra.demos import DEMOS, app, recording
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.prices import PriceBook
from tidegate_streams import fold
from tidegate_streams.aggregate.work import shrink

START_US = 1_790_000_000_000_000
SPEC_US = START_US + 120_000_000
CHUNK_US = 30_000_000
"""A second at thirty times life: what a range of stage 1 holds, and how late a command is obeyed."""
CONFIGURATION = Configuration(app="survey", tenant="acme", environment="prod", kafka="none")
SEEDS = int(os.environ.get("DEMO_SEEDS", "1"))
"""Runs of each demo; DEMO_SEEDS=20 takes some minutes."""
RECORDING = recording.load()
BOOK = PriceBook.load()


@dataclasses.dataclass
class FakeMessage:
    record: Any
    at: int
    append_us: int

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return (
            self.record.event_id if isinstance(self.record, LLMCall) else self.record.target_event_id
        ).encode()

    def value(self) -> bytes:
        return codec.encode(self.record)

    def timestamp(self) -> tuple[int, int]:
        return 2, self.append_us // 1_000

    def headers(self) -> None:
        return None


class Loopback:
    """One partition of each topic, one partition of the journal."""

    def __init__(self, demo: str, seed: int) -> None:
        self.spec = dataclasses.replace(
            rollout_file.read(DEMOS[demo].spec_file), generation=1, ts=SPEC_US, actor="test"
        )
        baseline = next(v.name for v in self.spec.variants if v.role == "baseline")
        self.router = Router(self.spec.deployment, default=baseline, follow=False)
        self.seed = seed
        self.state = fold.State(0)
        self.journal = itertools.count()
        self.offsets = {topics.CALLS: itertools.count(), topics.EVALUATIONS: itertools.count()}
        self.commands: list[DeploymentCommand] = []
        self.progress: RolloutProgress | None = None
        self.calls: list[LLMCall] = []

    def run(self) -> None:
        pending: list[tuple[int, int, LLMCall]] = []
        ended: list[LLMCall] = []
        chunk_end = START_US + CHUNK_US
        applied = False
        for number, (at_us, question) in enumerate(RECORDING.arrivals(self.seed)):
            now = START_US + at_us
            while now >= chunk_end:
                while pending and pending[0][0] < chunk_end:
                    ended.append(heapq.heappop(pending)[2])
                self.settle(ended, chunk_end)
                ended, chunk_end = [], chunk_end + CHUNK_US
            if now >= SPEC_US and not applied:
                applied = True
                self.take(
                    JournalRollout(
                        topic_id="r",
                        topic=topics.ROLLOUTS,
                        partition=0,
                        lo=0,
                        hi=0,
                        part=0,
                        parts=1,
                        digest=0,
                        record=codec.encode(self.spec),
                    )
                )
            session = f"{self.seed}-{number}"
            assignment = self.router.assign(session)
            answer = RECORDING.answers[app.model_of(assignment)][question]
            call = app.call_of(answer, assignment, now, session)
            assignment.mark(call)
            heapq.heappush(pending, (call.ts_end, number, call))
        self.settle([call for _, _, call in sorted(pending)], pending[-1][0])

    def settle(self, calls: list[LLMCall], now_us: int) -> None:
        checks = []
        for call in calls:
            complete(call, CONFIGURATION, now_us)
            check = app.check_of(call)
            check.target_event_id, check.series = call.event_id, series_of(call)
            complete(check, CONFIGURATION, now_us)
            checks.append(check)
        self.calls += calls
        for entry in [*self.entries(topics.CALLS, calls), *self.entries(topics.EVALUATIONS, checks)]:
            self.take(entry)
        if calls:
            watermark = max(call.ts_end for call in calls) - 2_000_000
            source = SourceProgress(
                topic_id="c", topic=topics.CALLS, partition=0, next_offset=0, watermark=watermark
            )
            self.take(Heartbeat(worker="w", epoch=1, sources=[source], partition_count=1, ts=now_us))

    def entries(self, topic: str, records: list[LLMCall] | list[Evaluation]) -> Iterator[Any]:
        if not records:
            return
        messages = [FakeMessage(r, next(self.offsets[topic]), START_US + 10**12) for r in records]
        range_ = Range(
            topic=topic, topic_id=topic[4], partition=0, lo=messages[0].at, hi=messages[-1].at,
            messages=messages, redo=False, epoch=1, prices=BOOK.hash,
        )  # fmt: skip
        work = shrink([range_], [[False] * len(messages)], BOOK, 1)
        assert not work.dead
        yield from (codec.decode(entry.value) for entry in work.entries)

    def take(self, record: Any) -> None:
        for output in fold.apply(self.state, next(self.journal), record, windows=False):
            if isinstance(output, DeploymentCommand):
                self.commands.append(output)
                self.router.obey(output)
            elif isinstance(output, RolloutProgress):
                self.progress = output


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_healthy_change_is_promoted_and_never_rolled_back(seed: int) -> None:
    loop = Loopback("healthy", seed)
    loop.run()
    assert "rollback" not in [c.action for c in loop.commands]
    assert loop.progress is not None
    assert loop.progress.state == "succeeded", loop.progress.reason


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_snapshot_that_stops_answering_is_rolled_back_within_a_few_hundred_calls(seed: int) -> None:
    loop = Loopback("model-upgrade", seed)
    loop.run()
    assert [c.action for c in loop.commands] == ["start", "rollback"]
    start, rollback = loop.commands
    compared = [c for c in loop.calls if c.assignment_revision == start.revision and c.ts_end < rollback.ts]
    assert len(compared) < 600
    assert "abstain_rate" in rollback.reason
    assert {w.variant: w.weight_bp for w in rollback.weights} == {"march": 10_000, "june": 0}
    assert loop.progress is not None
    assert loop.progress.state == "rolled_back"
