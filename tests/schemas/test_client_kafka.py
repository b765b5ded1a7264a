"""The client against a real broker."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest

from tidegate import topics as names
from tidegate.client.client import Client
from tidegate.records import Feedback, LLMCall, ProducerReport
from tidegate_infra.settings import Settings

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]
ReadTopic = Callable[[str], list[tuple[bytes, Any]]]


def test_events_arrive_under_their_keys_numbered_without_gaps(
    new_kafka_client: NewClient, new_call: NewCall, read_topic: ReadTopic
) -> None:
    client = new_kafka_client()
    calls = [client.emit(new_call()) for _ in range(500)]
    rating = client.emit(
        Feedback(name="helpful", kind="thumbs", value=1.0, given_by="user", target_event_id=calls[0])
    )
    assert client.flush(20)
    arrived = read_topic(names.CALLS)
    ratings = read_topic(names.FEEDBACK)
    assert {key.decode() for key, _ in arrived} == set(calls)
    assert all(key.decode() == record.event_id for key, record in arrived)
    assert [(key.decode(), record.event_id) for key, record in ratings] == [(calls[0], rating)]
    assert sorted(record.seq for _, record in arrived + ratings) == list(range(1, 502))
    assert client.counts.delivered == 501


def test_the_last_report_accounts_for_every_event(
    new_kafka_client: NewClient, new_call: NewCall, read_topic: ReadTopic
) -> None:
    client = new_kafka_client()
    for _ in range(20):
        client.emit(new_call())
    client.emit(new_call(ttft_us=-1))
    assert client.shutdown(5) == 0
    reports = [record for _, record in read_topic(names.PRODUCERS)]
    last = max(reports, key=lambda report: report.report_seq)
    assert isinstance(last, ProducerReport)
    assert (last.accepted, last.delivered, last.last_seq, last.failed, last.final) == (20, 20, 20, [], True)
    assert [(d.reason, d.count) for d in last.dropped] == [("negative", 1)]


def test_the_last_report_arrives_though_another_is_still_on_its_way(
    new_kafka_client: NewClient, new_call: NewCall, read_topic: ReadTopic
) -> None:
    clients = [new_kafka_client(report_seconds=0.005) for _ in range(8)]
    for client in clients:
        for _ in range(1_000):
            client.emit(new_call())
        assert client.shutdown(5) == 0
    reports = [record for _, record in read_topic(names.PRODUCERS)]
    assert sum(report.final for report in reports) == len(clients)


def test_reports_are_sent_while_the_app_runs(
    new_kafka_client: NewClient, new_call: NewCall, read_topic: ReadTopic
) -> None:
    new_kafka_client(report_seconds=0.2).emit(new_call())
    deadline = time.monotonic() + 10
    while not read_topic(names.PRODUCERS):
        assert time.monotonic() < deadline, "no report within 10 s"
        time.sleep(0.1)


FORKING = """
    import os, sys, time
    import tidegate

    tidegate.configure(app="app", environment="test", kafka=sys.argv[1], topic_prefix=sys.argv[2])

    def emit(n, tag):
        for _ in range(n):
            call = tidegate.LLMCall(
                ts_start=1, ts_end=2, operation="chat", provider="p", request_model="m", status="ok"
            )
            call.tags = [tag]
            tidegate.emit(call)

    emit(30, "before")
    if sys.argv[3] == "running":
        tidegate.flush(20)
    pid = os.fork()
    emit(40, "parent" if pid else "child")
    if pid:
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
    print("parent" if pid else "child", tidegate.flush(20))
"""


@pytest.mark.long
@pytest.mark.parametrize("kafka_client", ["starting", "running"])
def test_a_forked_child_is_a_producer_of_its_own(
    settings: Settings, topics: None, read_topic: ReadTopic, kafka_client: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKING), settings.kafka, settings.topic_prefix, kafka_client],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split("\n")) == ["", "child True", "parent True"]
    records = [record for _, record in read_topic(names.CALLS)]
    by_tag = {tag: [r for r in records if r.tags == [tag]] for tag in ("before", "parent", "child")}
    assert {tag: len(found) for tag, found in by_tag.items()} == {"before": 30, "parent": 40, "child": 40}
    assert len({r.event_id for r in records}) == 110
    parent, child = ({r.producer_id for r in by_tag[tag]} for tag in ("parent", "child"))
    assert {r.producer_id for r in by_tag["before"]} == parent
    assert parent != child
    assert sorted(r.seq for r in by_tag["child"]) == list(range(1, 41))
    reports = [record for _, record in read_topic(names.PRODUCERS)]
    final = {r.producer_id: r.delivered for r in reports if r.final}
    assert final == {next(iter(parent)): 70, next(iter(child)): 40}
