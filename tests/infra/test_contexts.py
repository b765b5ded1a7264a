"""Named contexts: the file, how a command is told which one, and what holds above what. Asks no server."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from tidegate.errors import ConfigError, DependencyUnavailable
from tidegate_infra import checkup, contexts, rollout_file, rollout_log
from tidegate_infra.checkup import Finding
from tidegate_infra.cli import store
from tidegate_infra.cli.app import COMMANDS, app
from tidegate_infra.cli.options import settings_of
from tidegate_infra.document import FileError
from tidegate_infra.settings import WHERE, Settings

GOOD = """
staging:
  kafka: staging:9092
  clickhouse: http://staging:8123/tidegate
production:
  kafka: kafka-1.prod:9093,kafka-2.prod:9093
  clickhouse: https://clickhouse.prod:8443/tidegate
  clickhouse_user: analyst
  topic_prefix: llm.
  kafka_ca: prod.pem
  tenant: acme
  environment: prod
here: {data_dir: ~/stack, tenant: acme}
"""

PAGE = (Path(__file__).parents[2] / "docs/settings.md").read_text()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's contexts, where they are looked for."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "tidegate" / "contexts.yaml"
    file.parent.mkdir()
    file.write_text(GOOD)
    return file


def written(file: Path, text: str) -> list[str]:
    """What is wrong with a text, without the file's name."""
    file.write_text(text)
    with pytest.raises(FileError) as caught:
        raise FileError(contexts.read(file)[1])
    return [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()]


# The file


def test_a_context_is_a_place_and_whose_things_are_meant(file: Path) -> None:
    known, _ = contexts.read(file)
    assert list(known) == ["staging", "production", "here"]
    assert known["production"].defaults == {"tenant": "acme", "environment": "prod"}
    assert known["production"].where["kafka_ca"] == str(file.parent / "prod.pem")
    assert known["here"].where == {"data_dir": str(Path.home() / "stack")}


def test_every_mistake_is_named_at_once_where_it_stands(file: Path) -> None:
    assert written(
        file,
        """a:
  kafka: nowhere
  clickhous: http://b:1/c
  range_ms: 7
b:
  kafka: me:hunter2@b:1
  clickhouse: http://me:hunter2@b:8123/c
  kafka_password: hunter2
  tenant: [acme]
c: {}
d e:
  data_dir: here
  kafka: b:1
""",
    ) == [
        "2:3: a: a context is a whole place: add kafka and clickhouse, or data_dir of a local stack",
        "2:10: a.kafka: should be host:port, several separated by commas",
        "3:3: a.clickhous: unknown key 'clickhous': did you mean clickhouse?",
        "4:3: a.range_ms: does not say where something is: it belongs in TIDEGATE_RANGE_MS",
        (
            "6:10: b.kafka: should name no user or password: "
            "they belong in kafka_username of context b and TIDEGATE_KAFKA_PASSWORD"
        ),
        (
            "7:15: b.clickhouse: should name no user or password: "
            "they belong in clickhouse_user of context b and TIDEGATE_CLICKHOUSE_PASSWORD"
        ),
        "8:3: b.kafka_password: is a secret: it belongs in TIDEGATE_KAFKA_PASSWORD",
        "9:11: b.tenant: a single value is needed here, not a list or a mapping",
        "10:4: c: a context is a whole place: add kafka and clickhouse, or data_dir of a local stack",
        "11:1: d e: a context's name is letters, digits, dots, dashes and underscores",
        "12:3: d e: data_dir names a local stack, which says the rest itself: remove the other addresses",
    ]


@pytest.mark.parametrize(
    "secret", [n for n, f in Settings.model_fields.items() if "Secret" in str(f.annotation)]
)
def test_no_secret_is_taken_and_none_is_repeated(file: Path, secret: str) -> None:
    (said,) = written(
        file, f"{GOOD}\n  # next\nx: {{kafka: 'a:1', clickhouse: 'http://a:1/b', {secret}: hunter2}}"
    )
    assert f"it belongs in TIDEGATE_{secret.upper()}" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: empty: begin with `production:`"),
        ("- a", "1:1: keys and values are needed here"),
        ("a: {kafka: ''", "no YAML"),
        ("a: {data_dir: '~nobody-of-this-name/x'}", "home directory that is not there"),
        ("a: {data_dir: ''}", "is empty"),
    ],
)
def test_what_is_no_file_of_contexts_says_what_is_needed(file: Path, text: str, said: str) -> None:
    assert any(said in line for line in written(file, text))


def test_the_file_may_be_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_CONTEXTS", str(tmp_path / "team.yaml"))
    with pytest.raises(ConfigError, match=r"team\.yaml is not there: write `production:`"):
        contexts.find("production")
    (tmp_path / "team.yaml").write_text(GOOD)
    assert contexts.find("production").name == "production"
    with pytest.raises(ConfigError, match=r"no context 'prodction': did you mean production\?"):
        contexts.find("prodction")


