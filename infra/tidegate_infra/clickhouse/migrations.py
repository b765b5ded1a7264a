"""Numbered, reversible migrations: files ``NNNN_name.up.sql`` and ``NNNN_name.down.sql``.

ClickHouse has no transactions over tables. So a migration is logged after its last statement, and one that
failed in the middle is run again from its start: write ``IF NOT EXISTS`` and ``IF EXISTS``.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tidegate.errors import ConfigError, Refused

SQL = Path(__file__).with_name("sql")

_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>\w+)\.(?P<direction>up|down)\.sql")
_PIECE = re.compile(
    r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|;|[^;'`\"/-]+|.",
    re.DOTALL,
)
# The log is appended to, never changed: the last line about a migration counts.
_CREATE_LOG = """CREATE TABLE IF NOT EXISTS schema_migrations
(
    step UInt64,
    number UInt32,
    name String,
    checksum String,
    applied Bool,
    at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree ORDER BY step"""
_APPLIED = """SELECT number, argMax(name, step), argMax(checksum, step) FROM schema_migrations
GROUP BY number HAVING argMax(applied, step) ORDER BY number"""


@dataclass(frozen=True, slots=True)
class Migration:
    """Two files: how to make a change, and how to take it back."""

    number: int
    name: str
    up: str
    down: str

    @property
    def label(self) -> str:
        """Number and name, as in the file names."""
        return f"{self.number:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """Changes with every byte of the two files."""
        return hashlib.sha256(f"{self.up}\0{self.down}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Status:
    """Where a migration stands.

    ``changed``: its files are not those that were applied. ``unknown``: applied, and there are no such files.
    """

    number: int
    name: str
    state: Literal["applied", "pending", "changed", "unknown"]


@dataclass(frozen=True, slots=True)
class Step:
    """A migration to make or take back, statement by statement."""

    migration: Migration
    direction: Literal["up", "down"]

    @property
    def statements(self) -> list[str]:
        """What is executed, in order; ``{database}`` still stands for the database of the client."""
        return split(self.migration.up if self.direction == "up" else self.migration.down)


def read(directory: Path = SQL) -> list[Migration]:
    """Read all migrations, in order.

    Raises
    ------
    ConfigError
        A file is missing, or is not named as it should be.
    """
    texts: dict[tuple[int, str], dict[str, str]] = {}
    problems = []
    for path in sorted(directory.glob("*.sql")):
        if match := _FILE.fullmatch(path.name):
            texts.setdefault((int(match["number"]), match["name"]), {})[match["direction"]] = path.read_text()
        else:
            problems.append(f"{path.name} is not called NNNN_name.up.sql or NNNN_name.down.sql")
    for expected, ((number, name), files) in enumerate(sorted(texts.items()), start=1):
        if number != expected:
            problems.append(f"{number:04}_{name} should have number {expected:04}")
        problems += [f"{number:04}_{name}.{way}.sql is missing" for way in ("up", "down") if way not in files]
    if problems:
        raise ConfigError("\n  ".join([f"migrations in {directory} are wrong:", *problems]))
    return [
        Migration(number, name, files["up"], files["down"]) for (number, name), files in sorted(texts.items())
    ]


def status(client: Client, migrations: list[Migration] | None = None) -> list[Status]:
    """Compare what was applied with the files; changes nothing."""
    migrations = read() if migrations is None else migrations
    applied = _applied(client)
    known = {migration.number for migration in migrations}
    return [
        *(Status(migration.number, migration.name, _state(migration, applied)) for migration in migrations),
        *(Status(number, name, "unknown") for number, (name, _) in applied.items() if number not in known),
    ]


def up(
    client: Client, migrations: list[Migration] | None = None, *, to: int | None = None, dry_run: bool = False
) -> list[Step]:
    """Apply what is pending, up to and with number `to`, and return what was done.

    Parameters
    ----------
    client
        Its database is migrated.
    migrations
        Those of this package when not given.
    to
        Last number to apply; all when not given.
    dry_run
        Only return what would be done.

    Raises
    ------
    Refused
        A migration that was applied has changed since, or is unknown here.
    ConfigError
        A statement failed.
    """
    migrations = read() if migrations is None else migrations
    states = _trusted(client, migrations)
    steps = [
        Step(migration, "up")
        for migration in migrations
        if states[migration.number] == "pending" and (to is None or migration.number <= to)
    ]
    return _run(client, steps, dry_run=dry_run)


def down(
    client: Client, migrations: list[Migration] | None = None, *, to: int | None = None, dry_run: bool = False
) -> list[Step]:
    """Take back every migration above number `to`, the last one first, and return what was done.

    Tables are dropped with their rows. Parameters and errors as in `up`; without `to`, only the last
    migration is taken back.
    """
    migrations = read() if migrations is None else migrations
    states = _trusted(client, migrations)
    applied = [migration for migration in reversed(migrations) if states[migration.number] == "applied"]
    chosen = applied[:1] if to is None else [migration for migration in applied if migration.number > to]
    return _run(client, [Step(migration, "down") for migration in chosen], dry_run=dry_run)


def split(sql: str) -> list[str]:
    """Cut a file into statements, at each semicolon outside of strings and comments."""
    statements = [""]
    for piece in _PIECE.findall(sql):
        if piece == ";":
            statements.append("")
        elif not piece.startswith(("--", "/*")):
            statements[-1] += piece
    return [statement.strip() for statement in statements if statement.strip()]


def _run(client: Client, steps: Iterable[Step], *, dry_run: bool) -> list[Step]:
    steps = list(steps)
    if dry_run or not steps:
        return steps
    client.command(_CREATE_LOG)
    number_of_step = int(str(client.command("SELECT max(step) FROM schema_migrations")))
    for done, step in enumerate(steps, start=1):
        migration = step.migration
        for position, statement in enumerate(step.statements, start=1):
            try:
                client.command(statement.replace("{database}", f"`{client.database}`"))
            except DatabaseError as error:
                raise ConfigError(
                    f"migration {migration.label} {step.direction} failed at statement {position} of "
                    f"{len(step.statements)}: {error}; after the cause is gone, run it again"
                ) from None
        client.insert(
            "schema_migrations",
            [
                [
                    number_of_step + done,
                    migration.number,
                    migration.name,
                    migration.checksum,
                    step.direction == "up",
                ]
            ],
            column_names=["step", "number", "name", "checksum", "applied"],
            settings={"async_insert": 0},
        )
    return steps


def _trusted(client: Client, migrations: list[Migration]) -> dict[int, str]:
    states = status(client, migrations)
    doubtful = [
        f"{one.number:04}_{one.name} ({one.state})" for one in states if one.state in {"changed", "unknown"}
    ]
    if doubtful:
        raise Refused(
            f"migrations of database {client.database} are not those of this version: {', '.join(doubtful)}. "
            "Never edit an applied migration: restore its files, or install the version that has them"
        )
    return {one.number: one.state for one in states}


def _state(
    migration: Migration, applied: dict[int, tuple[str, str]]
) -> Literal["applied", "pending", "changed"]:
    if migration.number not in applied:
        return "pending"
    return "applied" if applied[migration.number] == (migration.name, migration.checksum) else "changed"


def _applied(client: Client) -> dict[int, tuple[str, str]]:
    if not client.command("EXISTS TABLE schema_migrations"):
        return {}
    return {number: (name, checksum) for number, name, checksum in client.query(_APPLIED).result_rows}
