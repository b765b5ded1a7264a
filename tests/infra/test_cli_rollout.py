"""Rollouts by commands, on a real broker."""

import dataclasses
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.infra.rolling_out import KEY, command, progress, publish

from tidegate.records import (
    DeploymentStatus,
    Rollout,
    RolloutAction,
)
from tidegate.series import specification_id
from tidegate.topics import (
    ACTIONS,
    DEPLOYMENTS,
    PROGRESS,
    ROLLOUTS,
    STATUS,
)
from tidegate_infra import rollout_log
from tidegate_infra.kafka import scan
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("kafka")

SPEC = """
apiVersion: tidegate/v1
kind: Rollout
metadata: {name: june, tenant: acme, environment: prod, deployment: answers}
assignBy: session
variants:
  march: {role: baseline, provider: openai, model: gpt-4-0314}
  june: {role: candidate, provider: openai, model: gpt-4-0613}
steps:
  - {weight: 10%}
  - {weight: 50%}
metrics: [error_rate, latency_us]
maxDuration: 2h
"""


def stored(settings: Settings, topic: str, kind: type) -> list[Any]:
    return [record for _, record in scan.records(settings, topic) if isinstance(record, kind)]


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    file = tmp_path / "june.yaml"
    file.write_text(SPEC)
    return file


@pytest.fixture
def applied(control: None, cli: Any, spec_file: Path) -> Path:
    assert cli("rollout", "apply", "-f", spec_file, "--yes").code == 0
    return spec_file


# Rollouts


def test_a_specification_is_written_once_and_replaced_by_the_next_generation(
    cli: Any, control: None, settings: Settings, spec_file: Path
) -> None:
    first = cli("rollout", "apply", "-f", spec_file, "--yes", "--reason", "why not", "--json")
    assert first.code == 0
    assert (first.rows[0]["result"], first.rows[0]["generation"]) == ("applied", 1)
    again = cli("rollout", "apply", "-f", spec_file, "--yes", "--json")
    assert (again.code, again.rows[0]["result"]) == (0, "unchanged")
    assert "unchanged" in again.err
    assert cli("rollout", "diff", "-f", spec_file).code == 0
    spec_file.write_text(SPEC.replace("10%", "20%"))
    assert cli("rollout", "diff", "-f", spec_file, "--json").rows[0]["differs"] is True
    changed = cli("rollout", "diff", "-f", spec_file)
    assert changed.code == 1
    assert "-  - {weight: 10%}\n+  - {weight: 20%}" in changed.out
    assert "replaces" not in cli("rollout", "apply", "-f", spec_file, "--dry-run").err
    publish(settings, PROGRESS, progress())
    tried = cli("rollout", "apply", "-f", spec_file, "--dry-run", "--json")
    assert "june replaces june (generation 1), which is progressing: that ends without" in tried.err
    assert (tried.code, tried.rows[0]["generation"]) == (0, 2)
    assert cli("rollout", "apply", "-f", spec_file).code == 0
    assert cli("rollout", "apply", "-f", spec_file, "--again", "--force").code == 0
    specs = stored(settings, ROLLOUTS, Rollout)
    assert [spec.generation for spec in specs] == [1, 2, 3]
    assert [spec.force for spec in specs] == [False, False, True]
    assert specs[0].reason == "why not"
    assert "@" in specs[0].actor
    assert specs[0].ts > 1.7e15


