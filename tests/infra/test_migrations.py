import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from tidegate.errors import ConfigError, DependencyUnavailable, Refused
from tidegate_infra.clickhouse import migrations
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.clickhouse.migrations import Migration
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports

CALLS = Migration(
    1,
    "calls",
    "CREATE TABLE IF NOT EXISTS calls (a Int64, note String DEFAULT ';') ENGINE = MergeTree ORDER BY a;\n"
    "-- a view; in a file of its own it would be as good\n"
    "CREATE VIEW IF NOT EXISTS recent AS SELECT * FROM {database}.calls WHERE note != 'it''s; not'",
    "DROP TABLE IF EXISTS recent; DROP TABLE IF EXISTS calls SYNC;",
)
COST = Migration(
    2,
    "cost",
    "ALTER TABLE calls ADD COLUMN IF NOT EXISTS cost Decimal(18, 9)",
    "ALTER TABLE calls DROP COLUMN IF EXISTS cost",
)


@pytest.fixture
def client(store: str, settings: Settings) -> Client:
    return connect(settings)


def schema(client: Client) -> list[tuple[str, str]]:
    rows = client.query(
        "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    ).result_rows
    return [(name, sql) for name, sql in rows if name != "schema_migrations"]


def states(client: Client, known: list[Migration]) -> dict[int, str]:
    return {one.number: one.state for one in migrations.status(client, known)}


def test_up_down_up_gives_the_same_tables(client: Client) -> None:
    migrations.up(client, [CALLS, COST])
    first = schema(client)
    assert [name for name, _ in first] == ["calls", "recent"]
    assert "cost" in first[0][1]

    migrations.down(client, [CALLS, COST], to=0)
    assert schema(client) == []
    assert states(client, [CALLS, COST]) == {1: "pending", 2: "pending"}

    migrations.up(client, [CALLS, COST])
    assert schema(client) == first
    assert states(client, [CALLS, COST]) == {1: "applied", 2: "applied"}


@pytest.mark.long
def test_the_tables_of_this_package_come_and_go_and_come_back_the_same(client: Client) -> None:
    migrations.up(client)
    first = schema(client)
    assert "calls" in dict(first)

    migrations.down(client, to=0)
    assert schema(client) == []

    migrations.up(client)
    assert schema(client) == first


def test_up_is_done_once(client: Client) -> None:
    assert [step.migration.number for step in migrations.up(client, [CALLS, COST])] == [1, 2]
    assert migrations.up(client, [CALLS, COST]) == []


def test_up_stops_at_a_number_and_goes_on_later(client: Client) -> None:
    migrations.up(client, [CALLS, COST], to=1)
    assert states(client, [CALLS, COST]) == {1: "applied", 2: "pending"}
    assert [step.migration.number for step in migrations.up(client, [CALLS, COST])] == [2]


def test_down_takes_back_only_the_last(client: Client) -> None:
    migrations.up(client, [CALLS, COST])
    assert [step.migration.number for step in migrations.down(client, [CALLS, COST])] == [2]
    assert states(client, [CALLS, COST]) == {1: "applied", 2: "pending"}


def test_a_dry_run_says_what_it_would_do_and_does_nothing(client: Client) -> None:
    steps = migrations.up(client, [CALLS, COST], dry_run=True)

    assert [len(step.statements) for step in steps] == [2, 1]
    assert client.query("SHOW TABLES").result_rows == []


def test_status_of_an_untouched_database_changes_nothing(client: Client) -> None:
    assert states(client, [CALLS]) == {1: "pending"}
    assert client.query("SHOW TABLES").result_rows == []


@pytest.mark.parametrize("way", [migrations.up, migrations.down])
def test_an_edited_migration_is_refused_by_name(client: Client, way: Callable[..., object]) -> None:
    migrations.up(client, [CALLS])
    edited = Migration(1, "calls", CALLS.up + " ", CALLS.down)

    assert states(client, [edited]) == {1: "changed"}
    with pytest.raises(Refused, match=r"0001_calls \(changed\)"):
        way(client, [edited, COST])


def test_a_database_of_a_newer_version_is_refused(client: Client) -> None:
    migrations.up(client, [CALLS, COST])

    assert states(client, [CALLS]) == {1: "applied", 2: "unknown"}
    with pytest.raises(Refused, match=r"0002_cost \(unknown\)"):
        migrations.up(client, [CALLS])


def test_a_failed_migration_names_its_statement_and_is_run_again_from_its_start(client: Client) -> None:
    broken = Migration(2, "cost", f"{COST.up}; ALTER TABLE nowhere ADD COLUMN a Int8", COST.down)

    with pytest.raises(ConfigError, match=r"0002_cost up failed at statement 2 of 2: .*nowhere"):
        migrations.up(client, [CALLS, broken])
    assert states(client, [CALLS, broken]) == {1: "applied", 2: "pending"}

    assert [step.migration.number for step in migrations.up(client, [CALLS, COST])] == [2]


def test_semicolons_in_strings_and_comments_do_not_cut() -> None:
    sql = "SELECT ';', `a;b`, \"c;d\" -- one; two\n; /* three; */ SELECT 'it''s;', '\\';' - 1 / 2;\n\n;"

    assert migrations.split(sql) == ["SELECT ';', `a;b`, \"c;d\"", "SELECT 'it''s;', '\\';' - 1 / 2"]


def test_files_with_gaps_strangers_or_halves_are_all_named_at_once(tmp_path: Path) -> None:
    for name in ("0001_a.up.sql", "0003_b.up.sql", "0003_b.down.sql", "c.sql"):
        (tmp_path / name).write_text("SELECT 1")

    with pytest.raises(ConfigError) as refusal:
        migrations.read(tmp_path)

    words = str(refusal.value)
    assert "c.sql is not called" in words
    assert "0001_a.down.sql is missing" in words
    assert "0003_b should have number 0002" in words


def test_a_store_that_is_away_is_one_clear_line() -> None:
    address = f"http://127.0.0.1:{ports.free_port()}/tidegate"

    with pytest.raises(DependencyUnavailable) as away:
        connect(Settings(clickhouse=address))

    assert str(away.value) == (
        f"ClickHouse at {address} does not answer (Connection refused): start it (`tidegate up` for a local "
        "one), or set TIDEGATE_CLICKHOUSE"
    )


def test_a_store_that_is_frozen_is_told_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate_infra.clickhouse.client._FIRST_ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = f"http://127.0.0.1:{frozen.getsockname()[1]}/tidegate"
        with pytest.raises(DependencyUnavailable, match="does not answer"):
            connect(Settings(clickhouse=address))


def test_a_reader_makes_no_database(store: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="`tidegate migration up` makes it"):
        connect(settings, readonly=True)


def test_a_readonly_client_changes_nothing(client: Client, settings: Settings) -> None:
    migrations.up(client, [CALLS])
    reader = connect(settings, readonly=True)

    assert reader.command("SELECT count() FROM calls") == 0
    for change in ("INSERT INTO calls (a) VALUES (1)", "DROP TABLE calls", "SELECT 1 SETTINGS readonly = 0"):
        with pytest.raises(Exception, match="READONLY"):
            reader.command(change)


def test_a_wrong_password_is_not_repeated_in_the_error(store: str, settings: Settings) -> None:
    wrong = settings.model_copy(update={"clickhouse_password": type(settings.clickhouse_password)("sesame")})

    with pytest.raises(ConfigError, match="refuses user 'default'") as refusal:
        connect(wrong)

    assert "sesame" not in str(refusal.value)
