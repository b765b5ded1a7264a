"""How long after the event that decides it a command is there: ``python -m benchmarks.decision_latency``.

The local stack at the speed of life, its watermark following the clock. Several deployments of several
tenants have a rollout each; one candidate after the other begins to fail, and is rolled back. A look is taken
when its pane of ten seconds has ended and the watermark, two seconds behind, has passed it. So an event waits
for its pane to end, and all of them wait for the watermark; what comes on top is ours.

In the same run: how long after a call a metric in llm.metrics counts it, before its window has ended.
"""

import argparse
import io
import json
import os
import random
import tempfile
import threading
import time
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from confluent_kafka import OFFSET_END, TopicPartition

from tidegate import codec
from tidegate.records import DeploymentCommand, LLMCall
from tidegate.series import deployment_key
from tidegate.topics import CALLS, DEPLOYMENTS, METRICS, PARTIALS, TOPICS
from tidegate_infra import rollout_file, rollout_log
from tidegate_infra.kafka import client
from tidegate_infra.settings import Settings
from tidegate_infra.stack.supervisor import Stack

TENANTS, DEPLOYMENTS_EACH = 4, 5
CALLS_A_SECOND = 8
"""Of a deployment: half of the baseline, half of the candidate."""
HEALTHY_SECONDS, APART_SECONDS, PATIENCE_SECONDS = 25.0, 2.5, 60.0
PANE_US = 10_000_000
PANE_SECONDS, DELAY_SECONDS = 10.0, 2.0
FIRST, LAST = "first moment of the pane to command", "last event of the pane to command"
EARLY = "call to early metric"
PROMISED = {FIRST: PANE_SECONDS + DELAY_SECONDS + 1, LAST: 5.0, EARLY: 3.0}
"""What -> seconds that its 99th percentile may take."""
ROLLOUT = """
apiVersion: tidegate/v1
kind: Rollout
metadata: {{name: bench, tenant: {tenant}, environment: prod, deployment: {deployment}}}
assignBy: session
variants:
  old: {{role: baseline, provider: openai, model: gpt-4-0314}}
  new: {{role: candidate, provider: openai, model: gpt-4-0613}}
steps: [{{weight: 50%, minCalls: 100000, warmUp: 0s}}]
metrics: [{{name: error_rate, promotionMargin: 5 points, rollbackMargin: 1 points}}]
maxDuration: 2h
"""

Series = tuple[str, str, str]
"""Tenant, deployment, variant."""


@dataclass
class Heard:
    """What a reader of Kafka saw, and when, in seconds since the epoch."""

    commands: dict[str, tuple[float, float, DeploymentCommand]] = field(default_factory=dict)
    """Deployment -> when its rollback was appended and when it was read, and itself."""
    started: set[str] = field(default_factory=set)
    counted: list[tuple[float, Series, int, int]] = field(default_factory=list)
    """When it was read; series; start of the window of a minute (us); calls that it counts."""


