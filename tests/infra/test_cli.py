"""The command line itself: what it costs to start, how it ends, how it prints. Asks no server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tidegate.errors import DependencyUnavailable
from tidegate_infra import process
from tidegate_infra.cli import extensions, output
from tidegate_infra.cli.app import COMMANDS, app
from tidegate_infra.cli.output import Format
from tidegate_infra.kafka import scan
from tidegate_infra.settings import Settings

HEAVY = (
    "confluent_kafka",
    "clickhouse_connect",
    "fastavro",
    "polars",
    "pyarrow",
    "rich",
    "structlog",
    "tidegate.client.current",
)


def leaves() -> Iterator[list[str]]:
    """Yield every command, with its noun."""
    root: Any = typer.main.get_command(app)
    for name in COMMANDS:
        command = root.get_command(None, name)
        for verb in getattr(command, "commands", {}) or [None]:
            yield [name] if verb is None else [name, verb]


LEAVES = list(leaves())


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_the_public_surface_is_there() -> None:
    surface = {" ".join(words) for words in LEAVES}
    assert surface == {
        *("up", "down", "status", "logs", "run", "emit", "backtest", "sql", "ledger", "doctor", "version"),
        *("config show", "config contexts"),
        *(
            f"rollout {verb}"
            for verb in ("apply", "lint", "diff", "list", "show", "status", "explain", "history", "delete")
        ),
        *(
            f"rollout {verb}"
            for verb in ("pause", "resume", "approve", "promote", "advance", "rollback", "abort")
        ),
        *(f"alert {verb}" for verb in ("list", "channels", "test", "silence", "silences", "unsilence")),
        *("deployment show", "deployment log", "topic plan", "topic apply"),
        *("migration status", "migration up", "migration down"),
        *("schema check", "schema export", "schema explain", "dlq list", "dlq show", "dlq requeue"),
    }


def test_no_help_imports_what_a_command_needs() -> None:
    code = """
import sys, json
from tidegate_infra.cli.app import app
from typer.testing import CliRunner
for words in json.loads(sys.argv[1]):
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, words
assert CliRunner().invoke(app, ["version"]).exit_code == 0
print([name for name in json.loads(sys.argv[2]) if name in sys.modules])
"""
    done = python(code, json.dumps([*LEAVES, []]), json.dumps(HEAVY))
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command = typer.main.get_command(app).get_command(None, name)  # type: ignore[attr-defined]
    first_line = (command.help or "").splitlines()[0]
    assert first_line.startswith(COMMANDS[name][1].removesuffix("."))


def test_a_missing_module_is_one_line_with_the_command_that_helps() -> None:
    done = python("import sys; sys.modules['typer'] = None; from tidegate_infra.cli import main; main()")
    assert done.returncode == 3
    assert done.stderr == (
        "tidegate: the module typer is missing, since the base install is the client alone: "
        "pip install 'tidegate[server]'\n"
    )


def test_ctrl_c_before_the_commands_are_there_ends_with_130_and_no_word() -> None:
    code = """
import sys
class Interrupted:
    def find_spec(name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted)
from tidegate_infra.cli import main
main()
"""
    done = python(code)
    assert (done.returncode, done.stderr) == (130, "")


def test_what_a_command_skips_is_said_once_however_often_it_reads_it() -> None:
    code = """
import logging
from tidegate_infra.cli import main
try:
    main()
finally:
    for _ in range(2):
        logging.getLogger("tidegate_infra.kafka.scan").warning("a record is skipped")
