"""How long stage 2 needs after a restart, with a snapshot and without: ``python -m benchmarks.recovery``.

The same journal partition, folded from its beginning, and from the newest snapshot at the worst moment, which
is just before the next one is made. Seconds of one core, without Kafka: twelve partitions of calls, a range a
second.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from confluent_kafka import Message

from benchmarks.stage1 import T0_US, call
from tidegate import codec
from tidegate.records import Frame, Heartbeat, PartialBatch, SourceProgress
from tidegate.topics import CALLS
from tidegate_infra.kafka.batches import decode_batch
from tidegate_infra.prices import PriceBook
from tidegate_streams import fold, frozen, partials, snapshots
from tidegate_streams.aggregate import columns
from tidegate_streams.aggregate.shrunk import RANGE
from tidegate_streams.journal import SNAPSHOT_MESSAGES, SNAPSHOT_WORK_SECONDS

PARTITIONS = 12
SECOND_US = 1_000_000
SOURCE = snapshots.Source("journal", 0, "release")


def ranges(calls: int) -> list[pl.DataFrame]:
    """What some ranges of so many calls shrink to."""
    generator, book = random.Random(1), PriceBook.load()
    shrunk = []
    for _ in range(20):
        made_up = [call(generator, number) for number in range(calls)]
        messages = [
            Message(
                topic=CALLS, partition=0, offset=number, value=codec.encode(one), key=one.event_id.encode()
            )
            for number, one in enumerate(made_up)
        ]
        batch = decode_batch(messages, columns=columns.CALL_COLUMNS)
        frame = batch.frame.with_columns(pl.lit(0, dtype=pl.UInt32).alias(RANGE))
        made = columns.calls(frame, pl.Series([T0_US + 60 * SECOND_US] * calls), book)
        shrunk.append(made.frame.drop(RANGE))
    return shrunk


def journal(minutes: int, calls: int) -> list[bytes]:
    """Messages of so many minutes."""
    generator, shrunk = random.Random(2), ranges(calls)
    messages = []
    for second in range(60 * minutes):
        now_us = T0_US + second * SECOND_US
        pane_us = now_us // partials.PANE_US * partials.PANE_US
        for partition in range(PARTITIONS):
            rows = generator.choice(shrunk).with_columns(pl.lit(pane_us, dtype=pl.Int64).alias("pane_us"))
            head = {"topic_id": "calls", "topic": CALLS, "partition": partition, "lo": second, "hi": second}
            frame = Frame(kind="calls", rows=partials.pack(rows))
            batch = PartialBatch(**head, part=0, parts=1, digest=second, prices="", frames=[frame])
            messages.append(codec.encode(batch))
        sources = [
            SourceProgress(
                topic_id="calls", topic=CALLS, partition=partition, next_offset=second + 1, watermark=now_us
            )
            for partition in range(PARTITIONS)
        ]
        beat = Heartbeat(worker="w", epoch=1, sources=sources, partition_count=PARTITIONS, ts=now_us)
        messages.append(codec.encode(beat))
    return messages


def folded(state: fold.State, messages: Sequence[bytes], start: int) -> float:
    """Fold what was published already, as a restart does; return the seconds that it took."""
    began = time.process_time()
    for offset, message in enumerate(messages, start):
        fold.apply(state, offset, codec.decode(message, expect=fold.JOURNAL), windows=False)
    return time.process_time() - began


def measure(minutes: int, calls: int) -> dict[str, float]:
    messages = journal(minutes, calls)
    state = fold.State(0)
    probe = folded(fold.State(0), messages[:500], 0) / 500
    rest = min(SNAPSHOT_MESSAGES, round(SNAPSHOT_WORK_SECONDS / probe), len(messages) // 2)
    at = len(messages) - rest
    replay_s = folded(state, messages[:at], 0)
    began = time.process_time()
    state.gather()
    pieces = snapshots.cut(SOURCE, at, frozen.freeze(state).pack())
    made_s = time.process_time() - began
    replay_s += folded(state, messages[at:], at)
    began = time.process_time()
    found = snapshots.newest(pieces, SOURCE, 0, len(messages))
    if found is None:
        raise RuntimeError("the snapshot was not found")
    resumed = frozen.thaw(found[1])
    thawed_s = time.process_time() - began
    rest_s = folded(resumed, messages[at:], at)
    if frozen.freeze(resumed).tree != frozen.freeze(state).tree:
        raise RuntimeError("the snapshot came to another state than the replay")
    return {
        "minutes": minutes,
        "messages": len(messages),
        "replay_seconds": replay_s,
        "snapshot_seconds": thawed_s + rest_s,
        "messages_after_snapshot": rest,
        "making_seconds": made_s,
        "snapshot_bytes": sum(map(len, pieces)),
        "times": replay_s / (thawed_s + rest_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, nargs="*", default=[5, 20])
    parser.add_argument("--calls", type=int, default=40, help="in a range")
    parser.add_argument("--json", type=Path, help="file to save the figures in")
    said = parser.parse_args()
    table = [measure(minutes, said.calls) for minutes in said.minutes]
    print(f"{'minutes':>7}{'messages':>10}{'replay s':>10}{'snapshot s':>12}{'times':>7}{'bytes':>12}")
    for row in table:
        print(
            f"{row['minutes']:7}{row['messages']:10,}{row['replay_seconds']:10.1f}"
            f"{row['snapshot_seconds']:12.2f}{row['times']:7.1f}{row['snapshot_bytes']:12,}"
        )
    if said.json:
        said.json.write_text(json.dumps(table, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
