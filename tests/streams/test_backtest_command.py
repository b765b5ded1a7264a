"""The command: what it prints, what it ends with, and what did not count."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import rich.progress
from typer.testing import CliRunner

from tidegate_infra.cli.app import app

T0 = 1_760_000_000_000_000
MINUTE = 60_000_000
ROLLOUT = """
apiVersion: tidegate/v1
kind: Rollout
metadata: {name: june, tenant: acme, environment: prod, deployment: chat}
assignBy: session
variants:
  march: {role: baseline, provider: openai, model: gpt-4-0314}
  june: {role: candidate, provider: openai, model: gpt-4-0613}
steps:
  - {weight: 50%, minCalls: 100, warmUp: 0s}
metrics:
  - {name: error_rate, promotionMargin: 5 points, rollbackMargin: 1 points}
maxDuration: 2h
"""


@pytest.fixture
def rollout(tmp_path: Path) -> Path:
    path = tmp_path / "rollout.yaml"
    path.write_text(ROLLOUT)
    return path


def history(path: Path, errors: float, n: int = 6_000, **columns: Any) -> Path:
    """Five minutes of calls, half of them june's, of which so many fail."""
    rng = np.random.default_rng(3)
    is_june = np.arange(n) % 2 == 1
    failed = rng.random(n) < np.where(is_june, errors, 0.02)
    ends = T0 + np.arange(n) * (5 * MINUTE // n)
    frame = pl.DataFrame(
        {
            "event_id": [f"id-{i}" for i in range(n)],
            "ts_start": ends - 500_000,
            "ts_end": ends,
            "deployment": "chat",
            "variant": np.where(is_june, "june", "march"),
            "operation": "chat",
            "provider": "openai",
            "request_model": "gpt-4",
            "status": np.where(failed, "error", "ok"),
        }
    )
    frame.with_columns(**columns).write_parquet(path)
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["backtest", *map(str, arguments)])


def asked(*arguments: Any) -> tuple[int, dict[str, Any], str]:
    result = run(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout), result.stderr


@pytest.mark.parametrize(
    ("errors", "n", "code", "decision"),
    [(0.02, 6_000, 0, "promote"), (0.2, 6_000, 1, "rollback"), (0.02, 300, 6, None)],
)
def test_it_ends_with_the_decision(
    errors: float, n: int, code: int, decision: str | None, rollout: Path, tmp_path: Path
) -> None:
    ended, view, _ = asked("-f", rollout, "--events", history(tmp_path / "h.parquet", errors, n))
    assert (ended, view["decision"]) == (code, decision)
    # Nobody said what the calls obeyed: all of them count for the command in force.
    assert view["assignment"] == "any"
    assert view["calls"] == sum(view["compared"].values()) > 100
    assert 0 < view["seconds"] <= 300
    assert [command["dry_run"] for command in view["commands"]] == [True] * len(view["commands"])


def test_calls_count_for_the_command_that_they_obeyed(rollout: Path, tmp_path: Path) -> None:
    split = {"assignment_reason": pl.lit("split"), "assignment_revision": pl.lit(7)}
    file = history(tmp_path / "h.parquet", 0.2, **split)
    code, view, err = asked(rollout, file)
    assert (code, view["assignment"], view["calls"]) == (6, "recorded", 0)
    assert "--revision 7" in err
    code, view, _ = asked(rollout, file, "--revision", 7)
    assert (code, view["commands"][0]["revision"]) == (1, 7)
    assert asked(rollout, file, "--assignment", "any")[0] == 1


def test_it_starts_when_it_is_told_to(rollout: Path, tmp_path: Path) -> None:
    file = history(tmp_path / "h.parquet", 0.2)
    _, view, _ = asked(rollout, file, "--start", T0 + MINUTE + 1)
    assert view["commands"][0]["ts"] == T0 + MINUTE + 10_000_000


def test_what_does_not_count_is_counted_by_reason_and_named(rollout: Path, tmp_path: Path) -> None:
    elsewhere = pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("other")).otherwise("deployment")
    broken = pl.when(pl.int_range(pl.len()) == 41).then(pl.lit("okay")).otherwise("status")
    again = pl.when(pl.int_range(pl.len()) == 50).then(pl.lit("id-49")).otherwise("event_id")
    columns = {"deployment": elsewhere, "status": broken, "event_id": again}
    file = history(tmp_path / "h.parquet", 0.2, **columns)
    _, view, err = asked(rollout, file)
    assert view["events"]["refused"] == {"invalid_field": 1, "duplicate": 1}
    assert view["events"]["read"] == {"LLMCall": 5_998}
    assert view["events"]["elsewhere"] == 1_500
    assert f"{file}:42: invalid_field: status is none of ok" in err
    assert f"{file}:51: duplicate: a copy of id-49" in err


