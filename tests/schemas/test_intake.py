"""Events from JSON lines."""

import dataclasses
import io
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import intake
from tidegate.client.completion import Defaults
from tidegate.client.screen import holds
from tidegate.codec import as_json, encode
from tidegate.errors import ContractError
from tidegate.intake import Line, derived_id, microseconds, read, record_from_json
from tidegate.records import RECORDS, Evaluation, Feedback, LLMCall, Rollout

DEFAULTS: Defaults = SimpleNamespace(tenant="acme", app="app", environment="prod", app_version=None)

CALL: Mapping[str, Any] = {
    "ts_start": 1_772_366_400_000_000,
    "ts_end": "2026-03-01T12:00:01.5Z",
    "operation": "chat",
    "provider": "openai",
    "request_model": "gpt-4o",
    "status": "ok",
}
FEEDBACK = {
    "type": "feedback", "ts": "2026-03-01T13:00:00Z", "name": "helpful", "kind": "stars", "value": 5,
    "given_by": "user", "target_event_id": "019ca94e-fd00-7000-8000-5f6fdb5b3a01",
}  # fmt: skip
EVALUATION = {
    "type": "evaluation", "ts": 1_772_366_400_000_000, "name": "faithful", "kind": "judge", "evaluator": "j",
    "cost_usd": "0.0021", "passed": True, "dataset_item_id": "item-1",
}  # fmt: skip


def lines(*items: Any) -> list[Line]:
    data = b"\n".join(i if isinstance(i, bytes) else json.dumps(i).encode() for i in items)
    return list(read(io.BytesIO(data), DEFAULTS))


def only(item: Any) -> Line:
    (line,) = lines(item)
    return line


def said(item: Any) -> list[str]:
    line = only(item)
    assert line.event is None
    return [str(problem) for problem in line.problems]


def test_each_line_becomes_its_record() -> None:
    found = lines(CALL, b"", FEEDBACK, EVALUATION)
    assert [(line.number, type(line.event)) for line in found] == [
        (1, LLMCall),
        (3, Feedback),
        (4, Evaluation),
    ]
    call, feedback, evaluation = (line.event for line in found)
    assert isinstance(call, LLMCall)
    assert (call.tenant, call.app, call.environment, call.deployment) == ("acme", "app", "prod", "app")
    assert (call.ts_end - call.ts_start, call.source) == (1_500_000, "cli")
    assert isinstance(feedback, Feedback)
    assert (feedback.ts, feedback.positive) == (1_772_370_000_000_000, True)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.cost_usd == Decimal("0.0021")
    assert all(encode(line.event) for line in found)


def test_a_file_read_twice_gives_the_same_ids_and_another_file_others() -> None:
    first, again = lines(CALL, CALL), lines(CALL, CALL)
    other = lines(CALL, CALL, b"")
    ids = [line.event.event_id for line in first if line.event]
    assert len(set(ids)) == 2
    assert ids == [line.event.event_id for line in again if line.event]
    assert lines(CALL, {**CALL, "tags": ["x"]})[0].event.event_id not in ids  # type: ignore[union-attr]
    assert len(other) == 2


def test_a_derived_id_is_a_uuidv7_of_the_events_time() -> None:
    value = UUID(derived_id(1_772_366_401_500_000, b"digest", 3))
    assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert value.int >> 80 == 1_772_366_401_500


def test_an_id_that_is_given_is_kept() -> None:
    event_id = "01a1fdd7-1d30-70f5-bd77-cd25a621f762"
    line = only({**CALL, "event_id": event_id})
    assert line.event is not None
    assert line.event.event_id == event_id


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"inptu_tokens": 3}, "inptu_tokens: no such field; did you mean input_tokens?"),
        ({"zzzzzz": 3}, "zzzzzz: no such field"),
        ({"input_tokens": -3}, "input_tokens: -3 is negative"),
        ({"input_tokens": "3"}, "input_tokens: \"3\" where a valid integer belongs"),
        ({"input_tokens": 3.0}, "input_tokens: 3.0 where a valid integer belongs"),
        ({"stream": "yes"}, "stream: \"yes\" where a valid boolean belongs"),
        ({"provider": None}, "provider: is missing"),
        ({"provider": ""}, "provider: is missing"),
        ({"ts_end": 1_772_366_399_999_999}, "ts_end: lies 1 µs before ts_start"),
        (
            {"ts_end": 1_772_366_400_000_000_000},
            "ts_end: 1772366400000000000 is no time in microseconds; is it in nanoseconds?",
        ),
        ({"tags": {"a": 1}}, "tags: {\"a\": 1} where a valid array belongs"),
        ({"tags": ["a", 5]}, "tags[1]: 5 where a valid string belongs"),
        (
            {"guardrails": [{"name": "pii", "stage": "input", "durationus": 3}]},
            "guardrails[0].durationus: no such field; did you mean duration_us?",
        ),
        ({"guardrails": [{"name": "pii"}]}, "guardrails[0].stage: is missing"),
        ({"guardrails": ["pii"]}, "guardrails[0]: \"pii\" where an object belongs"),
        ({"retrieval": {"count": 1, "duration_us": -1}}, "retrieval.duration_us: -1 is negative"),
        (
            {"source": "likelihood"},
            "source: 'likelihood' is none of sdk, litellm, otel, http, cli, replay",
        ),
        (
            {"outcome": "answred"},
            "outcome: 'answred' is none of answered, abstained, refused, empty; did you mean answered?",
        ),
        ({"outcome": "🦆"}, "outcome: '🦆' is none of answered, abstained, refused, empty"),
        (
            {"guardrails": [{"name": "pii", "stage": "inputs"}]},
            "guardrails[0].stage: 'inputs' is none of input, output, tool, retrieval; did you mean input?",
        ),
        ({"type": "chat"}, "type: \"chat\" is none of call, feedback, evaluation"),
        ({"type": ["call"]}, "type: [\"call\"] is none of call, feedback, evaluation"),
    ],
)  # fmt: skip
def test_a_bad_field_is_named(change: dict[str, Any], problem: str) -> None:
    assert said({**CALL, **change}) == [problem]


