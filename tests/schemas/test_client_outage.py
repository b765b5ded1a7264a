"""The client while Kafka is away."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidegate.client import configuration
from tidegate.client.client import Client
from tidegate.records import LLMCall
from tidegate_infra.kafka.topics import apply
from tidegate_infra.settings import Settings
from tidegate_infra.stack import kafka as broker
from tidegate_infra.stack import ports

NewCall = Callable[..., LLMCall]

ALONE = """
    import sys, time
    import tidegate

    tidegate.configure(app="app", environment="test", kafka=sys.argv[1], queue_events=1_000)
    taken = []
    for _ in range(3_000):
        started = time.perf_counter()
        tidegate.emit(
            tidegate.LLMCall(
                ts_start=1, ts_end=2, operation="chat", provider="p", request_model="m", status="ok"
            )
        )
        taken.append(time.perf_counter() - started)
    print(sorted(taken)[len(taken) // 2], max(taken))
    print(tidegate.client.current.current().counts.dropped)
"""


def test_an_app_without_kafka_ends_in_time_and_says_in_one_line_what_was_lost() -> None:
    address = f"127.0.0.1:{ports.free_port()}"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ALONE), address],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    timing, dropped = done.stdout.splitlines()
    median_seconds, longest_seconds = map(float, timing.split())
    assert median_seconds < 0.001
    assert longest_seconds < 1
    assert dropped == "{'queue_full': 2000}"
    assert time.monotonic() - started < 15
    lines = [line for line in done.stderr.splitlines() if "confirmed" in line]
    assert lines == [
        f"tidegate: 1000 events were not confirmed within 2 s, and may be lost; is Kafka at {address} up?"
    ]
    assert len(done.stderr.splitlines()) <= 3, "a warning of the full queue, and one of the broker"


@pytest.mark.long
def test_events_wait_while_the_broker_is_away_and_arrive_when_it_is_back(
    tmp_path: Path, new_call: NewCall
) -> None:
    running = broker.start(tmp_path / "kafka")
    address = running.bootstrap
    try:
        apply(Settings(kafka=address, data_dir=tmp_path))
        client = kafka_client(address)
        client.emit(new_call())
        assert client.flush(20)
        running.kill()
        for _ in range(200):
            client.emit(new_call())
        assert not client.flush(0.5)
        running = broker.start(tmp_path / "kafka", running.port)
        assert running.bootstrap == address
        assert client.flush(30)
        counts = client.counts
        assert (counts.accepted, counts.delivered, counts.failed, counts.dropped) == (201, 201, 0, {})
        client.shutdown(5)
    finally:
        running.stop()


def kafka_client(address: str, **changes: Any) -> Client:
    given = {"app": "app", "environment": "test", "kafka": address} | changes
    return Client(configuration.read(given, environ={}))


@pytest.mark.long
def test_events_that_kafka_never_took_are_counted_as_failed_and_make_room(
    new_call: NewCall,
) -> None:
    client = kafka_client(f"127.0.0.1:{ports.free_port()}", queue_events=50, delivery_seconds=1.0)
    try:
        for _ in range(60):
            client.emit(new_call())
        assert client.counts.dropped == {"queue_full": 10}
        assert not client.flush(20)
        assert client.counts.failed == 50
        assert client.emit(new_call()) is not None
    finally:
        client.shutdown(0.5)
