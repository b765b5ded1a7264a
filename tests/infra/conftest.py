"""The command line as a test's client."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from tidegate.topics import ACTIONS, DEPLOYMENTS, PROGRESS, ROLLOUTS, STATUS
from tidegate_infra.cli.app import app
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.kafka import topics
from tidegate_infra.settings import PREFIX, Settings

# What several files of tests share stands in modules of its own beside them, found from the root.
sys.path.insert(0, str(Path(__file__).parents[2]))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was printed as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Outcome]


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment in which a command finds the Kafka and the store of a test."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ours = settings.environment()
    ours.pop(f"{PREFIX}DATA_DIR", None)
    return others | ours | {"NO_COLOR": "1"}


@pytest.fixture
def cli(settings: Settings) -> Cli:
    """Run a command in this process, against the Kafka and the store of the test."""
    runner = CliRunner()

    def run(*arguments: object, stdin: bytes | str | None = None, **environment: str) -> Outcome:
        ours = {name: None for name in os.environ if name.startswith(PREFIX)}
        result = runner.invoke(
            app,
            [str(argument) for argument in arguments],
            input=stdin,
            env=ours | variables(settings) | environment,
        )
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def start_cli(settings: Settings) -> Callable[..., "subprocess.Popen[str]"]:
    """Start a command as a process of its own."""

    def start(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tidegate_infra.cli", *map(str, arguments)],
            env=variables(settings) | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def consume(settings: Settings) -> Iterator[Callable[..., object]]:
    """Make consumers of ranges, of one group."""
    from tests.infra.claiming import Consumers

    with closing(Consumers(settings)) as consumers:
        yield consumers


@pytest.fixture
def client(store: str, settings: Settings) -> Client:
    """The unmodified client, in a database of its own."""
    return connect(settings)


@pytest.fixture
def http(store: str, settings: Settings, client: Client) -> Iterator[httpx.Client]:
    """Plain HTTP, in the same database."""
    database = settings.clickhouse.rpartition("/")[2]
    with httpx.Client(
        base_url=store.removesuffix("default"), params={"database": database}, timeout=30, verify=False
    ) as http:
        yield http


@pytest.fixture
def plain(store: str) -> Iterator[httpx.Client]:
    """Plain HTTP, in the database of all."""
    with httpx.Client(base_url=store.removesuffix("default"), timeout=30, verify=False) as plain:
        yield plain


@pytest.fixture
def control(kafka: str, settings: Settings) -> None:
    """Only what rollouts need."""
    topics.apply(settings, [ROLLOUTS, ACTIONS, DEPLOYMENTS, STATUS, PROGRESS])
