"""What the README shows a newcomer is what the code takes."""

import io
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tidegate
from tidegate.client import configuration
from tidegate.client.completion import Defaults
from tidegate.intake import read
from tidegate.records import Feedback, LLMCall
from tidegate.testing import capture
from tidegate_infra import rollout_file

README = (Path(__file__).parents[2] / "README.md").read_text()

# What the README says beside the lines: `tidegate emit calls.jsonl --tenant ...`.
FLAGS = dict(re.findall(r"--(tenant|environment|app) (\w+)", README))
DEFAULTS: Defaults = SimpleNamespace(app_version=None, **FLAGS)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_json_lines_are_taken_as_they_stand() -> None:
    (text,) = blocks("json")
    lines = list(read(io.BytesIO(text.encode()), DEFAULTS))
    assert [(type(line.event), line.problems) for line in lines] == [(LLMCall, ()), (Feedback, ())]
    call, feedback = (line.event for line in lines)
    assert call is not None
    assert (call.tenant, FLAGS) == ("acme", {"tenant": "acme", "environment": "prod", "app": "support"})
    assert isinstance(feedback, Feedback)
    assert feedback.positive is True


def test_the_app_and_its_rollout_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    (app,), (text,) = blocks("python"), blocks("yaml")
    rollout = rollout_file.load(text)
    configured: dict[str, Any] = {}
    monkeypatch.setenv("HANDLE_KEY", "secret-of-this-test")
    monkeypatch.setattr(tidegate, "configure", configured.update)
    monkeypatch.setattr(tidegate, "Router", partial(tidegate.Router, follow=False))
    usage = SimpleNamespace(input=812, output=95)
    around = {
        "MODELS": {variant.name: variant.request_model for variant in rollout.variants},
        "ask": lambda _: SimpleNamespace(usage=usage),
        "user_id": "user-17",
    }
    with capture(handle_key="secret-of-this-test") as events:
        exec(app, around)
    settings = configuration.read(configured, environ={})
    assert (settings.tenant, settings.environment) == (rollout.tenant, rollout.environment)
    (call,), (feedback,) = events.calls, events.feedback
    assert call.deployment == rollout.deployment
    assert (call.variant, call.input_tokens, call.outcome) == ("stable", 812, "answered")
    assert (feedback.target_event_id, feedback.positive) == (call.event_id, True)
    assert events.dropped == {}