class Reader(threading.Thread):
    """Reads commands and early windows as a router and a dashboard would."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.heard = Heard()
        self.ending = threading.Event()
        self._consumer = client.consumer(settings, "bench", fetch_wait_max_ms=20)
        self._topics = {settings.topic_prefix + topic: topic for topic in (DEPLOYMENTS, METRICS)}
        self._consumer.assign(
            [
                TopicPartition(name, number, OFFSET_END)
                for name, topic in self._topics.items()
                for number in range(TOPICS[topic].partitions)
            ]
        )

    def run(self) -> None:
        while not self.ending.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            now = time.time()
            record = codec.decode(message.value())
            if isinstance(record, DeploymentCommand):
                key = deployment_key(record.tenant, record.environment, record.deployment)
                self.heard.started.add(key)
                if record.action == "rollback":
                    self.heard.commands[key] = (message.timestamp()[1] / 1e3, now, record)
            else:
                rows = pl.read_ipc_stream(io.BytesIO(record.rows)).filter(
                    pl.col("rollup") == "release", pl.col("window") == "1m"
                )
                self.heard.counted += [
                    (now, (tenant, deployment, variant), start, calls)
                    for tenant, deployment, variant, start, calls in rows.select(
                        "tenant", "deployment", "variant", pl.col("window_start").cast(pl.Int64), "calls"
                    ).iter_rows()
                ]
        self._consumer.close()


def apply(settings: Settings) -> list[str]:
    keys = []
    for tenant in range(TENANTS):
        for deployment in range(DEPLOYMENTS_EACH):
            text = ROLLOUT.format(tenant=f"tenant-{tenant}", deployment=f"bot-{deployment}")
            spec = rollout_file.load(text)
            spec.generation, spec.actor, spec.ts = 1, "bench", time.time_ns() // 1_000
            rollout_log.put(settings, spec, rollout_log.Present(None, 0))
            keys.append(deployment_key(spec.tenant, spec.environment, spec.deployment))
    return keys


def traffic(settings: Settings, keys: Sequence[str], reader: Reader) -> dict[Series, list[int]]:
    """Emit calls until every rollout is decided; return when the calls of each series ended (us)."""
    rng, producer = random.Random(1), client.producer(settings, linger_ms=5)
    ends: dict[Series, list[int]] = defaultdict(list)
    begun = time.time()
    number, step = 0, 1 / (CALLS_A_SECOND * len(keys))
    last = begun + HEALTHY_SECONDS + APART_SECONDS * len(keys) + PATIENCE_SECONDS
    while len(reader.heard.commands) < len(keys):
        due = begun + number * step
        time.sleep(max(0.0, due - time.time()))
        if due > last:
            raise RuntimeError(f"{len(reader.heard.commands)} of {len(keys)} rollouts were decided in time")
        at = number % len(keys)
        tenant, _, deployment = keys[at].split("/")
        variant = ("old", "new")[number // len(keys) % 2]
        is_bad = variant == "new" and due > begun + HEALTHY_SECONDS + APART_SECONDS * at
        failed = rng.random() < (0.7 if is_bad else 0.02)
        now_us = time.time_ns() // 1_000
        call = LLMCall(
            event_id=str(uuid.UUID(int=rng.getrandbits(128))),
            ts_start=now_us - 300_000,
            ts_end=now_us,
            tenant=tenant,
            app="chat",
            environment="prod",
            deployment=deployment,
            variant=variant,
            assignment_unit="session",
            assignment_hash=rng.getrandbits(62),
            assignment_reason="split",
            assignment_revision=1,
            operation="chat",
            provider="openai",
            request_model="gpt-4-0314",
            status="error" if failed else "ok",
        )
        producer.produce(settings.topic_prefix + CALLS, key=call.event_id, value=codec.encode(call))
        producer.poll(0)
        ends[tenant, deployment, variant].append(now_us)
        number += 1
    producer.flush(10)
    return ends


def decisions(settings: Settings, heard: Heard, ends: dict[Series, list[int]]) -> pl.DataFrame:
    """Where the time of each decision went, in seconds."""
    rows = []
    for key, (appended, read, command) in heard.commands.items():
        tenant, _, deployment = key.split("/")
        assert command.watermark is not None
        pane_end_us = command.watermark // PANE_US * PANE_US
        before = [
            us for variant in ("old", "new") for us in ends[tenant, deployment, variant] if us < pane_end_us
        ]
        journaled = _journaled(settings, command)
        pane_end = pane_end_us / 1e6
        rows.append(
            {
                FIRST: read - (pane_end - PANE_SECONDS),
                LAST: read - max(before) / 1e6,
                "end of the pane to journal": journaled - pane_end,
                "journal to command in Kafka": appended - journaled,
                "command in Kafka to reader": read - appended,
            }
        )
    return pl.DataFrame(rows)


def _journaled(settings: Settings, command: DeploymentCommand) -> float:
    """When the message of the journal that led to a command was appended, in seconds since the epoch."""
    (place,) = (one for one in command.offsets if one.topic.endswith(PARTIALS))
    consumer = client.consumer(settings, "bench")
    try:
        consumer.assign([TopicPartition(settings.topic_prefix + PARTIALS, place.partition, place.offset)])
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        return message.timestamp()[1] / 1e3
    finally:
        consumer.close()


def early(heard: Heard, ends: dict[Series, list[int]]) -> pl.Series:
    """Seconds from each call to the first window that counts it; windows end with every pane."""
    counted: dict[Series, int] = defaultdict(int)
    waits = []
    for read, series, start_us, calls in heard.counted:
        until = bisect_left(ends[series], start_us) + calls
        waits += [read - us / 1e6 for us in ends[series][counted[series] : until]]
        counted[series] = max(counted[series], until)
    return pl.Series(EARLY, waits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to save the figures in")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="tidegate-latency-") as place,
        Stack(Path(place), ("aggregate", "stream")) as stack,
    ):
        reader = Reader(stack.settings)
        reader.start()
        keys = apply(stack.settings)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(reader.heard.started) < len(keys):
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{len(reader.heard.started)} of {len(keys)} rollouts were started in time"
                )
            time.sleep(0.1)
        ends = traffic(stack.settings, keys, reader)
        reader.ending.set()
        reader.join()
        found = decisions(stack.settings, reader.heard, ends)
        waits = early(reader.heard, ends)
    columns = [*found.get_columns(), waits]
    figures = {
        one.name: {"n": len(one), "p50": one.median(), "p99": one.quantile(0.99), "most": one.max()}
        for one in columns
    }
    print(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores; seconds:")
    print(f"{'':40}{'n':>7}{'p50':>8}{'p99':>8}{'most':>8}  promised")
    missed = [name for name, seconds in PROMISED.items() if figures[name]["p99"] > seconds]
    for name, one in figures.items():
        said = f"<= {PROMISED[name]:g} {'MISSED' if name in missed else 'met'}" if name in PROMISED else ""
        print(f"{name:40}{one['n']:>7}{one['p50']:8.2f}{one['p99']:8.2f}{one['most']:8.2f}  {said}")
    if options.json:
        options.json.write_text(json.dumps({"load": load, "figures": figures}, indent=1))
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
