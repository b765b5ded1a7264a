"""Deployments by commands, on a real broker."""

from typing import Any

import pytest
from tests.infra.rolling_out import command, progress, publish

from tidegate.records import DeploymentStatus
from tidegate.topics import DEPLOYMENTS, PROGRESS, STATUS
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("kafka")


def test_the_highest_revision_is_shown_not_the_last_record(
    cli: Any, control: None, settings: Settings
) -> None:
    publish(settings, DEPLOYMENTS, command(1), command(3), command(2))
    (row,) = cli("deployment", "show", "--json").rows
    assert (row["revision"], row["state"]) == (3, None)
    assert row["weights"][0]["weight_bp"] == 5_000
    assert "march 50 %, june 50 %" in cli("deployment", "show", "answers").out
    assert cli("deployment", "show", "others", "--json").rows == []


def test_a_deployment_shows_its_present_state_beside_the_commanded_one(
    cli: Any, control: None, settings: Settings
) -> None:
    publish(settings, DEPLOYMENTS, command(3))
    publish(settings, PROGRESS, progress(state="holding"))
    (row,) = cli("deployment", "show", "--json").rows
    assert (row["commanded"], row["state"]) == ("progressing", "holding")
    assert "holding  progressing" in cli("deployment", "show").out
    publish(settings, PROGRESS, progress(generation=2, state="succeeded", version=99))
    (row,) = cli("deployment", "show", "--json").rows
    assert row["state"] is None, "the state of another rollout is not that of this one"


def test_the_log_has_commands_once_and_what_appliers_answered(
    cli: Any, control: None, settings: Settings
) -> None:
    publish(settings, DEPLOYMENTS, command(1), command(2), command(1))
    answer = DeploymentStatus(
        command_id=command(2).command_id,
        tenant="acme",
        environment="prod",
        deployment="answers",
        revision=2,
        applier="gateway",
        status="applied",
        ts=2_500_000,
    )
    publish(settings, STATUS, answer)
    rows = cli("deployment", "log", "--json").rows
    assert [(row["kind"], row["revision"], row["by"]) for row in rows] == [
        ("command", 1, "controller"),
        ("command", 2, "controller"),
        ("answer", 2, "gateway"),
    ]
