"""What ranges put on the journal: a pure function of the log and the claim, so that a redo repeats it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl
import xxhash

from tidegate import codec
from tidegate.errors import ContractError
from tidegate.limits import check_control
from tidegate.records import (
    Frame,
    JournalAction,
    JournalRollout,
    PartialBatch,
    Rollout,
    RolloutAction,
)
from tidegate.series import deployment_key, shard_partition
from tidegate.topics import ROLLOUTS
from tidegate_infra.kafka.batches import Rejected
from tidegate_infra.kafka.ranges import Message, Range
from tidegate_streams import partials
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk
from tidegate_streams.deletion import DELETE

PART_BYTES = 900_000
"""Most bytes of rows in one message: below what brokers take by default, with room for the head."""


class Entry(NamedTuple):
    """A message for the journal."""

    partition: int
    value: bytes


def pack(ranges: Sequence[Range], shrunk: Shrunk, partitions: int) -> Iterator[Entry]:
    """Pack what ranges add: at most one message a range and journal partition, or the numbered parts of one.

    Parameters
    ----------
    ranges
        By the numbers in `shrunk`.
    shrunk
        What they add.
    partitions
        Of the journal.
    """
    shards = shrunk.frame.get_column("shard").unique().to_list() + [shard for _, shard in shrunk.unresolved]
    places = {shard: shard_partition(shard, partitions) for shard in shards}
    unresolved: dict[tuple[int, int], int] = {}
    for (number, shard), n in shrunk.unresolved.items():
        key = number, places[shard]
        unresolved[key] = unresolved.get(key, 0) + n
    placed = shrunk.frame.with_columns(
        pl.col("shard").replace_strict(places, return_dtype=pl.Int64).alias("_place")
    )
    frames = placed.partition_by(RANGE, "_place", as_dict=True, include_key=False)
    for number, place in sorted(frames.keys() | unresolved.keys()):
        rows = frames.get((number, place), partials.empty(shrunk.kind))
        for batch in _parts(ranges[number], shrunk.kind, rows, unresolved.get((number, place), 0)):
            yield Entry(place, codec.encode(batch))


def _parts(range_: Range, kind: str, rows: pl.DataFrame, unresolved: int) -> Iterator[PartialBatch]:
    chunks = list(_chunks(rows)) if rows.height else [b""]
    digest = xxhash.xxh64(f"{unresolved}".encode())
    for chunk in chunks:
        digest.update(chunk)
    for part, chunk in enumerate(chunks):
        yield PartialBatch(
            topic_id=range_.topic_id,
            topic=range_.topic,
            partition=range_.partition,
            lo=range_.lo,
            hi=range_.hi,
            part=part,
            parts=len(chunks),
            digest=_signed(digest.intdigest()),
            prices=range_.prices,
            unresolved=0 if part else unresolved,
            frames=[Frame(kind=kind, rows=chunk)] if chunk else [],
        )


def _chunks(rows: pl.DataFrame) -> Iterator[bytes]:
    """Rows in order, packed in pieces that fit a message; a single row always fits."""
    packed = partials.pack(rows)
    if len(packed) <= PART_BYTES or rows.height == 1:
        yield packed
        return
    middle = rows.height // 2
    yield from _chunks(rows[:middle])
    yield from _chunks(rows[middle:])


def _signed(digest: int) -> int:
    return digest - (1 << 64) if digest >= 1 << 63 else digest


def control(range_: Range, partitions: int) -> tuple[list[Entry], list[Rejected]]:
    """Forward specifications and actions, each as a range of one offset, and say what is neither.

    A specification's tombstone goes on as the action `delete`.
    """
    forwarded, rejected = [], []
    for message in range_.messages:
        try:
            forwarded.append(_forward(range_, message, partitions))
        except ContractError as error:
            rejected.append(Rejected(message, error.reason, error.detail))
    return forwarded, rejected


def _forward(range_: Range, message: Message, partitions: int) -> Entry:
    key, value, offset = _text(message.key()), message.value(), message.offset()
    assert offset is not None
    if range_.topic != ROLLOUTS:
        action: RolloutAction = codec.decode(value or b"", expect=RolloutAction)
        if action.action == DELETE:
            raise ContractError("invalid_field", "only a tombstone of the specification deletes it")
        return _entry(JournalAction, range_, offset, action, action.key, key, partitions)
    if value is None:
        deletion = RolloutAction(
            action_id=f"{range_.topic_id}:{range_.partition}:{offset}",
            key=key,
            generation=0,
            action=DELETE,
            actor="specification",
            reason="the specification was deleted",
            ts=message.timestamp()[1] * 1_000,
        )
        return _entry(JournalAction, range_, offset, deletion, key, key, partitions)
    spec: Rollout = codec.decode(value, expect=Rollout)
    named = deployment_key(spec.tenant, spec.environment, spec.deployment)
    return _entry(JournalRollout, range_, offset, spec, named, key, partitions)


def _entry(
    kind: type[JournalRollout | JournalAction],
    range_: Range,
    offset: int,
    record: Rollout | RolloutAction,
    named: str,
    key: str,
    partitions: int,
) -> Entry:
    if named != key:
        raise ContractError("key_mismatch", f"the Kafka key is {key!r}, the record is of {named!r}")
    tenant, *rest = named.split("/")
    if not tenant or len(rest) < 2:
        raise ContractError("invalid_field", f"{named!r} is not tenant/environment/deployment")
    data = codec.encode(record)
    check_control(record, len(data))
    forwarded = kind(
        topic_id=range_.topic_id,
        topic=range_.topic,
        partition=range_.partition,
        lo=offset,
        hi=offset,
        part=0,
        parts=1,
        digest=_signed(xxhash.xxh64_intdigest(data)),
        record=data,
    )
    return Entry(shard_partition(tenant, partitions), codec.encode(forwarded))


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
