"""A registry that does not know everything at once, and knows more than our schemas."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.schema_registry.error import SchemaRegistryError

from tidegate import registry, versions
from tidegate.errors import ContractError, DependencyUnavailable
from tidegate.records import LLMCall
from tidegate.registry import DENIED_S, PATIENCE_S, SchemaRegistry

CALL = json.dumps(versions.latest(LLMCall).source)


def nested(depth: int) -> str:
    return '{"type": "array", "items": ' * depth + '"int"' + "}" * depth


class Answers:
    """A registry's client; what is missing comes with time, and may be an error."""

    def __init__(self, known: dict[int, tuple[float, Any]], clock: "Clock") -> None:
        self.known, self._clock = known, clock
        self.asked: list[int] = []

    def get_schema(self, schema_id: int) -> Any:
        self.asked.append(schema_id)
        from_s, answer = self.known.get(schema_id, (float("inf"), ""))
        if self._clock.now_s < from_s:
            raise SchemaRegistryError(404, 40403, "Schema not found")
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(schema_str=answer)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(registry, "time", made)
    return made


def asked(clock: Clock, **known: tuple[float, Any]) -> tuple[SchemaRegistry, Answers]:
    """Make a registry that knows ids from some seconds on."""
    made = SchemaRegistry("mock://late")
    later = {int(name[1:]): (clock.now_s + after_s, answer) for name, (after_s, answer) in known.items()}
    answers: Any = Answers(later, clock)
    made._client = answers
    return made, answers


def refused(one: SchemaRegistry, schema_id: int) -> str:
    with pytest.raises(ContractError) as caught:
        one.version(schema_id)
    assert caught.value.reason == "unknown_schema"
    return caught.value.detail


def test_an_id_that_the_registry_knows_a_moment_later_is_not_refused(clock: Clock) -> None:
    one, answers = asked(clock, _7=(PATIENCE_S - 0.1, CALL))
    assert one.version(7).record is LLMCall
    times = len(answers.asked)
    assert one.version(7).record is LLMCall
    assert len(answers.asked) == times


def test_a_denial_is_believed_for_a_while_and_not_for_ever(clock: Clock) -> None:
    one, answers = asked(clock, _7=(PATIENCE_S + 10, CALL))
    assert "knows no schema of id 7" in refused(one, 7)
    times = len(answers.asked)
    clock.now_s += DENIED_S - 1
    refused(one, 7)
    assert len(answers.asked) == times
    clock.now_s += 1
    assert one.version(7).record is LLMCall


def test_ids_that_nobody_has_registered_hold_up_the_others_for_a_moment_only(clock: Clock) -> None:
    (one, _), began_s = asked(clock), clock.now_s
    for schema_id in range(1_000):
        refused(one, schema_id)
    assert clock.now_s - began_s < PATIENCE_S + 1


@pytest.mark.parametrize(
    "text",
    [
        'syntax = "proto3"; message LLMCall {}',
        '{"type": "object", "properties": {}}',
        '["null", "string"]',
        '"string"',
        "3",
        '{"type": "record", "name": "LLMCall", "fields": [{"name": "x", "type": "Elsewhere"}]}',
        '{"name": "LLMCall"}',
        "",
        "[" * 3_000 + "]" * 3_000,
        CALL.replace(
            '"fields": [', '"fields": [{"name": "deep", "type": ' + nested(900) + ', "default": []}, ', 1
        ),
    ],
    ids=range(10),
)
def test_a_schema_that_is_none_of_ours_is_refused_and_stops_nobody(clock: Clock, text: str) -> None:
    one, answers = asked(clock, _1=(0, text))
    assert "id 1 is no schema of the contract" in refused(one, 1)
    refused(one, 1)
    assert answers.asked == [1]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("timestamp-micros", "timestamp-millis"), ('"scale": ', '"scale": 1')]
)
def test_our_schema_with_numbers_of_another_unit_is_not_ours(clock: Clock, ours: str, theirs: str) -> None:
    assert ours in CALL
    without_units = json.dumps(versions.plain_times(versions.latest(LLMCall).source))
    one, _ = asked(clock, _1=(0, CALL.replace(ours, theirs)), _2=(0, without_units), _3=(0, CALL))
    assert "id 1 is no schema of the contract" in refused(one, 1)
    assert one.version(2) == one.version(3) == versions.latest(LLMCall)


def test_schemas_that_differ_in_a_unit_alone_are_two(clock: Clock) -> None:
    newer = CALL.replace('"fields": [', '"fields": [{"name": "more", "type": "long", "default": 0}, ', 1)
    one, _ = asked(clock, _1=(0, newer), _2=(0, newer.replace("timestamp-micros", "timestamp-millis")))
    assert one.version(1).record is one.version(2).record is LLMCall
    assert one.version(1).fingerprint != one.version(2).fingerprint


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_id_that_the_registry_cannot_even_parse_is_denied(clock: Clock, status: int) -> None:
    one, _ = asked(clock, _7=(0, SchemaRegistryError(status, 40002, "Invalid parameter 'id'")))
    assert "knows no schema of id 7" in refused(one, 7)


def test_an_id_of_more_than_31_bits_is_denied_unasked_and_at_once(clock: Clock) -> None:
    (one, answers), began_s = asked(clock), clock.now_s
    assert "knows no schema of id 2147483648" in refused(one, 2**31)
    assert answers.asked == []
    assert clock.now_s == began_s


@pytest.mark.parametrize(
    "error",
    [
        SchemaRegistryError(401, 40101, "away"),
        SchemaRegistryError(403, 40301, "away"),
        SchemaRegistryError(503, 50003, "away"),
        OSError("https://key@host"),
    ],
)
def test_a_registry_that_does_not_answer_denies_nothing(clock: Clock, error: Exception) -> None:
    one, answers = asked(clock, _1=(0, error))
    with pytest.raises(DependencyUnavailable, match=r"schema registry: (away|OSError)") as caught:
        one.version(1)
    assert "key" not in str(caught.value)
    answers.known[1] = (0, CALL)
    assert one.version(1).record is LLMCall
