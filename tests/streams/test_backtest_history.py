"""What Kafka and the store hold of the past: the same decision as over the same events in a file."""

import dataclasses
import itertools
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from tests.streams.test_backtest_command import ROLLOUT, T0

from tidegate import codec
from tidegate.client.handle import series_of
from tidegate.records import Evaluation, Guardrail, LLMCall, Retrieval
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_consumers.sink.facts import Reading, facts
from tidegate_consumers.sink.store import Store
from tidegate_infra import rollout_file
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.kafka import topics
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings
from tidegate_streams.backtest import drive, files, log, store
from tidegate_streams.backtest.outcome import Outcome
from tidegate_streams.backtest.tally import Tally

METRICS = """metrics:
  - {name: error_rate, promotionMargin: 5 points, rollbackMargin: 1 points}
  - {name: guardrail.pii, promotionMargin: 50 points, rollbackMargin: 40 points}
  - {name: evaluation.exact, promotionMargin: 50 points, rollbackMargin: 40 points}
  - {name: latency_us, promotionMargin: +50%}
"""
GUIDE = Path(__file__).parents[2] / "docs/backtest.md"
BOOK = PriceBook.load()
STAND_INS = {"tenant": "acme", "environment": "prod", "app": "chat", "variant": "default"}


def call(n: int) -> LLMCall:
    is_june = n % 2 == 1
    return LLMCall(
        event_id=f"01999999-9999-7999-8999-{n:012d}",
        ts_start=T0 + n * 200_000 - 500_000,
        ts_end=T0 + n * 200_000,
        tenant="acme",
        app="chat",
        environment="prod",
        deployment="chat",
        variant="june" if is_june else "march",
        assignment_reason="split",
        assignment_revision=1,
        assignment_hash=n * 7_919,
        operation="chat",
        provider="openai",
        request_model="gpt-4",
        user_hash=f"u{n % 40}",
        status="error" if is_june and n % 3 == 0 else "ok",
        guardrails=[Guardrail(name="pii", stage="output", triggered=n % 5 == 0)],
        retrieval=Retrieval(count=2, duration_us=n) if n % 4 else None,
    )


def check(one: LLMCall) -> Evaluation:
    return Evaluation(
        event_id=one.event_id.replace("-8999-", "-9999-"),
        ts=one.ts_end + 5,
        tenant="acme",
        name="exact",
        kind="assertion",
        evaluator="me",
        passed=one.status == "ok",
        target_event_id=one.event_id,
        series=series_of(one),
    )


CALLED = [call(n) for n in range(600)]
CHECKED = [check(one) for one in CALLED]


def view(spec_file: Path, pieces: Any, **span: Any) -> dict[str, Any]:
    spec = dataclasses.replace(rollout_file.read(spec_file), generation=1, actor="me")
    tally = Tally(spec, BOOK, **span)
    for piece in pieces(spec):
        tally.refuse(piece.source, piece.refused)
        tally.add(piece.source, piece.record, piece.events, piece.append_us)
    return Outcome.of(spec, drive.decide(spec, drive.released(tally.partials()))).view(tally)


def rollout(tmp_path: Path) -> Path:
    path = tmp_path / "rollout.yaml"
    path.write_text(ROLLOUT[: ROLLOUT.index("metrics:")] + METRICS + "maxDuration: 2h\n")
    return path