def test_the_page_of_settings_shows_contexts_that_are_taken_and_every_key(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    file = tmp_path / "contexts.yaml"
    file.write_text(text)
    assert {"production", "staging"} <= set(contexts.read(file)[0])
    assert all(f"`{name}`" in PAGE for name in (*WHERE, "tenant", "environment"))


def test_mistakes_of_another_context_hold_nobody_up(file: Path) -> None:
    file.write_text(f"{GOOD}\nbroken: {{kafka: nowhere}}\n")
    assert contexts.find("staging").where["kafka"] == "staging:9092"
    with pytest.raises(FileError, match=r"broken\.kafka: should be host:port"):
        contexts.find("broken")
    file.write_text(f"{GOOD}\nstaging: {{data_dir: x}}\n")
    with pytest.raises(FileError, match="staging is given twice"):
        contexts.find("staging")


# What holds above what


def test_a_place_comes_from_its_context_alone_and_the_rest_from_variables(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "KAFKA": "elsewhere:1",
        "TOPIC_PREFIX": "elsewhere.",
        "CLICKHOUSE_PASSWORD": "hunter2",
        "RANGE_MS": "7",
    }.items():
        monkeypatch.setenv(f"TIDEGATE_{name}", value)
    settings = Settings.in_context(contexts.find("staging"))
    assert (settings.kafka, settings.topic_prefix, settings.range_ms) == ("staging:9092", "", 7)
    assert settings.clickhouse_password.get_secret_value() == "hunter2"
    assert [settings.origin(name) for name in ("kafka", "topic_prefix", "range_ms")] == [
        f"context staging ({file})",
        "default",
        "env TIDEGATE_RANGE_MS",
    ]


def test_a_local_stack_may_have_a_name(file: Path, tmp_path: Path) -> None:
    file.write_text("here: {data_dir: ../stack}")
    with pytest.raises(ConfigError, match="no stack runs in"):
        settings_of(None, "here")
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "stack.json").write_text(json.dumps({"settings": {"kafka": "127.0.0.1:1"}}))
    settings = Settings.in_context(contexts.find("here"))
    assert settings.kafka == "127.0.0.1:1"
    assert settings.origin("data_dir") == f"context here ({file})"


# Commands


def kafka_of(cli: Any, *arguments: object, **variables: str) -> str:
    outcome = cli(*arguments, "--json", **variables)
    assert outcome.code == 0, outcome.err
    return next(row["value"] for row in outcome.rows if row["setting"] == "kafka")


def test_the_command_line_names_a_context_before_or_behind_the_command_above_the_variable(
    cli: Any, file: Path
) -> None:
    variable = {"TIDEGATE_CONTEXT": "production", "TIDEGATE_KAFKA": "elsewhere:1"}
    assert kafka_of(cli, "config", "show", **variable).startswith("kafka-1.prod")
    for arguments in (("--context", "staging", "config", "show"), ("config", "show", "--context", "staging")):
        assert kafka_of(cli, *arguments, **variable) == "staging:9092"


