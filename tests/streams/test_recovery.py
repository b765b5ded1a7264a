"""Whatever is killed between any two writes, what was published is what one uninterrupted run publishes.

A model of the shell around the fold: processes write to topics one message at a time, so that any may be
stopped before the next, for good or to come back as a zombie that still believes the partition to be its own.
"""

import os
from collections.abc import Iterator
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.streams.conftest import Journal
from tests.streams.folding import SECOND, START, rollout

from tidegate.codec import encode
from tidegate.records import (
    Alert,
    DeploymentCommand,
    DeploymentStatus,
    RolloutAction,
    RolloutProgress,
    WindowMetricsBatch,
)
from tidegate_streams import fold, snapshots
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.published import Published
from tidegate_streams.snapshots import Source

SOURCE = Source("journal", 0, "release")
RULES = fold.Rules(allowed_lateness_us=10 * SECOND, series_cap=3)
EXAMPLES = int(os.environ.get("RECOVERY_EXAMPLES", "4"))
"""A second each; for a change of what is kept, run hundreds."""

EVERY = 3
"""A snapshot after so many messages."""


def action(kind: str, number: int) -> bytes:
    return encode(
        RolloutAction(
            action_id=f"a{number}",
            key="acme/prod/chat",
            generation=1,
            action=kind,
            actor="grace",
            reason="so",
            ts=START,
        )
    )


def script() -> list[Any]:
    """A rollout, paused and rolled back; late calls, an overflow, a range in parts, actions sent twice."""
    made = Journal()

    def calls(second: int, n: int = 12) -> list[Any]:
        variants = [{"variant": f"v{1 + i % 2}"} for i in range(n)]
        return [
            Journal.Call(
                ts_us=START + second * SECOND, revision=1, status=status, dimensions=variant, user="ada"
            )
            for variant in variants
            for status in ("error" if variant["variant"] == "v2" else "ok",)
        ]

    begun = [made.beat(START), made.rollout(encode(rollout())), *made.calls(calls(1))]
    pause = made.action(action("pause", 1))
    first, second = made.calls(calls(12), parts=2)
    too_many = [Journal.Call(ts_us=START + 21 * SECOND, dimensions={"app": f"a{i}"}) for i in range(6)]
    return [
        *begun,
        pause,
        made.beat(START + 10 * SECOND),
        first,
        pause,
        made.action(action("resume", 2)),
        made.beat(START + 11 * SECOND),
        made.action(action("pause", 1)),
        made.ratings("feedback", [(calls(22)[0], "thumbs", True)]),
        made.beat(START + 12 * SECOND),
        second,
        *made.calls(calls(2)),
        *made.calls(too_many),
        made.beat(START + 20 * SECOND),
        *made.calls(calls(23, 60)),
        made.beat(START + 30 * SECOND),
        *made.calls(calls(32, 60)),
        made.beat(START + 50 * SECOND),
        made.action(action("abort", 3)),
        made.beat(START + 90 * SECOND),
    ]


class Kafka:
    """Logs: the journal, of which retention deletes the beginning, what is published, and what is kept."""

    def __init__(self, journal: list[Any]) -> None:
        self.journal = journal
        self.begins_at = 0
        self.end = 0
        self.topics: list[Any] = []
        self.kept: list[bytes] = []

    def usable(self) -> tuple[int, bytes] | None:
        return snapshots.newest(self.kept, SOURCE, self.begins_at, self.end)


