"""The shipped tables in the real engine: complete, commented, reversible."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from clickhouse_connect.driver.client import Client

from tidegate.records import LLMCall
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.clickhouse import migrations
from tidegate_infra.settings import Settings

LOG = "schema_migrations"
"""Not ours: what the migrations note."""


@pytest.fixture
def connection(store: str, settings: Settings) -> Iterator[Client]:
    with closing(clickhouse.connect(settings)) as opened:
        migrations.up(opened)
        yield opened


def tables(connection: Client) -> set[str]:
    found = connection.query("SELECT name FROM system.tables WHERE database = currentDatabase()").result_rows
    return {name for (name,) in found} - {LOG}


def test_every_migration_can_be_taken_back_and_made_again(connection: Client) -> None:
    first = tables(connection)
    migrations.down(connection, to=0)
    assert tables(connection) == set()
    migrations.up(connection)
    assert tables(connection) == first


def test_every_table_and_every_column_says_what_it_holds(connection: Client) -> None:
    silent = connection.query(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"
        " AND table IN (SELECT name FROM system.tables WHERE engine LIKE '%MergeTree')"
        f" AND table != '{LOG}'"
    )
    assert silent.result_rows == []
    wordless = connection.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''"
        f" AND name != '{LOG}'"
    )
    assert wordless.result_rows == []


def test_calls_have_a_column_for_every_field_and_bodies_stand_apart(connection: Client) -> None:
    found = connection.query("DESCRIBE calls").result_columns[0]
    nested = {"routing", "retrieval"}
    missing = set(LLMCall.__dataclass_fields__) - set(found) - nested - {"content"}
    assert missing == set()
    assert all(any(name.startswith(f"{record}_") for name in found) for record in nested)
    assert not {"input", "output", "context"} & set(found)


def test_every_fact_table_remembers_tokens(connection: Client) -> None:
    forgetful = connection.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
        " AND engine_full NOT LIKE '%non_replicated_deduplication_window%'"
        f" AND name != '{LOG}'"
    )
    assert forgetful.result_rows == []


def test_final_is_read_only_within_bounds_of_time() -> None:
    texts = [migration.up for migration in migrations.read()]
    statements = [statement for text in texts for statement in migrations.split(text)]
    final = [statement for statement in statements if " FINAL" in statement]
    assert len(final) == 1
    assert "{since:" in final[0]
    assert "{until:" in final[0]
    assert not any("MATERIALIZED VIEW" in statement for statement in statements)


def test_every_view_answers_without_rows(connection: Client) -> None:
    views = connection.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"
    )
    names = {name for (name,) in views.result_rows}
    assert len(names) >= 3
    for name in names - {"windows_between", "ledger_since"}:
        assert connection.query(f"SELECT * FROM {name}").result_rows == []
    for bounded in (
        "windows_between(since = '2026-01-01', until = '2026-01-02')",
        "ledger_since(since = '2026-01-01')",
    ):
        assert connection.query(f"SELECT * FROM {bounded}").result_rows == []
