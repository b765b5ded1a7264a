"""What a person asked for is looked up in the log: once is right, never and twice are not."""

from types import SimpleNamespace
from typing import Any

import pytest
from tests.faults import operator
from tests.faults.operator import Asked, unequal_effects

from tidegate.topics import ACTIONS, DEPLOYMENTS, STATUS
from tidegate_infra.settings import Settings


def recorded(reason: str, action_id: str) -> Any:
    return SimpleNamespace(reason=reason, action_id=action_id)


def command(action: str, revision: int, reason: str) -> Any:
    whose = {"tenant": "acme", "environment": "prod", "deployment": "bot"}
    return SimpleNamespace(action=action, revision=revision, reason=f"Paused by ada: {reason}", **whose)


def refusal(action_id: str, detail: str) -> Any:
    return SimpleNamespace(command_id=action_id, status="rejected", detail=detail)


ONCE = command("pause", 3, "fault number 1.")


@pytest.mark.parametrize(
    ("code", "log", "found"),
    [
        (0, {ACTIONS: ["a"], DEPLOYMENTS: [ONCE, ONCE]}, 0),
        (0, {ACTIONS: ["a", "a"], STATUS: [refusal("a", "it is paused"), refusal("a", "it is paused")]}, 0),
        (4, {}, 0),
        (4, {ACTIONS: ["a"], DEPLOYMENTS: [ONCE]}, 0),
        (0, {}, 1),
        (0, {ACTIONS: ["a"]}, 1),
        (4, {ACTIONS: ["a"]}, 1),
        (0, {ACTIONS: ["a"], DEPLOYMENTS: [ONCE, command("pause", 4, "fault number 1.")]}, 1),
        (0, {ACTIONS: ["a"], DEPLOYMENTS: [ONCE], STATUS: [refusal("a", "it is paused")]}, 1),
        (0, {ACTIONS: ["a"], DEPLOYMENTS: [command("abort", 3, "fault number 1.")]}, 1),
    ],
)
def test_an_action_counts_once(
    code: int, log: dict[str, list[Any]], found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def records(_: Settings, topic: str) -> list[tuple[None, Any]]:
        here = log.get(topic, [])
        made = [recorded("fault number 1.", one) for one in here] if topic == ACTIONS else here
        return [(None, record) for record in made]

    monkeypatch.setattr(operator.scan, "records", records)
    asked = [Asked("pause", "good-change", "fault number 1.", code)]
    assert len(list(unequal_effects(Settings(), asked))) == found