"""
    assert python(code, "version").stderr == "a record is skipped\n"


def test_a_misspelt_command_ends_with_2_and_the_nearest() -> None:
    result = CliRunner().invoke(app, ["rolout", "list"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Did you mean 'rollout'?" in result.stderr


def test_a_misspelt_option_ends_with_2() -> None:
    assert CliRunner().invoke(app, ["version", "--jsn"]).exit_code == 2


def test_wrong_settings_end_with_3_and_all_of_them(cli: Any) -> None:
    outcome = cli("config", "show", TIDEGATE_KAFKA="nowhere", TIDEGATE_KAFKKA="x")
    assert (outcome.code, outcome.out) == (3, "")
    assert "TIDEGATE_KAFKA" in outcome.err
    assert "did you mean TIDEGATE_KAFKA?" in outcome.err


def test_a_directory_without_a_stack_ends_with_3_and_the_command_that_starts_one(
    cli: Any, tmp_path: Path
) -> None:
    for arguments in (
        ["rollout", "list", "--data-dir", tmp_path],
        ["--data-dir", tmp_path, "rollout", "list"],
    ):
        outcome = cli(*arguments, TIDEGATE_KAFKA="")
        assert outcome.code == 3
        assert f"tidegate up --data-dir {tmp_path}" in outcome.err


def test_a_killed_stack_is_told_by_every_command_with_the_one_that_starts_it(
    cli: Any, tmp_path: Path
) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"settings": {"kafka": "127.0.0.1:9"}}))
    for command in (["rollout", "list"], ["ledger"], ["doctor"]):
        outcome = cli(*command, "--data-dir", tmp_path)
        assert (outcome.code, outcome.out) == (3, "")
        said = f"no stack runs in {tmp_path}: start it with `tidegate up --data-dir {tmp_path}`"
        assert outcome.err == f"tidegate: {said}\n"


def test_a_kafka_that_is_away_is_named_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_ANSWER_SECONDS", 0.1)
    with pytest.raises(DependencyUnavailable, match=r"of 127\.0\.0\.1:9: .*`tidegate up`"):
        scan.check_answers(Settings(kafka="127.0.0.1:9"))


def test_settings_of_a_local_stack_come_from_its_file(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"settings": {"topic_prefix": "mine."}}))
    theirs = {"TIDEGATE_TOPIC_PREFIX": "theirs."}
    named = cli("config", "show", "--json", "--data-dir", tmp_path, **theirs).rows
    assert {row["setting"] for row in named} == set(Settings.model_fields)
    mine = {"setting": "topic_prefix", "value": "mine.", "origin": f"stack file {tmp_path / 'stack.json'}"}
    assert mine in named
    # A variable that names the stack stands beside the others, which are above the file.
    found = cli("config", "show", "--json", TIDEGATE_DATA_DIR=str(tmp_path), **theirs).rows
    prefix = next(row for row in found if row["setting"] == "topic_prefix")
    assert (prefix["value"], prefix["origin"]) == ("theirs.", "env TIDEGATE_TOPIC_PREFIX")


def test_a_stack_in_this_directory_is_found_unless_the_environment_says_where(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".tidegate" / "stack.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"settings": {"kafka": "127.0.0.1:1234"}}))

    def kafka(**variables: str) -> tuple[str, str]:
        rows = cli("config", "show", "--json", **variables).rows
        return next((row["value"], row["origin"]) for row in rows if row["setting"] == "kafka")

    assert kafka() == ("127.0.0.1:1234", f"stack file {file}")
    assert kafka(TIDEGATE_CLICKHOUSE="http://there:8123/tidegate") == ("127.0.0.1:9092", "default")
    assert kafka(TIDEGATE_KAFKA="there:9092") == ("there:9092", "env TIDEGATE_KAFKA")
    file.unlink()
    assert kafka() == ("127.0.0.1:9092", "default")


def test_a_stack_that_posts_webhooks_can_be_asked(cli: Any, tmp_path: Path) -> None:
    running = Settings(
        webhook_url="https://example.com/hook", webhook_secret="whsec_c2VjcmV0", topic_prefix="x."
    )
    (tmp_path / "stack.json").write_text(json.dumps({"settings": running.public()}))
    outcome = cli("config", "show", "--json", "--data-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "x." in outcome.out
    assert "c2VjcmV0" not in (tmp_path / "stack.json").read_text()


def test_config_show_masks_secrets(cli: Any) -> None:
    outcome = cli("config", "show", "-o", "yaml", TIDEGATE_CLICKHOUSE_PASSWORD="hunter2")
    assert outcome.code == 0
    assert "hunter2" not in outcome.out
    assert "env TIDEGATE_CLICKHOUSE_PASSWORD" in outcome.out


def test_an_unknown_process_ends_with_3_and_those_that_exist(cli: Any) -> None:
    outcome = cli("run", "agregate")
    assert outcome.code == 3
    assert ", ".join(process.names()) in outcome.err


def test_version_is_data(cli: Any) -> None:
    assert cli("version").out == "0.1.0\n"
    assert cli("version", "--json").rows[0]["version"] == "0.1.0"


def test_a_command_that_nothing_installed_answers_ends_with_3_and_what_to_do(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions, "ENTRY_POINTS", "tidegate.nothing")
    outcome = cli("backtest", "--help")
    assert outcome.code == 3
    assert "nothing that is installed answers 'backtest': install Tidegate again" in outcome.err


def test_a_defect_ends_with_70_and_says_so(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Settings, _name: str) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(Settings, "shown", broken)
    outcome = cli("config", "show")
    assert outcome.code == 70
    assert "ZeroDivisionError" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("tidegate: this is a defect")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reader = f'tidegate() {{ {sys.executable} -m tidegate_infra.cli "$@"; }};'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {reader} tidegate schema explain LLMCall | head -1"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("LLMCall: ")


# What is printed.


def test_a_table_aligns_numbers_to_the_right_and_shows_unknown_as_a_dash() -> None:
    rows = [{"name": "a", "n": 5, "x": None}, {"name": "long", "n": 1234, "x": 0.25}]
    assert output.table(rows, ("name", "n", "x")) == [
        "NAME     N     X",
        "a        5     -",
        "long  1234  0.25",
    ]


def test_nothing_in_a_cell_can_rule_the_terminal() -> None:
    assert output.cell("a\x1b[31mb\tc\nd") == "a [31mb c d"


def test_json_keeps_money_exact_and_yaml_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"cost": Decimal("0.000000001"), "bytes": b"\xff", "n": 1}
    output.write_rows([row, row], (), Format.JSON)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"cost": "0.000000001", "bytes": "ff", "n": 1}] * 2
    output.write_rows([row], (), Format.YAML)
    assert capsys.readouterr().out == "- cost: '0.000000001'\n  bytes: ff\n  n: 1\n"


def test_an_empty_table_is_said_and_empty_data_are_empty(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_rows([], ["a"], Format.TABLE, nothing="there are no letters")
    assert capsys.readouterr() == ("", "there are no letters\n")
    output.write_rows([], ["a"], Format.JSON)
    assert capsys.readouterr() == ("", "")


def test_wide_adds_columns_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": "x" * 200, "b": 2}]
    output.write_rows(rows, ["a"], Format.TABLE, wide=["b"], most_chars=80)
    assert capsys.readouterr().out == f"A\n{'x' * 79}…\n"
    output.write_rows(rows, ["a"], Format.WIDE, wide=["b"], most_chars=80)
    assert capsys.readouterr().out == f"A{' ' * 199}  B\n{'x' * 200}  2\n"


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint("fail") == "fail"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert output.paint("fail ") == "\x1b[31mfail \x1b[0m"
    assert output.paint("nothing special") == "nothing special"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("fail") == "fail"


# The contract, without a server.


def test_schema_explain_names_every_field_and_its_meaning(cli: Any) -> None:
    rows = cli("schema", "explain", "LLMCall", "--json").rows
    by_name = {row["field"]: row for row in rows}
    assert by_name["ttft_us"]["type"] == "long or null"
    assert by_name["guardrails[].triggered"]["type"] == "boolean or null"
    needs = {name: by_name[name]["need"] for name in ("provider", "tenant", "ttft_us", "guardrails[].stage")}
    assert needs == {
        "provider": "required",
        "tenant": "filled in",
        "ttft_us": None,
        "guardrails[].stage": "required",
    }
    assert all(row["meaning"] for row in rows)


def test_schema_explain_without_a_record_lists_where_each_stands(cli: Any) -> None:
    rows = {row["record"]: row for row in cli("schema", "explain", "--json").rows}
    assert rows["LLMCall"]["topic"] == "llm.calls"
    assert rows["Rollout"]["fingerprint"] != rows["LLMCall"]["fingerprint"]


def test_an_unknown_record_ends_with_2_and_the_nearest(cli: Any) -> None:
    outcome = cli("schema", "explain", "LLMCal")
    assert outcome.code == 2
    assert "did you mean LLMCall?" in outcome.err


def test_schema_export_writes_what_ships(cli: Any, tmp_path: Path) -> None:
    printed = json.loads(cli("schema", "export", "Rollout").out)
    assert cli("schema", "export", "--to", tmp_path).code == 0
    newest = max((tmp_path / "rollout").iterdir(), key=lambda file: int(file.stem))
    assert json.loads(newest.read_text()) == printed
    assert len(list(tmp_path.iterdir())) == 22


def test_schema_check_finds_the_shipped_history_fine(cli: Any) -> None:
    outcome = cli("schema", "check")
    assert (outcome.code, outcome.out) == (0, "")


def test_schema_check_names_what_a_proposed_version_would_break(cli: Any, tmp_path: Path) -> None:
    schema = json.loads(cli("schema", "export", "EndOfStream").out)
    schema["fields"][0]["type"] = {"type": "map", "values": "string"}
    schema["fields"].append({"name": "why", "type": "string", "doc": "Why."})
    file = tmp_path / "next.avsc"
    file.write_text(json.dumps(schema))
    outcome = cli("schema", "check", file, "--json")
    assert outcome.code == 1
    assert {row["problem"] for row in outcome.rows} == {
        "v2 cannot read v1: EndOfStream.run_id: is string and read as map",
        "v2 cannot read v1: EndOfStream.why: is not written and has no default",
        "v1 cannot read v2: EndOfStream.run_id: is map and read as string",
        "v2: EndOfStream.run_id: a map cannot be decoded in batches",
    }


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1]", b'{"type": "record", "name": "LLMCall"}', None])
def test_schema_check_of_what_is_no_schema_ends_with_3(
    cli: Any, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "next.avsc"
    if content is not None:
        file.write_bytes(content)
    outcome = cli("schema", "check", file)
    assert outcome.code == 3
    assert str(file) in outcome.err
    assert len(outcome.err.splitlines()) == 1


# What leads to no server.


UNREACHABLE: list[list[str]] = [
    ["topic", "plan"],
    ["topic", "apply", "--yes"],
    ["rollout", "list"],
    ["rollout", "pause", "x", "--yes"],
    ["deployment", "show"],
    ["dlq", "list"],
    ["emit", __file__],
    ["sql", "SELECT 1"],
    ["migration", "status"],
    ["ledger"],
]


@pytest.mark.long
def test_servers_that_are_away_end_with_4_and_one_line(start_cli: Callable[..., Any]) -> None:
    away = {"TIDEGATE_KAFKA": "127.0.0.1:9", "TIDEGATE_CLICKHOUSE": "http://127.0.0.1:9/tidegate"}
    started = [start_cli(*arguments, **away) for arguments in UNREACHABLE]
    for arguments, child in zip(UNREACHABLE, started, strict=True):
        out, err = child.communicate(timeout=60)
        assert (arguments, child.returncode, out) == (arguments, 4, "")
        assert len(err.splitlines()) == 1, err
        assert err.startswith("tidegate: ")