def test_the_time_that_is_looked_at_can_be_bounded(rollout: Path, tmp_path: Path) -> None:
    file = history(tmp_path / "h.parquet", 0.2)
    _, view, err = asked(rollout, file, "--since", "2025-10-09T08:54:20Z", "--until", T0 + 2 * MINUTE)
    assert T0 + MINUTE == 1_760_000_060_000_000
    assert (view["events"]["read"], view["events"]["outside"]) == ({"LLMCall": 1_200}, 4_800)
    assert "4,800 lie outside" in err
    assert run(rollout, file, "--since", "yesterday").exit_code == 2


def test_events_of_which_none_counts_end_with_3_and_the_causes(rollout: Path, tmp_path: Path) -> None:
    none = "no event of acme/prod/chat counts: "
    strange = history(tmp_path / "strange.parquet", 0.2, 90, status=pl.lit("okay"))
    elsewhere = history(tmp_path / "elsewhere.parquet", 0.2, 60, deployment=pl.lit("other"))
    before = history(tmp_path / "before.parquet", 0.2, 30)
    for arguments, cause in (
        ((strange,), "90 refused"),
        ((elsewhere,), "60 of other deployments"),
        ((before, "--since", T0 + 9 * MINUTE), "30 outside the time that is looked at"),
    ):
        result = run(rollout, *arguments)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.splitlines()[-1].endswith(none + cause)


def test_a_start_after_the_last_event_ends_with_3(rollout: Path, tmp_path: Path) -> None:
    file = history(tmp_path / "h.parquet", 0.2)
    last_pane_us = T0 + 5 * MINUTE - 10_000_000
    assert run(rollout, file, "--start", last_pane_us).exit_code == 6
    result = run(rollout, file, "--start", last_pane_us + 1)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "--start 2025-10-09T08:58:10Z is after the last event" in result.stderr


def test_calls_that_obeyed_nothing_are_told_where_only_the_obedient_count(
    rollout: Path, tmp_path: Path
) -> None:
    code, view, err = asked(rollout, history(tmp_path / "h.parquet", 0.2), "--assignment", "recorded")
    assert (code, view["calls"]) == (6, 0)
    assert "no call says which command it obeyed, so none decides: say --assignment any" in err


def test_a_rollout_of_other_variants_is_told_which_there_are(rollout: Path, tmp_path: Path) -> None:
    rollout.write_text(ROLLOUT.replace("june:", "july:").replace("metadata:", "paused: true\nmetadata:"))
    code, view, err = asked(rollout, history(tmp_path / "h.parquet", 0.2))
    assert (code, view["rollout"]["state"]) == (6, "progressing")
    assert "calls of variants that the rollout does not name: 3,000 of june; it names march and july" in err


def test_the_same_file_twice_counts_once(rollout: Path, tmp_path: Path) -> None:
    file = history(tmp_path / "h.parquet", 0.2)
    once, twice = asked(rollout, file)[1], asked(rollout, file, file)[1]
    assert twice["commands"] == once["commands"]
    assert twice["events"]["refused"] == {"duplicate": 6_000}


def test_a_person_reads_the_commands_the_decision_and_each_metric(rollout: Path, tmp_path: Path) -> None:
    result = run(rollout, history(tmp_path / "h.parquet", 0.2))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["TIME", "REVISION", "COMMAND", "WEIGHTS", "REASON"]
    assert any(line.startswith("decision    rollback after ") and "of june" in line for line in lines)
    assert any(
        line.startswith("error_rate: ") and "worse than the tolerated 1 points" in line for line in lines
    )


def test_wrong_usage_and_wrong_files_end_with_their_codes(rollout: Path, tmp_path: Path) -> None:
    assert run("-f", rollout).exit_code == 2
    assert run("--events", "x").exit_code == 2
    assert run(rollout, tmp_path / "none.parquet").exit_code == 3
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(ROLLOUT.replace("weight: 50%", "weight: 150%"))
    result = run(wrong, history(tmp_path / "h.parquet", 0.2))
    assert result.exit_code == 3
    assert "wrong.yaml:10:" in result.stderr


def test_a_picture_needs_matplotlib_which_is_said_before_anything_is_read(
    rollout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(rollout, tmp_path / "none.parquet", "--png", tmp_path / "p.png")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "pip install 'tidegate[plot]'" in result.stderr


def test_a_terminal_is_shown_how_far_reading_and_looking_are(
    rollout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, float]] = []

    class Bar(rich.progress.Progress):
        def update(self, task_id: Any, **changes: Any) -> None:
            if changes.get("completed") is not None:
                shown.append((self.tasks[task_id].description, changes["completed"]))

    monkeypatch.setattr(rich.progress, "Progress", Bar)
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)
    file = history(tmp_path / "h.parquet", 0.02, 300)
    assert run(rollout, file).exit_code == 6
    for what in (str(file), "looks"):
        shares = [share for name, share in shown if name == what]
        assert shares == sorted(shares)
        assert shares[-1] == 1
    assert len(shown) > 20


def test_a_picture_shows_every_metric(rollout: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "p.png"
    assert run(rollout, history(tmp_path / "h.parquet", 0.2), "--png", path).exit_code == 1
    assert path.read_bytes().startswith(b"\x89PNG")
