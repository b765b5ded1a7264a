"""Rows a second from Kafka into the real `calls` table, beside row inserts: ``python -m benchmarks.sink``.

Same topic, same broker, same store, one after the other. *sink* is the process as it runs: claim,
duplicates, decode, prices, Arrow insert, settle. *rows* decodes each call by itself and inserts lists of
values with clickhouse-connect, 10,000 rows at a time, without claims, duplicates or prices. The store's
work is done on the same machine; its processor seconds stand apart.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil

from benchmarks.stage1 import load
from tidegate import codec
from tidegate.records import LLMCall
from tidegate.topics import CALLS
from tidegate_consumers.sink.process import Sink
from tidegate_consumers.sink.store import Store
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.clickhouse import migrations
from tidegate_infra.kafka import client, topics
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_infra.stack import kafka as broker
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup

ROWS_AT_A_TIME = 10_000


def sink(settings: Settings, events: int) -> None:
    """The sink as it runs."""
    process = Process("sink", settings)
    with closing(Store(settings)) as store, closing(Sink(process, store)) as running:
        while sum(running.positions().get((CALLS, partition), 0) for partition in range(12)) < events:
            running.turn()


def rows(settings: Settings, events: int) -> None:
    """Each call decoded by itself, and inserted as a list of values."""
    consumer = client.consumer(settings, "rows", fetch_queue_backoff_ms=10)
    consumer.subscribe([settings.topic_prefix + CALLS])
    plain = [
        name
        for name, hint in LLMCall.__annotations__.items()
        if hint in _SCALARS and not name.startswith("ts")
    ]
    names = [*plain, "ts", "ts_start", "ts_end", "latency_us", "budget_keys", "tags", "_partition", "_offset"]
    with closing(clickhouse.connect(settings)) as store:
        stored = 0
        while stored < events:
            batch = []
            while len(batch) < min(ROWS_AT_A_TIME, events - stored):
                for message in consumer.consume(1_000, 0.5):
                    call = codec.decode(message.value())
                    times = [call.ts_end, call.ts_start, call.ts_end]
                    batch.append(
                        [
                            *(getattr(call, name) for name in plain),
                            *times,
                            call.ts_end - call.ts_start,
                            call.budget_keys,
                            call.tags,
                            message.partition(),
                            message.offset(),
                        ]
                    )
            store.insert("calls", batch, column_names=names)
            stored += len(batch)
    consumer.close()


_SCALARS = (str, int, float, bool, str | None, int | None, float | None, bool | None)


def measure(
    name: str, run: Callable[[Settings, int], None], settings: Settings, events: int, store: psutil.Process
) -> dict[str, float]:
    def store_s() -> float:
        times = store.cpu_times()
        return float(times.user + times.system)

    with closing(clickhouse.connect(settings)) as connection:
        connection.command("TRUNCATE TABLE calls")
        wall, own, other = time.perf_counter(), time.process_time(), store_s()
        run(settings, events)
        wall_s, own_s, other_s = time.perf_counter() - wall, time.process_time() - own, store_s() - other
        [(count,)] = connection.query("SELECT count() FROM calls").result_rows
    if count < events:
        raise RuntimeError(f"{name} stored {count} of {events} rows")
    return {
        "rows": count,
        "rows_per_second": count / wall_s,
        "own_cpu_seconds_per_100k": own_s / count * 100_000,
        "store_cpu_seconds_per_100k": other_s / count * 100_000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--row-events", type=int, default=40_000, help="for the row inserts, which are slow")
    parser.add_argument("--json", type=Path, help="file to save the figures in")
    said = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as scratch, ProcessGroup() as group:
        directory = Path(scratch)
        kafka = broker.start(directory / "kafka", group=group)
        address = f"http://127.0.0.1:{ports.free_port()}/bench"
        settings = Settings(
            kafka=kafka.bootstrap,
            clickhouse=address,
            topic_prefix="bench.",
            data_dir=directory,
            health_port=ports.free_port(),
        )
        store = program.start("store", settings, group=group, log=directory / "store.log")
        store.wait_until_ready()
        topics.apply(settings)
        with closing(clickhouse.connect(settings)) as connection:
            migrations.up(connection)
        print(f"{said.events} calls of {load(settings, said.events):.0f} bytes", file=sys.stderr)
        engine = psutil.Process(store.pid)
        table["rows"] = measure("rows", rows, settings, said.row_events, engine)
        table["sink"] = measure("sink", sink, settings, said.events, engine)
        kafka.stop()
    print(f"{'':8}{'rows/s':>10}{'times':>8}{'own CPU s':>12}{'store CPU s':>13}   per 100,000 rows")
    for name, figures in table.items():
        rate, own_s = figures["rows_per_second"], figures["own_cpu_seconds_per_100k"]
        times, store_s = rate / table["rows"]["rows_per_second"], figures["store_cpu_seconds_per_100k"]
        print(f"{name:8}{rate:10,.0f}{times:8.1f}{own_s:12.2f}{store_s:13.2f}")
    if said.json:
        said.json.write_text(json.dumps(table, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