def test_of_two_who_apply_at_the_same_time_one_is_refused(
    cli: Any, applied: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rollout_log.present(settings, KEY)
    assert before.spec is not None
    theirs = dataclasses.replace(before.spec, generation=2, actor="somebody else", spec_hash="theirs")
    monkeypatch.setattr(rollout_log, "present", lambda *_: before)  # what was read just before they wrote
    publish(settings, ROLLOUTS, theirs)
    applied.write_text(SPEC.replace("10%", "20%"))
    outcome = cli("rollout", "apply", "-f", applied, "--yes")
    assert outcome.code == 5
    assert "somebody else applied generation 2" in outcome.err
    # First in the log, and last too: compaction must not bring back the one that lost.
    assert rollout_log.specs(settings)[KEY] == theirs
    assert stored(settings, ROLLOUTS, Rollout)[-1] == theirs


@pytest.mark.long
def test_many_who_apply_at_once_give_one_generation_each_or_are_refused(
    start_cli: Callable[..., Any], control: None, settings: Settings, tmp_path: Path
) -> None:
    children = []
    for percent in (10, 20, 30):
        file = tmp_path / f"{percent}.yaml"
        file.write_text(SPEC.replace("10%", f"{percent}%"))
        children.append(start_cli("rollout", "apply", "-f", file, "--yes"))
    codes = [child.wait(60) for child in children]
    for child in children:
        child.communicate()
    assert set(codes) <= {0, 5}
    assert 0 in codes
    winners = {spec.generation: spec.spec_hash for spec in reversed(stored(settings, ROLLOUTS, Rollout))}
    assert len(winners) == codes.count(0)


def test_a_broken_file_ends_with_3_and_every_error(
    cli: Any, control: None, settings: Settings, spec_file: Path
) -> None:
    spec_file.write_text(SPEC.replace("10%", "110%").replace("assignBy: session", "assignBy: moon"))
    for verb in ("apply", "lint", "diff"):
        outcome = cli("rollout", verb, "-f", spec_file)
        assert (outcome.code, outcome.out) == (3, "")
        assert outcome.err.startswith(f"{spec_file}:5:")
        assert f"{spec_file}:10:" in outcome.err
    assert stored(settings, ROLLOUTS, Rollout) == []


@pytest.mark.parametrize("content", [b"\x00\xff\xfe", b"", b"{" * 5_000, b"a: [1", None])
def test_what_is_no_rollout_ends_with_3_and_its_name(cli: Any, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "hostile.yaml"
    if content is not None:
        file.write_bytes(content)
    outcome = cli("rollout", "lint", "-f", file)
    assert outcome.code == 3
    assert f"{file}:1" in outcome.err


def test_lint_checks_several_files_and_names_the_errors_of_all(
    cli: Any, spec_file: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("kind: Rollout\n")
    outcome = cli("rollout", "lint", "-f", spec_file, "-f", broken, "-f", tmp_path / "gone.yaml")
    assert outcome.code == 3
    assert f"{spec_file}: fine: june, 2 steps, 2 metrics" in outcome.err
    assert f"{broken}:1:" in outcome.err
    assert "gone.yaml" in outcome.err
    rows = cli("rollout", "lint", "-f", spec_file, "-f", broken, "--json").rows
    assert [row["fine"] for row in rows] == [True, False]
    assert rows[1]["problems"][0]["line"] == 1


def test_lint_takes_directories_and_patterns_and_each_file_once(cli: Any, tmp_path: Path) -> None:
    more = tmp_path / "more"
    (more / "deep").mkdir(parents=True)
    for name in ("b.yaml", "a.yml", "deep/c.yaml", "notes.txt"):
        (more / name).write_text(SPEC)
    (more / "b.yaml").write_text("kind: Rollout\n")
    rows = cli("rollout", "lint", more, f"{tmp_path}/**/*.yml", more / "a.yml", "-o", "json").rows
    assert [(row["file"], row["fine"]) for row in rows] == [
        (f"{more}/a.yml", True),
        (f"{more}/b.yaml", False),
        (f"{more}/deep/c.yaml", True),
    ]
    outcome = cli("rollout", "lint", f"{tmp_path}/m*/*.y*ml")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (3, "2 files: 1 with mistakes")
    assert cli("rollout", "lint", more / "deep").code == 0
    assert cli("rollout", "lint", f"{tmp_path}/none/*.yaml").code == 3
    (tmp_path / "none").mkdir()
    nothing = cli("rollout", "lint", tmp_path / "none")
    assert nothing.code == 3
    assert nothing.err.startswith(f"{tmp_path}/none:1:1: no rollout file is in this directory")
    assert cli("rollout", "lint").code == 2


def test_a_rollout_that_the_stream_has_not_seen_is_pending_and_one_that_it_refused_says_why(
    cli: Any, applied: Path, settings: Settings
) -> None:
    (view,) = cli("rollout", "show", "june", "--json").rows
    assert (view["state"], view["revision"], view["weights"], view["metrics"]) == ("pending", None, {}, [])
    assert cli("rollout", "status", "june", "--wait", "--timeout", "0.2").code == 6
    (spec,) = stored(settings, ROLLOUTS, Rollout)
    answer = DeploymentStatus(
        command_id=specification_id(spec.spec_hash, spec.generation),
        tenant="acme",
        environment="prod",
        deployment="answers",
        revision=0,
        applier="tidegate",
        status="rejected",
        detail="there are no steps",
        ts=1,
    )
    older = dataclasses.replace(answer, command_id=specification_id(spec.spec_hash, 0), detail="of long ago")
    publish(settings, STATUS, older, answer)
    waited = cli("rollout", "status", "june", "--wait")
    assert (waited.code, waited.out) == (6, "june: refused, -: there are no steps\n")


def test_show_has_the_fields_that_scripts_depend_on(cli: Any, applied: Path, settings: Settings) -> None:
    publish(settings, PROGRESS, progress(), progress(version=39, state="holding"))
    (view,) = cli("rollout", "show", "june", "--json").rows
    assert (view["state"], view["revision"], view["step"]) == ("progressing", 3, 1)
    assert view["weights"] == {"march": 5_000, "june": 5_000}
    assert view["exposure"] == [{"variant": "june", "calls": 120, "calls_step": 20, "units": 7}]
    (metric,) = view["metrics"]
    assert metric["name"] == "error_rate"
    assert metric["verdict"] == "inconclusive"
    assert metric["n"] == {"march": 1_000, "june": 120}
    assert metric["events"] == {"march": 10, "june": 3}
    assert metric["estimate"] == 2.5
    assert metric["interval"] == [0.5, 6.0]
    assert metric["e_values"] == {
        "rollback": pytest.approx(7.389, abs=1e-3),
        "promotion": 1.7976931348623157e308,
    }
    assert metric["log_e_values"] == {"rollback": 2.0, "promotion": 800.0}
    assert metric["margins"] == {"kind": "odds", "rollback": 1.1, "promotion": 1.5}
    assert metric["alpha"] == {"rollback": 0.01, "promotion": 0.05, "spent": 0.002}
    said = cli("rollout", "show", "june").out
    assert "error_rate  inconclusive  1000 / 120  10 / 3" in said
    assert "Three of 120 failed." in said
    assert "compared    june: 120 calls, about 7 units\n            without calls before the rollout" in said
    (why,) = cli("rollout", "explain", "june", "--json").rows
    assert why["reason"] == view["reason"]
    assert any("20 of " in one["text"] and not one["met"] for one in why["to_promote"])
    assert "To promote june\n" in cli("rollout", "explain", "june").out


def test_list_shows_where_each_stands_and_filters(cli: Any, applied: Path, settings: Settings) -> None:
    publish(settings, PROGRESS, progress())
    (row,) = cli("rollout", "list", "--json", "--tenant", "acme", "--environment", "prod").rows
    assert (row["name"], row["state"]) == ("june", "progressing")
    assert cli("rollout", "list", "--json", "--environment", "staging").rows == []
    assert "progressing     2      2  march 50 %, june 50 %" in cli("rollout", "list").out


@pytest.mark.long
def test_names_that_no_rollout_or_several_have_end_with_3(
    cli: Any, applied: Path, settings: Settings, tmp_path: Path
) -> None:
    assert "there is june" in cli("rollout", "show", "july").err
    other = tmp_path / "other.yaml"
    other.write_text(SPEC.replace("environment: prod", "environment: staging"))
    assert cli("rollout", "apply", "-f", other).code == 0
    twice = cli("rollout", "show", "june")
    assert twice.code == 3
    assert "acme/prod/answers, acme/staging/answers" in twice.err
    assert cli("rollout", "show", "june", "--environment", "staging").code == 0
    assert cli("rollout", "show", "acme/staging/answers").code == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("succeeded", 0),
        ("promoting", 0),
        ("rolled_back", 1),
        ("rolling_back", 1),
        ("aborted", 6),
        ("holding", 6),
    ],
)
def test_waiting_ends_with_the_outcome(
    cli: Any, applied: Path, settings: Settings, state: str, code: int
) -> None:
    publish(settings, PROGRESS, progress(state=state))
    assert cli("rollout", "status", "june", "--wait", "--timeout", "0.3").code == code
    assert cli("rollout", "status", "june").code == 0


@pytest.mark.long
def test_waiting_sees_what_comes_later_and_ignores_the_generation_before(
    cli: Any, applied: Path, settings: Settings
) -> None:
    publish(settings, PROGRESS, progress(generation=0, state="rolled_back"))
    later = threading.Timer(1.0, publish, (settings, PROGRESS, progress(state="succeeded", version=41)))
    later.start()
    outcome = cli("rollout", "status", "june", "--wait", "--timeout", "20", "--json")
    later.join()
    assert (outcome.code, outcome.rows[0]["state"]) == (0, "succeeded")


@pytest.mark.long
@pytest.mark.parametrize("action", ["pause", "resume", "approve", "promote", "advance", "rollback", "abort"])
def test_an_action_is_recorded_with_who_why_and_on_top_of_what(
    cli: Any, applied: Path, settings: Settings, action: str
) -> None:
    publish(settings, PROGRESS, progress())
    outcome = cli("rollout", action, "june", "--reason", "it is late", "--yes", "--wait", "0")
    assert outcome.code == 0
    (made,) = stored(settings, ACTIONS, RolloutAction)
    assert (made.key, made.action, made.generation, made.expected_revision) == (KEY, action, 1, 3)
    assert made.reason == "it is late"
    assert "@" in made.actor


def test_an_action_can_be_tried_and_is_not_taken_without_a_yes(
    cli: Any, applied: Path, settings: Settings
) -> None:
    tried = cli("rollout", "rollback", "june", "--dry-run")
    assert tried.code == 0
    assert tried.rows[0]["action"] == "rollback"
    assert tried.rows[0]["target"] is None
    one = cli("rollout", "promote", "june", "--target", "july", "--dry-run")
    assert "would promote july in june of " in one.err
    assert one.rows[0]["target"] == "july"
    refused = cli("rollout", "rollback", "june")
    assert refused.code == 5
    assert "say --yes" in refused.err
    assert stored(settings, ACTIONS, RolloutAction) == []


def test_an_action_that_the_stream_refuses_ends_with_5_and_why(
    cli: Any, applied: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = rollout_log.act

    def refuse(where: Settings, action: RolloutAction) -> None:
        act(where, action)
        answer = DeploymentStatus(
            command_id=action.action_id,
            tenant="acme",
            environment="prod",
            deployment="answers",
            revision=3,
            applier="stream",
            status="rejected",
            detail="It is paused already.",
            ts=1,
        )
        publish(where, STATUS, answer)

    monkeypatch.setattr(rollout_log, "act", refuse)
    outcome = cli("rollout", "pause", "june", "--yes", "--wait", "20")
    assert outcome.code == 5
    assert "rejected: It is paused already." in outcome.err


@pytest.mark.long
def test_a_deleted_rollout_is_gone_and_the_next_one_counts_on(
    cli: Any, applied: Path, settings: Settings
) -> None:
    publish(settings, DEPLOYMENTS, command(7, generation=4))
    assert cli("rollout", "delete", "june").code == 5
    assert cli("rollout", "delete", "june", "--dry-run").code == 0
    assert cli("rollout", "delete", "june", "--yes").code == 0
    assert cli("rollout", "list", "--json").rows == []
    assert cli("rollout", "show", "june").code == 3
    assert cli("rollout", "apply", "-f", applied, "--json").rows[0]["generation"] == 5


def test_history_tells_who_did_what_in_order(cli: Any, applied: Path, settings: Settings) -> None:
    cli("rollout", "pause", "june", "--yes", "--wait", "0", "--reason", "lunch")
    long_ago = command(1, action="pause")
    publish(settings, DEPLOYMENTS, long_ago, long_ago)
    publish(
        settings,
        STATUS,
        DeploymentStatus(
            command_id="a-2",
            tenant="acme",
            environment="prod",
            deployment="answers",
            revision=0,
            applier="tidegate",
            status="rejected",
            ts=1,
        ),
    )
    rows = cli("rollout", "history", "june", "--json").rows
    assert [(row["kind"], row["what"]) for row in rows] == [
        ("specification", "june"),
        ("action", "pause"),
        ("command", "pause"),
        ("answer", "rejected"),
    ]
    assert rows[1]["reason"] == "lunch"
    assert [row["revision"] for row in rows] == [None, None, 1, None]
    applied.write_text(SPEC.replace("name: june", "name: july"))
    assert cli("rollout", "apply", "-f", applied, "--yes").code == 0
    for command_line in ("show", "status", "explain"):
        gone = cli("rollout", command_line, "june")
        assert gone.code == 3
        assert "june was replaced by july (generation 2): `tidegate rollout history june` tells" in gone.err
    later = cli("rollout", "history", "june", "--json").rows
    assert later[:-1] == rows
    assert later[-1]["what"] == "july"


# Stopping


def test_ctrl_c_ends_a_watch_with_130(start_cli: Callable[..., Any], applied: Path) -> None:
    watch = start_cli("rollout", "list", "--watch", "--json")
    assert json.loads(watch.stdout.readline())["name"] == "june"
    watch.send_signal(signal.SIGINT)
    out, err = watch.communicate(timeout=20)
    assert (watch.returncode, out, err) == (130, "", "")
