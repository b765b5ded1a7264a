from dataclasses import replace

import polars as pl
import xxhash
from confluent_kafka import Message

from tidegate import codec
from tidegate.limits import LARGEST_CONTROL_BYTES, MOST_METRICS
from tidegate.records import (
    DecisionMetric,
    JournalAction,
    JournalRollout,
    PartialBatch,
    Rollout,
    RolloutAction,
)
from tidegate.series import DIMENSIONS, shard_partition
from tidegate.topics import ACTIONS, CALLS, FEEDBACK, ROLLOUTS
from tidegate_infra.kafka.ranges import Range
from tidegate_streams import partials
from tidegate_streams.aggregate import journal
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk
from tidegate_streams.deletion import DELETE

PARTITIONS = 6
SPEC = Rollout(
    name="r",
    tenant="acme",
    environment="prod",
    deployment="chat",
    generation=3,
    spec_hash="h",
    source_yaml="",
    actor="me",
    ts=5,
    strategy="canary",
    assignment_unit="user",
    salt="s",
    max_duration_us=1,
)
ACTION = RolloutAction(
    action_id="i", key="acme/prod/chat", generation=3, action="pause", actor="me", reason="r", ts=6
)


def range_of(topic: str, lo: int, messages: list[Message]) -> Range:
    return Range(
        topic=topic,
        topic_id="T",
        partition=0,
        lo=lo,
        hi=lo + len(messages) - 1,
        messages=messages,
        redo=False,
        epoch=1,
        prices="p",
    )


def message(offset: int, key: str, value: bytes | None) -> Message:
    return Message(topic="t", partition=0, offset=offset, key=key.encode(), value=value, timestamp=(2, 1234))


def row(number: int, shard: str, variant: str, size: int = 1) -> dict:
    """Incompressible, so that the number of bytes is known."""
    noise = [xxhash.xxh32_intdigest(f"{variant}{i}".encode()) for i in range(size)]
    return {
        RANGE: number,
        "shard": shard,
        "pane_us": 0,
        **dict.fromkeys(DIMENSIONS, "x"),
        "variant": variant,
        "comparable": True,
        "assignment_revision": None,
        "aa": None,
        **dict.fromkeys(partials.CALL_SUMS, 1),
        **{name: [] for name in partials.LISTS},
        "error_types": [{"type": f"{one:x}", "n": one} for one in noise],
    }


def shrunk(rows: list[dict], unresolved: dict[tuple[int, str], int] | None = None) -> Shrunk:
    frame = pl.DataFrame(rows, schema={RANGE: pl.UInt32, **partials.SCHEMAS["calls"]})
    return Shrunk("calls", frame, {}, unresolved or {})


def packed(ranges: list[Range], what: Shrunk) -> list[tuple[int, PartialBatch]]:
    return [(entry.partition, codec.decode(entry.value)) for entry in journal.pack(ranges, what, PARTITIONS)]


def test_a_range_gives_one_message_for_each_journal_partition_that_it_touches() -> None:
    shards = [f"tenant-{i}" for i in range(40)]
    ranges = [range_of(CALLS, 0, [message(0, "k", b"")]), range_of(CALLS, 10, [message(10, "k", b"")])]
    messages = packed(ranges, shrunk([row(number, shard, "v") for number in (0, 1) for shard in shards]))
    assert len(messages) == 2 * PARTITIONS
    found: dict[int, list[str]] = {0: [], 1: []}
    for partition, batch in messages:
        assert (batch.part, batch.parts, batch.topic_id, batch.prices) == (0, 1, "T", "p")
        (frame,) = batch.frames
        assert frame.kind == "calls"
        rows = partials.unpack(frame.rows)
        assert RANGE not in rows.columns
        assert {shard_partition(shard, PARTITIONS) for shard in rows["shard"]} == {partition}
        found[0 if batch.lo == 0 else 1] += rows["shard"].to_list()
    assert sorted(found[0]) == sorted(found[1]) == sorted(shards)


def test_a_large_range_is_split_into_numbered_parts_of_one_digest() -> None:
    rows = [row(0, "acme", f"{i:03}", size=2_000) for i in range(150)]
    batches = [batch for _, batch in packed([range_of(CALLS, 0, [message(0, "k", b"")])], shrunk(rows))]
    assert len(batches) > 1
    assert [batch.part for batch in batches] == list(range(len(batches)))
    assert {batch.parts for batch in batches} == {len(batches)}
    assert len({batch.digest for batch in batches}) == 1
    assert all(len(codec.encode(batch)) < 1_000_000 for batch in batches)
    joined = pl.concat([partials.unpack(batch.frames[0].rows) for batch in batches])
    assert joined["variant"].to_list() == [f"{i:03}" for i in range(150)]


