"""What people did: done again at its time, and found in Kafka for the rollout that is meant."""

import dataclasses
import itertools
import time
from pathlib import Path

import polars as pl
import pytest
from tests.streams.test_backtest_command import MINUTE, T0, history, run
from tests.streams.test_backtest_command import rollout as rollout  # a fixture

from tidegate import codec
from tidegate.records import DeploymentCommand, DeploymentStatus, RolloutAction
from tidegate.topics import ACTIONS, DEPLOYMENTS, STATUS
from tidegate_infra import rollout_file
from tidegate_infra.kafka import topics
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings
from tidegate_streams.backtest import command as backtest
from tidegate_streams.backtest import drive, files, log, people
from tidegate_streams.backtest.outcome import Outcome
from tidegate_streams.backtest.tally import Tally
from tidegate_streams.rollouts.transitions import FINISHED, TRANSITIONS

KEY = "acme/prod/chat"
IDS = itertools.count()


def action(what: str, at_us: int, generation: int = 1, revision: int | None = None) -> RolloutAction:
    return RolloutAction(
        action_id=f"action-{next(IDS)}",
        key=KEY,
        generation=generation,
        action=what,
        expected_revision=revision,
        actor="ann",
        reason="the moon is full",
        ts=at_us,
    )


def decided(rollout: Path, tmp_path: Path, *actions: RolloutAction, paused: bool = False) -> Outcome:
    read = rollout_file.read(rollout)
    spec = dataclasses.replace(read, generation=1, actor="x", dry_run=True, paused=paused)
    tally = Tally(spec, PriceBook.load())
    stand_ins = {"tenant": "acme", "environment": "prod", "app": "chat", "variant": "default"}
    for piece in files.read(history(tmp_path / "h.parquet", 0.02), stand_ins):
        tally.add(piece.source, piece.record, piece.events)
    rows = drive.released(tally.partials(), as_if_assigned=True)
    return Outcome.of(spec, drive.decide(spec, rows, actions=actions))


def commanded(outcome: Outcome) -> list[tuple[str, int]]:
    return [(command.action, command.ts) for command in outcome.commands]


def test_what_a_person_did_is_done_again_at_its_time(rollout: Path, tmp_path: Path) -> None:
    first = decided(rollout, tmp_path)
    assert [one for one, _ in commanded(first)] == ["start", "promote"]
    (_, promoted_us) = commanded(first)[1]
    pause, resume = action("pause", T0 + 12_345_678), action("resume", promoted_us + MINUTE + 1)
    again = decided(rollout, tmp_path, pause, resume)
    assert commanded(again)[1:3] == [("pause", pause.ts), ("resume", resume.ts)]
    assert commanded(again)[3][0] == "promote"
    assert commanded(again)[3][1] > resume.ts
    assert again.commands[1].actor == "ann"


def test_what_was_asked_before_the_start_is_done_at_the_start(rollout: Path, tmp_path: Path) -> None:
    outcome = decided(rollout, tmp_path, action("resume", T0 - MINUTE), paused=True)
    assert commanded(outcome)[:2] == [("pause", T0), ("start", T0)]


@pytest.mark.parametrize("what", ["promote", "rollback", "abort"])
def test_a_person_may_end_it(what: str, rollout: Path, tmp_path: Path) -> None:
    outcome = decided(rollout, tmp_path, action(what, T0 + 5_000_000))
    assert outcome.decision is not None
    assert (outcome.decision.action, outcome.decision.actor_kind) == (what, "human")
    assert outcome.exit_code == {"promote": 0, "rollback": 1, "abort": 6}[what]
    assert outcome.decision.reason in outcome.lines()[-1 - len(outcome.decision.evidence) - 1]


def test_over_kafka_the_command_does_what_people_did_where_calls_count_as_recorded(
    rollout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = {"assignment_reason": pl.lit("split"), "assignment_revision": pl.lit(3)}
    file = history(tmp_path / "h.parquet", 0.02, **split)
    stand_ins = {"tenant": "acme", "environment": "prod", "app": "chat", "variant": "default"}
    asked = []

    def did(*arguments: object) -> list[RolloutAction]:
        asked.append(arguments[1:])
        return [action("rollback", T0 + 5_000_000)]

    monkeypatch.setattr(backtest, "settings_of", lambda *_: None)
    monkeypatch.setattr(log, "read", lambda *_: files.read(file, stand_ins))
    monkeypatch.setattr(people, "read", did)
    result = run("-f", rollout, "--events", "kafka", "--revision", 3, "--until", T0 + MINUTE)
    assert result.exit_code == 1
    assert "ann asked to rollback: the moon is full" in result.stderr
    assert asked == [(KEY, 3, 0, T0 + MINUTE)]
    assert run("-f", rollout, "--events", "kafka", "--assignment", "any").exit_code == 0
    assert len(asked) == 1


def test_every_command_that_ends_a_rollout_is_its_decision(rollout: Path) -> None:
    """By the machine's table: ended is what only waits for its last change of weights, or for nothing."""
    ends = {"promoting", "rolling_back", *FINISHED}
    spec = rollout_file.read(rollout)
    for (before, event), leads in TRANSITIONS.items():
        if leads.action is None:
            continue
        outcome = Outcome(spec)
        outcome.commands.append(command(leads.action, state=leads.state))
        assert (outcome.decision is not None) == (leads.state in ends), (before, event)


def command(
    what: str, generation: int = 1, revision: int = 1, state: str = "progressing"
) -> DeploymentCommand:
    return DeploymentCommand(
        command_id=f"command-{next(IDS)}",
        tenant="acme",
        environment="prod",
        deployment="chat",
        rollout="june",
        generation=generation,
        revision=revision,
        action=what,
        state=state,
        step=0,
        assignment_unit="session",
        salt="s",
        reason="r",
        actor="a",
        actor_kind="controller",
        ts=T0,
    )


@pytest.mark.long
def test_kafka_tells_what_was_asked_of_the_rollout_that_is_meant_and_not_refused(
    kafka: str, settings: Settings
) -> None:
    topics.apply(settings, [ACTIONS, DEPLOYMENTS, STATUS])
    asked = [
        action("resume", T0 + 9, generation=7, revision=3),
        action("pause", T0 + 1, generation=7, revision=2),
        action("promote", T0 + 5, generation=7),
        action("abort", T0 + 6, generation=6),
    ]
    refusal = DeploymentStatus(
        command_id=asked[2].action_id,
        tenant="acme",
        environment="prod",
        deployment="chat",
        revision=2,
        applier="stream",
        status="rejected",
        ts=time.time_ns() // 1_000,
    )
    sent = [Outgoing(topic=ACTIONS, key=KEY, value=codec.encode(one)) for one in asked]
    sent += [Outgoing(topic=DEPLOYMENTS, key=KEY, value=codec.encode(command("start", 6, 1)))]
    sent += [Outgoing(topic=DEPLOYMENTS, key=KEY, value=codec.encode(command("start", 7, 2)))]
    sent += [Outgoing(topic=STATUS, key=KEY, value=codec.encode(refusal))]
    send(settings, sent)
    found = people.read(settings, KEY, 2)
    assert [(one.action, one.generation, one.expected_revision) for one in found] == [
        ("pause", 1, None),
        ("resume", 1, None),
    ]
    assert [one.action for one in people.read(settings, KEY, 2, until_us=T0 + 9)] == ["pause"]
    assert people.read(settings, KEY, 9) == []
