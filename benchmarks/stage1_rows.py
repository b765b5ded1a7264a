"""What reads the calls, each in a process of its own: ``stage1_rows.py ROW BOOTSTRAP PREFIX EVENTS``."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable

# One thread of work: the figure is per core.
os.environ["POLARS_MAX_THREADS"] = "1"

from tidegate.topics import CALLS
from tidegate_infra.settings import Settings

Figures = dict[str, float]


class Clock:
    """Wall and processor seconds since the first event; the broker's work is not in them."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def figures(self, events: int) -> Figures:
        return {
            "events": events,
            "events_per_core_second": events / (time.process_time() - self.cpu),
            "events_per_second": events / (time.perf_counter() - self.wall),
        }


def hand_over(settings: Settings, events: int) -> Figures:
    """librdkafka to Python: messages are consumed and dropped."""
    from tidegate_infra.kafka import client

    consumer = client.consumer(
        settings,
        "hand-over",
        queued_max_messages_kbytes=65_536,
        fetch_queue_backoff_ms=10,
        fetch_wait_max_ms=50,
    )
    consumer.subscribe([settings.topic_prefix + CALLS])
    seen = 0
    while not seen:
        seen = len(consumer.consume(1, 1.0))
    clock = Clock()
    while seen < events:
        seen += len(consumer.consume(10_000, 0.5))
    figures = clock.figures(seen)
    consumer.close()
    return figures


def aggregate(settings: Settings, events: int) -> Figures:
    """Stage 1 as it runs: claim, decode, duplicates, prices, group-by, journal, settle, heartbeats."""
    from tidegate_infra.process import Process
    from tidegate_streams.aggregate.process import Aggregate

    stage = Aggregate(Process("aggregate", settings))
    while not stage.positions():
        stage.turn()
    clock = Clock()
    while sum(offset for (topic, _), offset in stage.positions().items() if topic == CALLS) < events:
        stage.turn()
    figures = clock.figures(events)
    stage.close()
    return figures


def faust_per_event(settings: Settings, events: int) -> Figures:
    """Faust on every event: decode with fastavro, five sums in a dict."""
    import faust

    from tidegate import codec

    app = faust.App(
        "per-event",
        broker=f"kafka://{settings.kafka}",
        store="memory://",
        topic_disable_leader=True,
        topic_partitions=12,
        web_enabled=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=20_000,
        broker_commit_every=20_000,
        consumer_auto_offset_reset="earliest",
    )
    topic = app.topic(
        settings.topic_prefix + CALLS, value_type=bytes, value_serializer="raw", key_serializer="raw"
    )
    sums: dict[tuple[object, ...], list[int]] = {}
    seen = 0

    @app.agent(topic)
    async def count(stream: faust.StreamT[bytes]) -> None:
        nonlocal seen
        clock = Clock()
        async for value in stream:
            call = codec.decode(value)
            key = call.app, call.variant, call.request_model, call.status, call.ts_end // 10_000_000
            group = sums.setdefault(key, [0, 0, 0, 0, 0])
            latency = call.ts_end - call.ts_start
            group[0] += 1
            group[1] += latency
            group[2] += latency * latency
            group[3] += call.input_tokens or 0
            group[4] += call.output_tokens or 0
            seen += 1
            if seen == events:
                say(clock.figures(seen))
                os._exit(0)

    app.finalize()
    worker = faust.Worker(app, loglevel=logging.ERROR, loop=asyncio.new_event_loop(), redirect_stdouts=False)
    worker.execute_from_commandline()
    raise AssertionError("Faust stopped before the last event")


ROWS: dict[str, Callable[[Settings, int], Figures]] = {
    "hand-over": hand_over,
    "aggregate": aggregate,
    "faust": faust_per_event,
}


def say(figures: Figures) -> None:
    os.write(1, json.dumps(figures).encode() + b"\n")


if __name__ == "__main__":
    row, bootstrap, prefix, wanted = sys.argv[1:]
    say(ROWS[row](Settings(kafka=bootstrap, topic_prefix=prefix, watermark="data"), int(wanted)))
