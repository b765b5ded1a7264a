"""Events a second and core of stage 1, beside named peers on one topic: ``python -m benchmarks.stage1``.

The bound is what librdkafka hands to Python when nothing is done with it. Events are full ones: about 480
bytes, 45 fields set. The broker's own work is not counted.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from benchmarks import stage1_rows
from tidegate import codec
from tidegate.records import Attribute, Guardrail, LLMCall, Retrieval
from tidegate.topics import CALLS
from tidegate_infra.kafka import client, topics
from tidegate_infra.settings import Settings
from tidegate_infra.stack import kafka as broker

T0_US = 1_760_000_000_000_000
BASE = 20_000
# Single-object header, then the id's length and its 36 characters: event_id is the first field.
ID_AT = slice(11, 47)


def call(generator: random.Random, number: int) -> LLMCall:
    latency_us = int(generator.lognormvariate(14, 0.6))
    end_us = T0_US + number * 200
    tokens_in, tokens_out = generator.randint(10, 3_000), generator.randint(1, 800)
    return LLMCall(
        event_id=str(uuid.UUID(int=generator.getrandbits(128))),
        producer_id=str(uuid.UUID(int=generator.getrandbits(128))),
        seq=number,
        ts_start=end_us - latency_us,
        ts_end=end_us,
        ttft_us=latency_us // 4,
        tenant="acme",
        app=generator.choice(["support", "search", "code"]),
        app_version="1.4.2",
        environment="prod",
        session_id=f"{generator.getrandbits(64):016x}",
        user_hash=f"{generator.getrandbits(64):016x}",
        trace_id=f"{generator.getrandbits(128):032x}",
        span_id=f"{generator.getrandbits(64):016x}",
        deployment="chat",
        variant=generator.choice(["base", "canary"]),
        experiment="model-upgrade",
        assignment_unit="user",
        assignment_hash=generator.getrandbits(62),
        assignment_reason="split",
        assignment_revision=3,
        operation="chat",
        provider="openai",
        request_model=generator.choice(["gpt-4o-mini", "gpt-4o", "o3"]),
        response_model="gpt-4o-mini-2024-07-18",
        stream=True,
        temperature=0.7,
        max_tokens=1_024,
        prompt_name="triage",
        prompt_version="7",
        status="ok" if generator.random() > 0.01 else "error",
        http_status=200,
        finish_reasons=["stop"],
        outcome="answered",
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cache_read_tokens=tokens_in // 2,
        guardrails=[
            Guardrail(
                name="pii", stage="input", triggered=generator.random() < 0.02, action="none", duration_us=300
            )
        ],
        input_chars=tokens_in * 4,
        output_chars=tokens_out * 4,
        retrieval=Retrieval(count=4, duration_us=generator.randint(1_000, 90_000)),
        tags=["a"],
        attributes=[Attribute(key="k", value="v")],
    )


def load(settings: Settings, events: int) -> float:
    """Fill the topic with distinct calls and return their mean size in bytes."""
    generator = random.Random(2026)
    base = [codec.encode(call(generator, number)) for number in range(BASE)]
    producer = client.producer(settings, linger_ms=20, queue_buffering_max_messages=1_000_000)
    for number in range(events):
        value = base[number % BASE]
        key = str(uuid.UUID(int=generator.getrandbits(128))).encode()
        value = value[: ID_AT.start] + key + value[ID_AT.stop :]
        while True:
            try:
                producer.produce(settings.topic_prefix + CALLS, value=value, key=key)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise RuntimeError("the topic could not be filled in two minutes")
    return sum(map(len, base)) / BASE


def measure(row: str, settings: Settings, events: int) -> stage1_rows.Figures:
    command = [sys.executable, stage1_rows.__file__, row, settings.kafka, settings.topic_prefix, str(events)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{row} failed: {done.stderr[-2_000:]}")
    figures: stage1_rows.Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument(
        "--faust-events", type=int, default=40_000, help="fewer, since it is slow; 0 leaves it out"
    )
    parser.add_argument("--json", type=Path, help="file to save the figures in")
    said = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as scratch:
        kafka = broker.start(Path(scratch) / "kafka")
        try:
            settings = Settings(kafka=kafka.bootstrap, topic_prefix="bench.", data_dir=Path(scratch))
            topics.apply(settings)
            print(f"{said.events} calls of {load(settings, said.events):.0f} bytes", file=sys.stderr)
            for row in stage1_rows.ROWS:
                events = said.faust_events if row == "faust" else said.events
                if events:
                    table[row] = measure(row, settings, events)
        finally:
            kafka.stop()
    bound = table["hand-over"]["events_per_core_second"]
    print(f"{'':12}{'events/s a core':>18}{'of hand-over':>14}{'events/s':>12}")
    for row, figures in table.items():
        rate = figures["events_per_core_second"]
        print(f"{row:12}{rate:18,.0f}{rate / bound:14.1%}{figures['events_per_second']:12,.0f}")
    if said.json:
        said.json.write_text(json.dumps(table, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
