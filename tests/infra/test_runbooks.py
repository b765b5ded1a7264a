"""Every alert that we fire has its runbook, and what a runbook tells to type can be typed."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from clickhouse_connect.driver import Client
from typer.testing import CliRunner

from tidegate_consumers.notify import trial, unreachable
from tidegate_consumers.sink import unbalanced
from tidegate_infra.cli.app import COMMANDS, app
from tidegate_infra.kafka import losses
from tidegate_streams.rollouts import outputs

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")
PACKAGES = ("streams", "consumers", "infra", "schemas")

IN_PLACES = {
    "streams/tidegate_streams/rollouts/outputs.py": {
        rule for rule, _ in (*outputs.ALERTS.values(), *outputs.ALERTS_HELD_FOR.values())
    },
    "infra/tidegate_infra/kafka/losses.py": {losses.RULE},
    "consumers/tidegate_consumers/sink/unbalanced.py": {unbalanced.RULE},
    "consumers/tidegate_consumers/notify/unreachable.py": {unreachable.RULE},
    "consumers/tidegate_consumers/notify/trial.py": {trial.RULE},
}
"""Where a rule's name is no literal: what it may be."""


def fired() -> set[str]:
    """Every rule of which an alert is made somewhere."""
    rules: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            for node in ast.walk(ast.parse(text if "Alert(" in text else "")):
                if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Alert"):
                    continue
                rule = next((one.value for one in node.keywords if one.arg == "rule"), None)
                match rule:
                    case ast.Constant(value=str(name)):
                        rules.add(name)
                    case ast.Attribute(attr="rule"):
                        pass  # another change of an alert that was made elsewhere
                    case _:
                        rules |= IN_PLACES[str(path.relative_to(ROOT))]
    return rules


def test_every_alert_that_can_fire_has_its_page_and_every_page_its_alert() -> None:
    assert {path.stem for path in PAGES} == fired() - {trial.RULE}


def test_the_index_names_every_page() -> None:
    assert set(re.findall(r"\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text())) == {
        p.stem for p in PAGES
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_what_it_means_whom_it_hurts_how_to_look_and_what_to_do(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n")
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Meaning", "Impact", "Check", "Mitigate"]
    assert "$ tidegate" in text or "```sql" in text


def commands(path: Path) -> list[list[str]]:
    lines = re.findall(r"^\$ tidegate (.*?)(?:\s+#.*)?$", path.read_text(), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("path", [*PAGES, ROOT / "docs" / "channels.md"], ids=lambda path: path.stem)
def test_every_command_of_a_page_is_there_with_its_options(path: Path) -> None:
    for words in commands(path):
        noun, *rest = words
        assert noun in COMMANDS, words
        is_group = "Commands:" in CliRunner().invoke(app, [noun, "--help"]).output
        shown = CliRunner().invoke(app, [noun, *rest[:is_group], "--help"])
        assert shown.exit_code == 0, words
        for option in (word for word in words if word.startswith("-")):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown.output), (words, option)


def test_every_query_of_a_page_is_answered(client: Client, migrated: None) -> None:
    asked = 0
    for path in PAGES:
        for query in re.findall(r"```sql\n(.*?)```", path.read_text(), re.DOTALL):
            client.query(query)
            asked += 1
    assert asked >= 5