def test_the_same_range_has_the_same_digest_and_another_content_another() -> None:
    ranges = [range_of(CALLS, 0, [message(0, "k", b"")])]
    first, again, other = (
        packed(ranges, what)[0][1].digest
        for what in (shrunk([row(0, "a", "v")]), shrunk([row(0, "a", "v")]), shrunk([row(0, "a", "w")]))
    )
    assert first == again
    assert first != other


def test_ratings_without_a_series_are_counted_where_their_tenant_is() -> None:
    ranges = [range_of(FEEDBACK, 7, [message(7, "k", b"")])]
    what = Shrunk(
        "feedback",
        pl.DataFrame(schema={RANGE: pl.UInt32, **partials.SCHEMAS["feedback"]}),
        {},
        {(0, "acme"): 2, (0, "beta"): 1},
    )
    messages = packed(ranges, what)
    counted = {partition: batch.unresolved for partition, batch in messages}
    expected: dict[int, int] = {}
    for tenant, n in (("acme", 2), ("beta", 1)):
        partition = shard_partition(tenant, PARTITIONS)
        expected[partition] = expected.get(partition, 0) + n
    assert counted == expected
    assert all(batch.frames == [] and (batch.lo, batch.hi) == (7, 7) for _, batch in messages)


def test_nothing_that_counts_writes_nothing() -> None:
    assert packed([range_of(CALLS, 0, [message(0, "k", b"")])], shrunk([])) == []


def test_specifications_and_tombstones_are_forwarded_in_their_order() -> None:
    range_ = range_of(
        ROLLOUTS,
        4,
        [
            message(4, "acme/prod/chat", codec.encode(SPEC)),
            message(5, "acme/prod/chat", None),
            message(6, "acme/prod/chat", codec.encode(replace(SPEC, generation=4))),
        ],
    )
    entries, rejected = journal.control(range_, PARTITIONS)
    assert rejected == []
    assert {entry.partition for entry in entries} == {shard_partition("acme", PARTITIONS)}
    first, deletion, second = (codec.decode(entry.value) for entry in entries)
    assert isinstance(first, JournalRollout)
    assert isinstance(deletion, JournalAction)
    assert [(one.lo, one.hi, one.part, one.parts) for one in (first, deletion, second)] == [
        (4, 4, 0, 1),
        (5, 5, 0, 1),
        (6, 6, 0, 1),
    ]
    assert codec.decode(first.record) == SPEC
    assert codec.decode(second.record).generation == 4
    action = codec.decode(deletion.record)
    assert (action.action, action.key, action.action_id, action.ts) == (
        DELETE,
        "acme/prod/chat",
        "T:0:5",
        1_234_000,
    )
    assert journal.control(range_, PARTITIONS)[0] == entries


def test_actions_are_forwarded_and_strangers_refused() -> None:
    range_ = range_of(
        ACTIONS,
        0,
        [
            message(0, "acme/prod/chat", codec.encode(ACTION)),
            message(1, "beta/prod/chat", codec.encode(ACTION)),
            message(2, "acme/prod/chat", b"junk"),
            message(3, "acme/prod/chat", None),
            message(4, "acme/prod/chat", codec.encode(replace(ACTION, action=DELETE))),
            message(5, "chat", codec.encode(replace(ACTION, key="chat"))),
            message(6, "acme/prod/chat", codec.encode(SPEC)),
        ],
    )
    entries, rejected = journal.control(range_, PARTITIONS)
    assert [codec.decode(codec.decode(entry.value).record) for entry in entries] == [ACTION]
    assert [(one.message.offset(), one.reason) for one in rejected] == [
        (1, "key_mismatch"),
        (2, "unknown_framing"),
        (3, "empty"),
        (4, "invalid_field"),
        (5, "invalid_field"),
        (6, "unexpected_record"),
    ]


def test_control_that_would_outgrow_a_message_is_refused() -> None:
    metric = DecisionMetric(
        name="error_rate", kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=1.5
    )
    many = replace(SPEC, metrics=[metric] * (MOST_METRICS + 1))
    long = codec.encode(replace(SPEC, source_yaml="x" * LARGEST_CONTROL_BYTES))
    key = f"acme/prod/{'x' * LARGEST_CONTROL_BYTES}"
    specs = [message(0, "acme/prod/chat", long), message(1, "acme/prod/chat", codec.encode(many))]
    specs += [message(2, key, None), message(3, "acme/prod/chat", codec.encode(SPEC))]
    action = codec.encode(replace(ACTION, reason="x" * LARGEST_CONTROL_BYTES))
    for range_, taken in (
        (range_of(ROLLOUTS, 0, specs), [3]),
        (range_of(ACTIONS, 0, [message(0, "acme/prod/chat", action)]), []),
    ):
        entries, rejected = journal.control(range_, PARTITIONS)
        assert [codec.decode(entry.value).lo for entry in entries] == taken
        assert {one.reason for one in rejected} == {"too_large"}
        assert len(rejected) == len(range_.messages) - len(taken)