@pytest.mark.parametrize(
    "time", ["yesterday", "2026-02-30T12:00:00Z", "2026-03-01T12:00:00", "2026-03-01", ""]
)
def test_what_is_no_time_is_refused_with_an_example(time: str) -> None:
    wanted = "microseconds or a time such as 2026-03-01T12:00:00.25Z belongs"
    assert said({**CALL, "ts_start": time}) == [f'ts_start: "{time}" where {wanted}']


def test_all_that_is_wrong_with_a_line_is_told_at_once() -> None:
    assert said({**CALL, "input_tokens": -1, "output_tokens": -2, "attempt": 0}) == [
        "attempt: attempts count from 1",
        "input_tokens: -1 is negative",
        "output_tokens: -2 is negative",
    ]


def test_a_missing_field_hides_no_other_mistake() -> None:
    wrong = {
        "ts_end": "2026-03-01T12:00:01Z",
        "ts_start": "yesterday",
        "operation": "chat",
        "status": 200,
        "input_tokens": -1,
        "latency": 3,
        "tags": ["a", 5],
        "variant": "v" * 300,
        "guardrails": [{"stage": "input", "duration_us": -5}, "pii", {"name": "", "stage": "output"}],
        "retrieval": {"count": "3", "duration_us": -1},
        "attempt": 0,
    }
    wanted = "microseconds or a time such as 2026-03-01T12:00:00.25Z belongs"
    assert sorted(said(wrong)) == [
        "attempt: attempts count from 1",
        "guardrails[0].duration_us: -5 is negative",
        "guardrails[0].name: is missing",
        'guardrails[1]: "pii" where an object belongs',
        "guardrails[2].name: is missing",
        "input_tokens: -1 is negative",
        "latency: no such field",
        "provider: is missing",
        "request_model: is missing",
        'retrieval.count: "3" where a valid integer belongs',
        "retrieval.duration_us: -1 is negative",
        "status: 200 where a valid string belongs",
        "tags[1]: 5 where a valid string belongs",
        f'ts_start: "yesterday" where {wanted}',
        "variant: vvvvvvvvvvvvvvvvvvvv… is 300 bytes long, at most 256",
    ]


def test_an_app_that_nobody_names_is_one_mistake_and_no_missing_deployment() -> None:
    nameless = SimpleNamespace(tenant="acme", app="", environment="prod", app_version=None)
    (line,) = read(io.BytesIO(json.dumps(CALL).encode()), nameless)
    assert [str(problem) for problem in line.problems] == ["app: is missing"]
    (line,) = read(io.BytesIO(json.dumps({**CALL, "deployment": "d" * 300}).encode()), nameless)
    assert [problem.field for problem in line.problems] == ["app", "deployment"]


@pytest.mark.parametrize("missing", ["ts_start", "ts_end"])
def test_what_is_missing_makes_no_other_field_look_wrong(missing: str) -> None:
    rest = {name: value for name, value in CALL.items() if name != missing}
    assert said(rest) == [f"{missing}: is missing"]


def test_a_target_of_the_wrong_type_is_one_mistake() -> None:
    assert said({**FEEDBACK, "target_event_id": 7}) == ["target_event_id: 7 where a valid string belongs"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"a": NaN}', "line: no JSON at character 7: expected value"),
        ('{"ä": "ö", b}'.encode(), "line: no JSON at character 12: key must be a string"),
        (b'{"op": "\xff"}', "line: no JSON at character 9: invalid unicode code point"),
    ],
)
def test_text_that_is_no_json_is_told_with_the_place(data: bytes, problem: str) -> None:
    assert said(data) == [problem]