def test_a_directory_on_the_command_line_stands_above_the_variable_and_not_beside_a_context(
    cli: Any, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"settings": {"kafka": "127.0.0.1:1"}}))
    here = ("--data-dir", tmp_path)
    for arguments in ((*here, "config", "show"), ("config", "show", *here)):
        assert kafka_of(cli, *arguments, TIDEGATE_CONTEXT="production") == "127.0.0.1:1"
    there = ("--context", "staging")
    for arguments in (
        (*there, *here, "config", "show"),
        (*there, "config", "show", *here),
        (*here, "config", "show", *there),
        ("config", "show", *there, *here),
        ("config", "show", *here, *there),
    ):
        outcome = cli(*arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert "another place than --data-dir" in outcome.err


def test_a_local_stack_has_a_directory_and_no_context(cli: Any, file: Path) -> None:
    assert cli("--context", "production", "status").code == 2
    assert cli("status", TIDEGATE_CONTEXT="nowhere", TIDEGATE_DATA_DIR=str(file.parent)).code == 1


def test_mistakes_of_the_file_end_with_3_and_a_line_each(cli: Any, file: Path) -> None:
    file.write_text("a: {kafka: x, clickhouse: y}\n")
    for arguments in (("config", "show", "--context", "a"), ("config", "contexts")):
        outcome = cli(*arguments)
        assert (outcome.code, outcome.out) == (3, "")
        assert [line.split(" ")[0] for line in outcome.err.splitlines()] == [f"{file}:1:12:", f"{file}:1:27:"]


def test_a_misspelt_context_ends_with_3_and_the_nearest(cli: Any, file: Path) -> None:
    outcome = cli("config", "show", "--context", "prodution")
    assert (outcome.code, outcome.out) == (3, "")
    assert "did you mean production?" in outcome.err


def test_contexts_are_listed_and_the_current_one_is_marked(cli: Any, file: Path) -> None:
    rows = cli("config", "contexts", "--json", TIDEGATE_CONTEXT="staging").rows
    assert [(row["context"], row["current"]) for row in rows] == [
        ("staging", True),
        ("production", False),
        ("here", False),
    ]
    assert (rows[1]["kafka"], rows[1]["tenant"]) == ("kafka-1.prod:9093,kafka-2.prod:9093", "acme")
    rows = cli("--context", "production", "config", "contexts", "--json", TIDEGATE_CONTEXT="staging").rows
    assert [row["context"] for row in rows if row["current"]] == ["production"]
    file.unlink()
    assert cli("config", "contexts").err == f"no contexts: {file} is not there\n"


def test_an_unknown_current_context_is_told_behind_the_list(cli: Any, file: Path) -> None:
    outcome = cli("config", "contexts", "--json", TIDEGATE_CONTEXT="prodution")
    assert (outcome.code, len(outcome.rows)) == (3, 3)
    assert "'prodution' is none of them: did you mean production?" in outcome.err


def test_the_mistakes_of_a_context_are_told_behind_the_others(cli: Any, file: Path) -> None:
    file.write_text(f"{GOOD}\nbroken: {{kafka: nowhere}}\n")
    outcome = cli("config", "contexts", "--json", TIDEGATE_CONTEXT="broken")
    assert [row["context"] for row in outcome.rows] == ["staging", "production", "here"]
    assert outcome.code == 3
    assert "broken.kafka: should be host:port" in outcome.err


def test_what_a_context_lacks_is_told_and_the_rest_is_shown(cli: Any, file: Path) -> None:
    file.write_text(GOOD.replace("clickhouse_user: analyst", "kafka_security_protocol: sasl_ssl"))
    outcome = cli("config", "show", "--context", "production", "--json")
    assert (outcome.code, len(outcome.rows)) == (0, len(Settings.model_fields))
    assert outcome.err.splitlines() == [
        "settings are missing:",
        "  kafka_username of context production: kafka_security_protocol sasl_ssl needs it",
        "  TIDEGATE_KAFKA_PASSWORD: kafka_security_protocol sasl_ssl needs it",
    ]
    assert cli("topic", "plan", "--context", "production").code == 3


@pytest.mark.parametrize("command", [["sql", "SELECT 1"], ["doctor"]])
def test_advice_names_the_key_of_the_context_and_no_variable_that_it_stands_above(
    cli: Any, file: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "checkup", lambda settings: [Finding("store", "fail", AWAY)])
    monkeypatch.setattr(store, "connected", away)
    said = cli(*command, "--context", "staging")
    assert (
        "start it, or set clickhouse of context staging, TIDEGATE_CLICKHOUSE_PASSWORD" in said.out + said.err
    )
    said = cli(*command)
    assert AWAY in said.out + said.err


AWAY = "no answer: start it, or set TIDEGATE_CLICKHOUSE, TIDEGATE_CLICKHOUSE_PASSWORD"


def away(_: Settings, **__: object) -> None:
    raise DependencyUnavailable(AWAY)


def leaves() -> Iterator[tuple[str, Any]]:
    root: Any = typer.main.get_command(app)
    for name in COMMANDS:
        command = root.get_command(None, name)
        for verb, leaf in (getattr(command, "commands", None) or {"": command}).items():
            yield f"{name} {verb}".strip(), leaf


def test_every_command_that_talks_to_something_takes_a_context() -> None:
    takes = {name: {option.name for option in leaf.params} for name, leaf in leaves()}
    needs = {name for name, options in takes.items() if "data_dir" in options}
    assert {name for name, options in takes.items() if "context" in options} == needs - {
        "up",
        "down",
        "status",
        "logs",
    } | {"config contexts"}


def test_a_context_says_whose_things_are_meant_unless_the_command_line_does(
    cli: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = rollout_file.load(Path(__file__).parents[2] / "docs/examples/minimal.yaml")
    specs = {
        f"{tenant}/prod/answers": replace(example, tenant=tenant, environment="prod", deployment="answers")
        for tenant in ("acme", "other")
    }
    monkeypatch.setattr(rollout_log, "specs", lambda _: specs)
    monkeypatch.setattr(rollout_log, "progress", lambda _: {})
    monkeypatch.setattr(rollout_log, "refused", lambda *_: None)

    def tenants(*arguments: str) -> list[str]:
        return [row["tenant"] for row in cli(*arguments, "--json").rows]

    assert tenants("rollout", "list", "--context", "staging") == ["acme", "other"]
    assert tenants("rollout", "list", "--context", "production") == ["acme"]
    assert tenants("--context", "production", "rollout", "list") == ["acme"]
    assert tenants("--context", "production", "rollout", "list", "--tenant", "other") == ["other"]


def test_what_changes_something_says_in_which_context(file: Path) -> None:
    settings = Settings.in_context(contexts.find("staging"))
    assert settings.said(settings.kafka) == "staging:9092 (context staging)"
    assert Settings().said("a:1") == "a:1"
