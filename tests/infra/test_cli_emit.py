"""Topics, what is emitted to them, and what comes back as dead letters, on a real broker."""

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.records import (
    EndOfStream,
    LLMCall,
)
from tidegate.topics import (
    CALLS,
    DLQ,
    EVALUATIONS,
    FEEDBACK,
    PRODUCERS,
)
from tidegate_infra.kafka import dead_letters, scan, topics
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER, DeadLetter
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("kafka")

CALL = {
    "ts_start": "2026-03-01T12:00:00Z",
    "ts_end": "2026-03-01T12:00:01.5Z",
    "tenant": "acme",
    "app": "chat",
    "environment": "prod",
    "operation": "chat",
    "provider": "openai",
    "request_model": "gpt-4o",
    "status": "ok",
}


def lines(*values: Any) -> bytes:
    return b"".join((v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n" for v in values)


def stored(settings: Settings, topic: str, kind: type) -> list[Any]:
    return [record for _, record in scan.records(settings, topic) if isinstance(record, kind)]


@pytest.fixture
def events(kafka: str, settings: Settings) -> None:
    """Only what emitting needs: a broker slows down with every topic of every test."""
    topics.apply(settings, [CALLS, FEEDBACK, EVALUATIONS, PRODUCERS, DLQ])


# Topics


def test_topics_are_planned_made_and_then_as_they_should_be(cli: Any) -> None:
    planned = cli("topic", "plan", "--json").rows
    assert {row["kind"] for row in planned} == {"create"}
    assert cli("topic", "apply", "--dry-run", "--json").rows == planned
    assert cli("topic", "apply", "--yes", "--json").rows == planned
    again = cli("topic", "apply", "--yes")
    assert (again.code, again.out) == (0, "")


# Emitting


def test_a_file_is_emitted_and_bad_lines_are_named(
    cli: Any, events: None, settings: Settings, tmp_path: Path
) -> None:
    rating = {"type": "feedback", "ts": 1, "tenant": "acme", "name": "thumbs", "kind": "thumbs"}
    file = tmp_path / "calls.jsonl"
    file.write_bytes(
        lines(
            CALL,
            CALL | {"ttft_us": -5},
            b"\xff\xfe\x00binary",
            CALL | {"latencies": 3},
            rating | {"target_session_id": "s", "value": 1.0, "given_by": "user"},
            b"",
            CALL | {"type": "trace"},
            b'{"a": "' + b"x" * 11_000_000 + b'"}',
            {name: value for name, value in CALL.items() if name != "app"},
            CALL,
            CALL | {"usage_raw": "x" * 900_000},
        )
    )
    outcome = cli("emit", file, "--json")
    assert outcome.code == 1
    assert outcome.rows == [{"accepted": 3, "rejected": 7}]
    named = {
        line.split(":")[1]: line.split(": ", 1)[0].removeprefix(f"{file}:")
        for line in outcome.err.splitlines()
    }
    assert sorted(map(int, named)) == [2, 3, 4, 7, 8, 9, 11]
    assert f"{file}:2: ttft_us: -5 is negative" in outcome.err
    assert f"{file}:8: line: longer than 10000000 bytes" in outcome.err
    assert "bytes without its bodies, at most 900000 go to Kafka" in outcome.err
    calls = stored(settings, CALLS, LLMCall)
    assert [call.source for call in calls] == ["cli", "cli"]
    assert calls[0].event_id != calls[1].event_id
    assert len(stored(settings, FEEDBACK, object)) == 1
    (report,) = stored(settings, PRODUCERS, object)[-1:]
    assert (report.accepted, report.delivered, report.final) == (3, 3, True)
    assert sum(dropped.count for dropped in report.dropped) == 7


def test_the_same_file_has_the_same_ids_also_through_a_pipe(
    cli: Any, events: None, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_bytes(lines(CALL, CALL))
    assert cli("emit", file).code == 0
    assert cli("emit", "-", stdin=file.read_bytes()).err == "2 accepted, 0 rejected\n"
    ids = [call.event_id for call in stored(settings, CALLS, LLMCall)]
    assert len(ids) == 4
    assert len(set(ids)) == 2


def test_what_a_line_leaves_out_can_be_said_once(cli: Any, events: None, settings: Settings) -> None:
    bare = {name: CALL[name] for name in CALL if name not in ("app", "environment", "tenant")}
    unsaid = cli("emit", "-", stdin=lines(bare))
    assert unsaid.code == 1
    remedies = [
        f"{name}: is missing: name it in the line, or say --{name}" for name in ("app", "environment")
    ]
    assert unsaid.err.splitlines()[:2] == [f"stdin:1: {remedy}" for remedy in remedies]
    flags = ("--app", "chat", "--environment", "prod", "--tenant", "acme")
    assert cli("emit", "-", *flags, stdin=lines(bare)).code == 0
    (call,) = stored(settings, CALLS, LLMCall)
    assert (call.tenant, call.environment, call.app) == ("acme", "prod", "chat")
    rating = {"type": "feedback", "ts": 1, "name": "helpful", "kind": "thumbs", "given_by": "user"}
    rated = lines(rating | {"target_event_id": call.event_id})
    assert cli("emit", "-", stdin=rated).err.splitlines() == [
        "ratings of calls of tenant default: 1; if the calls have another, say --tenant",
        "1 accepted, 0 rejected",
    ]
    assert cli("emit", "-", "--tenant", "acme", stdin=rated).err == "1 accepted, 0 rejected\n"


def test_bodies_leave_the_machine_only_when_asked_for(cli: Any, events: None, settings: Settings) -> None:
    talkative = CALL | {"content": {"input": "secret", "bytes": 6}}
    cli("emit", "-", stdin=lines(talkative))
    cli("emit", "-", "--content", stdin=lines(talkative))
    first, second = sorted(stored(settings, CALLS, LLMCall), key=lambda call: call.content is not None)
    assert first.content is None
    assert second.content.input == "secret"


@pytest.mark.long
def test_the_end_of_a_stream_stands_in_every_partition(cli: Any, events: None, settings: Settings) -> None:
    assert cli("emit", "-", "--end-of-stream", stdin=lines(CALL)).code == 0
    ends = stored(settings, CALLS, EndOfStream)
    assert len(ends) == len(scan.partitions(settings, CALLS))
    (call,) = stored(settings, CALLS, LLMCall)
    assert {end.ts for end in ends} == {call.ts_end + 60_000_000 + settings.allowed_lateness_us}
    assert cli("emit", "-", "--end-of-stream", "--until", "2026-03-02T00:00:00Z", stdin=b"").code == 0
    assert stored(settings, CALLS, EndOfStream)[-1].ts == 1_772_409_600_000_000


def test_an_empty_stream_needs_a_time_for_its_end(cli: Any, events: None) -> None:
    assert cli("emit", "-", "--end-of-stream", stdin=b"").code == 2
    assert cli("emit", "-", "--until", "2026-03-02T00:00:00Z", stdin=b"").code == 2


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_ends_with_3(cli: Any, tmp_path: Path, name: str) -> None:
    outcome = cli("emit", tmp_path / name)
    assert outcome.code == 3
    assert "cannot be read" in outcome.err


def test_emitting_to_missing_topics_ends_with_3_and_the_command_that_makes_them(cli: Any) -> None:
    outcome = cli("emit", "-", stdin=lines(CALL))
    assert outcome.code == 3
    assert "tidegate topic apply" in outcome.err


def test_what_kafka_does_not_confirm_in_time_ends_with_4_and_its_number(
    cli: Any, events: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidegate.client.transport import KafkaTransport

    monkeypatch.setattr(KafkaTransport, "send", lambda *_: True)  # taken, and never answered
    outcome = cli("emit", "-", "--json", "--timeout", "0.5", stdin=lines(CALL, CALL))
    assert outcome.code == 4
    assert outcome.rows == [{"accepted": 2, "rejected": 0, "undelivered": 2}]
    assert "did not confirm 2 events within 0.5 s" in outcome.err


# Dead letters


def dead(settings: Settings, offset: int, value: bytes, reason: str = "undecodable") -> None:
    letter = DeadLetter(
        topic=CALLS,
        topic_id="tid",
        partition=2,
        offset=offset,
        stage="aggregate",
        reason=reason,
        error="broken",
    )
    headers = tuple(letter.headers())
    send(settings, [Outgoing(topic=DLQ, key=b"k", value=value, headers=headers)])


def test_dead_letters_are_listed_once_shown_and_put_back(cli: Any, events: None, settings: Settings) -> None:
    dead(settings, 5, b"\xc3\x01broken")
    dead(settings, 5, b"\xc3\x01broken")  # the same one again, from a redo
    dead(settings, 6, b"{not json", reason="bad_json")
    rows = cli("dlq", "list", "--json").rows
    assert [(row["offset"], row["reason"], row["bytes"]) for row in rows] == [
        (5, "undecodable", 8),
        (6, "bad_json", 9),
    ]
    assert cli("dlq", "list", "--json", "--reason", "bad_json").rows == rows[1:]
    assert cli("dlq", "list", "--json", "-n", "1").rows == rows[1:]
    (shown,) = cli("dlq", "show", rows[0]["id"], "--json").rows
    assert (shown["hex"], shown["text"]) == (b"\xc3\x01broken".hex(), None)
    assert cli("dlq", "show", rows[1]["id"], "--raw").out == "{not json"
    assert cli("dlq", "requeue", rows[1]["id"]).code == 5
    assert cli("dlq", "requeue", rows[1]["id"], "--dry-run", "--json").rows == rows[1:]
    assert cli("dlq", "requeue", rows[1]["id"], "--yes").code == 0
    (back,) = scan.messages(settings, CALLS)
    assert (back.key(), back.value()) == (b"k", b"{not json")
    assert back.headers() == [(REQUEUED_HEADER, b"tid:2:6")]


def test_dead_letters_that_are_not_there_and_choices_not_made(
    cli: Any, events: None, settings: Settings
) -> None:
    assert cli("dlq", "list").out == ""
    assert cli("dlq", "show", "0:99").code == 3
    assert cli("dlq", "requeue", "0:99", "--yes").code == 3
    assert cli("dlq", "requeue", "--yes").code == 2
    assert dead_letters.read(
        DeadLetter(topic="t", topic_id="i", partition=0, offset=0, stage="s", reason="r", error="e").headers()
    )