def test_an_event_too_large_for_kafka_is_told_before_it_is_sent() -> None:
    fits = {**CALL, "usage_raw": "x" * 890_000, "content": {"input": "y" * 2_000_000, "bytes": 2_000_000}}
    assert only(fits).event is not None
    (problem,) = said({**fits, "usage_raw": "x" * 900_000})
    assert problem.startswith("line: 900")
    assert problem.endswith(" bytes without its bodies, at most 900000 go to Kafka")


def test_feedback_without_a_time_is_refused_for_it_would_differ_at_each_reading() -> None:
    assert said({k: v for k, v in FEEDBACK.items() if k != "ts"}) == ["ts: is missing"]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe{}", b"{", b"nul", b"[1]", b"3", b'"x"', b'{"a": NaN}', b'{"a": Infinity}',
        b'{"a":1} {"b":2}',
        b"[" * 100_000, b'{"a":' * 5_000, b'{"provider": "\\ud800"}', b"\x00",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused_and_the_next_line_read(data: bytes) -> None:
    bad, good = lines(data, CALL)
    assert bad.event is None
    assert [p.field for p in bad.problems] == ["line"]
    assert good.event is not None
    assert good.number == 2


def test_numbers_beyond_floats_are_refused() -> None:
    assert said(json.dumps(CALL).encode()[:-1] + b', "temperature": 1e999}') == [
        "temperature: inf is no finite number"
    ]


def test_a_line_too_long_is_not_held_and_does_not_hide_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_LINE_BYTES", 500)
    long = {**CALL, "tags": ["x" * 3_000_000]}
    bad, good = lines(long, CALL)
    assert str(bad.problems[0]) == "line: longer than 500 bytes"
    assert (good.number, good.event is not None) == (2, True)


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    text = json.dumps(CALL).encode()
    found = list(read(io.BytesIO(b"\xef\xbb\xbf" + text + b"\r\n\r\n" + text + b"\r\n"), DEFAULTS))
    assert [(line.number, line.event is not None) for line in found] == [(1, True), (3, True)]


def test_a_pipe_gives_the_ids_that_its_file_would() -> None:
    text = json.dumps(CALL).encode() + b"\n"
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(text)
    with os.fdopen(reading, "rb") as pipe:
        piped = list(read(pipe, DEFAULTS))
    assert piped == list(read(io.BytesIO(text), DEFAULTS))


@given(
    st.integers(0, 4_102_444_800_000_000),
    st.sampled_from([0, 90, -150, 840]),
)
def test_times_in_words_are_exact_to_the_microsecond(time_us: int, offset_minutes: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    zone = timezone(timedelta(minutes=offset_minutes))
    assert microseconds(moment.astimezone(zone).isoformat()) == time_us


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from([*LLMCall.__slots__, "type", "stage", "x"])


@given(st.dictionaries(names, json_values, max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_object_becomes_an_event_that_can_be_sent_or_is_refused_by_field(fields: dict[str, Any]) -> None:
    line = only({**CALL, **fields})
    assert (line.event is None) == bool(line.problems)
    if line.event is not None:
        assert holds(line.event)
        assert encode(line.event)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_to_their_end(data: bytes) -> None:
    found = list(read(io.BytesIO(data + b"\n" + json.dumps(CALL).encode()), DEFAULTS))
    assert found[-1].event is not None


def test_json_in_kafka_is_read_strictly() -> None:
    line = only(CALL)
    assert record_from_json(LLMCall, as_json(line.event).encode()) == line.event
    with pytest.raises(ContractError, match=r"^invalid_field: status: is missing$"):
        record_from_json(LLMCall, json.dumps({k: v for k, v in CALL.items() if k != "status"}).encode())
    with pytest.raises(ContractError, match=r"^bad_json: "):
        record_from_json(LLMCall, b"{")
    with pytest.raises(ContractError, match="did you mean deployment"):
        record_from_json(Rollout, b'{"deploymnt": 1}')


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.__name__)
def test_json_without_a_single_field_names_every_one_that_is_missing(record: type) -> None:
    with pytest.raises(ContractError) as caught:
        record_from_json(record, b"{}")
    required = [
        f.name for f in dataclasses.fields(record) if f.default is MISSING and f.default_factory is MISSING
    ]
    assert caught.value.detail.split("; ") == [f"{name}: is missing" for name in required]
    wrong = json.dumps({f.name: [[]] for f in dataclasses.fields(record)}).encode()
    with pytest.raises(ContractError, match=r"^invalid_field"):
        record_from_json(record, wrong)