def process(kafka: Kafka) -> Iterator[str]:
    """One assignment; it says what it is about to write, and writes when it is asked for the next."""
    known = Published()
    for record in kafka.topics:
        known.note(record)
    offset, state = kafka.begins_at, None
    found = kafka.usable()
    if found is not None:
        resumed = thaw(found[1])
        if known.agrees(found[0], resumed):
            offset, state = found[0], resumed
    if state is None:
        state = fold.State(0, RULES, offset, known.pasts(0), known.overflows())
    kept = offset
    yield "begun"
    while True:
        while offset >= kafka.end:
            yield "idle"
        if offset < kafka.begins_at:
            return
        windows = offset >= known.windows.get(0, -1)
        for record in fold.apply(state, offset, kafka.journal[offset], windows=windows):
            if known.lacks(record):
                yield type(record).__name__
                kafka.topics.append(record)
                known.note(record)
        offset += 1
        if offset - kept >= EVERY:
            state.gather()
            kept, packed = offset, freeze(state).pack()
            for piece in snapshots.cut(SOURCE, offset, packed, limit=len(packed) // 2 + 1):
                yield "snapshot"
                kafka.kept.append(piece)


class Recovery(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.zombies: list[Iterator[str]] = []

    @initialize(data=st.data())
    def start(self, data: Any) -> None:
        journal = script()
        for _ in range(data.draw(st.integers(0, 3))):
            repeated = data.draw(st.integers(0, len(journal) - 2))
            journal.insert(data.draw(st.integers(repeated + 1, len(journal) - 1)), journal[repeated])
        self.kafka = Kafka(journal)
        straight = Kafka(journal)
        straight.end = len(journal)
        for written in process(straight):
            if written == "idle":
                break
        self.expected = straight.topics
        self.present = process(self.kafka)

    def go_on(self, one: Iterator[str], writes: int) -> None:
        for _ in range(writes):
            if next(one, "idle") == "idle":
                return

    @rule(more=st.integers(1, 8), writes=st.integers(0, 40))
    def work(self, more: int, writes: int) -> None:
        self.kafka.end = min(self.kafka.end + more, len(self.kafka.journal))
        self.go_on(self.present, writes)

    @rule()
    def kill(self) -> None:
        self.present = process(self.kafka)

    @rule()
    def freeze_it_and_let_another_take_over(self) -> None:
        self.zombies.append(self.present)
        self.present = process(self.kafka)

    @precondition(lambda self: self.zombies)
    @rule(which=st.integers(0, 3), writes=st.integers(1, 8))
    def wake_a_zombie(self, which: int, writes: int) -> None:
        self.go_on(self.zombies[which % len(self.zombies)], writes)

    @rule()
    def delete_the_journal_behind_the_newest_snapshot(self) -> None:
        found = self.kafka.usable()
        if found is not None:
            self.kafka.begins_at = found[0]

    @precondition(lambda self: self.kafka.kept and self.kafka.begins_at == 0)
    @rule(which=st.integers(0, 100), place=st.integers(0, 2_000), bit=st.integers(0, 7))
    def damage_a_snapshot(self, which: int, place: int, bit: int) -> None:
        which %= len(self.kafka.kept)
        piece = bytearray(self.kafka.kept[which])
        piece[place % len(piece)] ^= 1 << bit
        self.kafka.kept[which] = bytes(piece)

    @invariant()
    def nothing_else_is_published(self) -> None:
        if hasattr(self, "kafka"):
            assert {encode(one) for one in self.kafka.topics} <= {encode(one) for one in self.expected}

    def teardown(self) -> None:
        if not hasattr(self, "kafka"):
            return
        self.kafka.end = len(self.kafka.journal)
        self.present = process(self.kafka)
        self.go_on(self.present, 1_000)
        for kind in (DeploymentCommand, DeploymentStatus, Alert, WindowMetricsBatch):
            assert distinct(kind, self.kafka.topics) == distinct(kind, self.expected)
        # Of progress only the newest counts.
        assert (
            distinct(RolloutProgress, self.kafka.topics)[-1] == distinct(RolloutProgress, self.expected)[-1]
        )


def distinct(kind: type, records: list[Any]) -> list[bytes]:
    """Records of a kind in the order in which they were first there."""
    return list(dict.fromkeys(encode(record) for record in records if isinstance(record, kind)))


TestRecovery = Recovery.TestCase
TestRecovery.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=12, deadline=None, phases=[Phase.generate]
)