def in_a_file(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "events.jsonl"
    lines = [json.dumps(codec.as_dict(one), default=str) for one in CALLED]
    lines += [json.dumps({"type": "evaluation"} | codec.as_dict(one), default=str) for one in CHECKED]
    path.write_text("\n".join(lines) + "\n")
    return view(rollout(tmp_path), lambda _: files.read(path, STAND_INS))


def test_ratings_that_name_only_their_call_count_as_if_they_had_its_series(tmp_path: Path) -> None:
    bare = [dataclasses.replace(one, series=None) for one in CHECKED]
    nowhere = "01999999-9999-7999-9999-999999999998"
    stray = dataclasses.replace(bare[0], event_id=nowhere[:-1] + "9", target_event_id=nowhere)
    path = tmp_path / "bare.jsonl"
    # Before their calls, and one of them a second time with its series, as a resolver writes it.
    written = [{"type": "evaluation"} | codec.as_dict(one) for one in [*bare, stray, CHECKED[7]]]
    written += [codec.as_dict(one) for one in CALLED]
    path.write_text("".join(json.dumps(line, default=str) + "\n" for line in written))
    found = view(rollout(tmp_path), lambda _: files.read(path, STAND_INS))
    assert found["commands"] == in_a_file(tmp_path)["commands"]
    assert found["events"]["read"] == {"LLMCall": 600, "Evaluation": 600}
    assert [(one["place"], one["reason"]) for one in found["events"]["named"]] == [
        (f"{path}:601", "unresolved")
    ]


@pytest.mark.long
def test_what_kafka_holds_decides_as_a_file_of_it(kafka: str, settings: Settings, tmp_path: Path) -> None:
    topics.apply(settings, [CALLS, FEEDBACK, EVALUATIONS])
    sent = [Outgoing(topic=CALLS, key=one.event_id, value=codec.encode(one)) for one in CALLED]
    sent += [Outgoing(topic=EVALUATIONS, key=one.target_event_id, value=codec.encode(one)) for one in CHECKED]
    send(settings, [*sent, Outgoing(topic=CALLS, key="x", value=b"no call"), sent[0]])
    found = view(rollout(tmp_path), lambda _: log.read(settings, None))
    assert found["events"]["refused"].pop("duplicate") == 1
    assert sum(found["events"]["refused"].values()) == 1
    assert found["events"]["named"][0]["place"].startswith("llm.calls[")
    expected = in_a_file(tmp_path)
    assert expected["decision"] == "rollback"
    assert found["commands"] == expected["commands"]
    # Appended just now, although of last year: from there on, and not before.
    assert view(rollout(tmp_path), lambda _: log.read(settings, 4_000_000_000_000_000))["calls"] == 0


@pytest.mark.long
def test_what_the_store_holds_decides_as_a_file_of_it(
    migrated: None, settings: Settings, tmp_path: Path
) -> None:
    offsets = itertools.count()
    with closing(Store(settings)) as opened:
        for topic, records in ((CALLS, CALLED), (EVALUATIONS, CHECKED)):
            messages = [
                Message(
                    topic=topic,
                    partition=0,
                    offset=next(offsets),
                    key=(one.event_id if isinstance(one, LLMCall) else one.target_event_id or "").encode(),
                    value=codec.encode(one),
                    timestamp=(2, T0 // 1_000 + 10**6),
                )
                for one in records
            ]
            lo, hi = messages[0].offset() or 0, messages[-1].offset() or 0
            range_ = Range(
                topic=topic, topic_id=topic, partition=0, lo=lo, hi=hi, messages=messages, redo=False, epoch=1
            )
            opened.put(range_, facts(range_, Reading([False] * len(messages), BOOK)), doubtful=False)
    found = view(rollout(tmp_path), lambda spec: store.read(settings, spec, None, None))
    assert found["commands"] == in_a_file(tmp_path)["commands"]
    assert found["events"]["read"] == {"LLMCall": 600, "Evaluation": 600}
    exports = re.findall(r"tidegate sql '(.+)' > (.+)", GUIDE.read_text())
    assert len(exports) == 3
    with closing(connect(settings)) as client:
        for query, name in exports:
            (tmp_path / name).write_bytes(client.raw_query(query))
    paths = [tmp_path / name for _, name in exports]
    from_files = view(rollout(tmp_path), lambda _: (p for path in paths for p in files.read(path, STAND_INS)))
    assert from_files["commands"] == found["commands"]
    assert from_files["events"]["read"] == {"LLMCall": 600, "Evaluation": 600}
    half = view(rollout(tmp_path), lambda spec: store.read(settings, spec, T0, T0 + 60_000_000))
    assert half["events"]["read"]["LLMCall"] == 300
