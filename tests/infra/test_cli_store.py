"""Commands that ask the store, on the real engine."""

import json
from typing import Any

import pytest

from tidegate.topics import TOPICS
from tidegate_infra.clickhouse import migrations
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("store")

COUNT = len(migrations.read())


@pytest.fixture
def database(cli: Any) -> None:
    assert cli("sql", "--write", "SELECT 1").code == 0


def test_a_query_is_printed_as_a_table_json_yaml_or_down_the_page(cli: Any, database: None) -> None:
    query = "SELECT number AS n, toDecimal64(1.5, 9) AS usd FROM numbers(2)"
    assert cli("sql", query, "--json").out == '{"n":0,"usd":1.5}\n{"n":1,"usd":1.5}\n'
    assert cli("sql", query, "-o", "yaml").out == "- n: 0\n  usd: 1.5\n- n: 1\n  usd: 1.5\n"
    assert "┃" in cli("sql", query).out or "│" in cli("sql", query).out
    assert "Row 2:" in cli("sql", query, "-o", "wide").out
    assert cli("sql", query + " FORMAT CSV").out == "0,1.5\n1,1.5\n"
    assert cli("sql", "-", "--json", stdin="SELECT 7 AS seven;").out == '{"seven":7}\n'


def test_only_reading_is_allowed_unless_writing_is_asked_for(cli: Any, database: None) -> None:
    create = "CREATE TABLE notes (n Int64) ENGINE = Memory"
    refused = cli("sql", create)
    assert refused.code == 5
    assert "--write" in refused.err
    assert cli("sql", "--write", create).code == 0
    assert cli("sql", "SELECT count() FROM notes FORMAT TSV").out == "0\n"


def test_a_wrong_query_ends_with_1_and_the_engines_own_words(cli: Any, database: None) -> None:
    outcome = cli("sql", "SELECT nothing FROM numbers(1)")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        "tidegate: Unknown expression identifier `nothing`. In scope SELECT nothing FROM numbers(1). "
        "(UNKNOWN_IDENTIFIER)\n"
    )
    outcome = cli("sql", "SELEC 1")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        "tidegate: Syntax error: failed at position 1 (SELEC): SELEC 1. Maybe you meant: SELECT.\n"
    )


def test_a_table_that_never_was_is_a_mistake_when_tidegates_own_are_there(cli: Any, migrated: None) -> None:
    outcome = cli("sql", "SELECT 1 FROM nowhere")
    assert outcome.code == 1
    assert "nowhere" in outcome.err
    assert "migration" not in outcome.err


def test_a_database_that_is_not_there_ends_with_3_and_the_command_that_makes_it(cli: Any) -> None:
    for arguments in (["sql", "SELECT 1"], ["migration", "status"]):
        outcome = cli(*arguments)
        assert outcome.code == 3
        assert "tidegate migration up" in outcome.err


def test_migrations_go_up_and_down_again(cli: Any) -> None:
    planned = cli("migration", "up", "--dry-run", "--json")
    assert (planned.code, len(planned.rows)) == (0, COUNT)
    assert not any(row["done"] for row in planned.rows)
    assert "CREATE TABLE" in cli("migration", "up", "--dry-run").out
    pending = cli("migration", "status", "--json")
    assert (pending.code, {row["state"] for row in pending.rows}) == (1, {"pending"})
    done = cli("migration", "up", "--yes", "--json")
    assert [row["number"] for row in done.rows] == list(range(1, COUNT + 1))
    status = cli("migration", "status", "--json")
    assert (status.code, {row["state"] for row in status.rows}) == (0, {"applied"})
    again = cli("migration", "up", "--yes")
    assert (again.code, again.out) == (0, "")
    assert cli("migration", "down").code == 5
    assert json.loads(cli("migration", "down", "--yes", "--json").out)["number"] == COUNT
    assert cli("migration", "status", "--json").rows[-1]["state"] == "pending"


def test_a_changed_migration_is_refused_with_5(
    cli: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("migration", "up", "--yes").code == 0
    changed = [
        migrations.Migration(one.number, one.name, one.up + "-- edited", one.down)
        for one in migrations.read()
    ]
    monkeypatch.setattr(migrations, "read", lambda: changed)
    outcome = cli("migration", "up", "--yes")
    assert outcome.code == 5
    assert "Never edit an applied migration" in outcome.err


# Ledger and doctor


def test_the_ledger_says_what_balances_and_ends_with_1_when_something_is_missing(
    cli: Any, migrated: None
) -> None:
    empty = cli("ledger", "--json")
    assert (empty.code, empty.out, empty.err) == (0, "", "0 producers in the last 24h, 0 not balanced\n")
    lost = (
        "INSERT INTO producer_reports (producer_id, tenant, app, report_seq, accepted, final, append_ts) "
        "VALUES ('p', 'acme', 'chat', 1, 5, true, now64(3) - 600)"
    )
    assert cli("sql", "--write", lost).code == 0
    outcome = cli("ledger", "--json")
    assert outcome.code == 1
    (row,) = outcome.rows
    assert (row["producer_id"], row["accepted"], row["missing"], row["balanced"]) == ("p", 5, 5, False)
    assert cli("ledger", "--json", "--tenant", "other").code == 0
    assert "ACCEPTED" in cli("ledger").out
    lost_earlier = lost.replace("'p'", "'earlier'").replace("600", "3 * 86400")
    assert cli("sql", "--write", lost_earlier).code == 0
    by_hour = cli("ledger", "--json", "--by", "hour", "--last", "7d")
    assert [(row["producer_id"], row["missing"]) for row in by_hour.rows] == [("earlier", 5), ("p", 5)]
    assert by_hour.rows[0]["hour"] < by_hour.rows[1]["hour"]
    assert [row["producer_id"] for row in cli("ledger", "--json").rows] == ["p"]
    assert cli("ledger", "--last", "soon").code == 2


def test_tables_that_are_not_there_end_with_3_and_the_command_that_makes_them(
    cli: Any, database: None
) -> None:
    outcome = cli("ledger")
    assert outcome.code == 3
    assert "tidegate migration up" in outcome.err


def test_doctor_names_what_does_not_run_with_the_command_that_helps(
    cli: Any, kafka: str, topics: None, migrated: None
) -> None:
    outcome = cli("doctor", "--json")
    assert outcome.code == 1
    found = {row["question"]: row for row in outcome.rows}
    assert {q: f["verdict"] for q, f in found.items() if not q.startswith("store")} == {
        "kafka": "ok",
        "topics": "ok",
        "process aggregate": "fail",
        "process stream": "fail",
        "process sink": "fail",
        "process notify": "ok",
        "process resolve": "warn",
        "dead letters": "ok",
        "tables": "ok",
        "ledger": "ok",
        "losses": "ok",
    }
    assert found["process sink"]["fix"] == "tidegate run sink"
    assert found["process notify"]["words"].startswith("idle: ")
    webhook = {"TIDEGATE_WEBHOOK_URL": "https://example.com/x", "TIDEGATE_WEBHOOK_SECRET": "whsec_c2VjcmV0"}
    found = {row["question"]: row for row in cli("doctor", "--json", **webhook).rows}
    assert found["process notify"]["verdict"] == "warn"
    assert found["store"]["verdict"] == "ok"
    assert (
        cli("sql", "--write", "INSERT INTO log_losses VALUES ('llm.calls', 'T', 3, 5, 11, now64(3))").code
        == 0
    )
    [losses] = [row for row in cli("doctor", "--json").rows if row["question"] == "losses"]
    assert (losses["verdict"], losses["words"].partition(",")[0]) == (
        "warn",
        "retention took 7 offsets of llm.calls",
    )


def test_doctor_asks_nothing_that_depends_on_a_server_that_is_away(cli: Any, kafka: str) -> None:
    away = {"TIDEGATE_CLICKHOUSE": "http://127.0.0.1:9/tidegate"}
    found = {row["question"]: row for row in cli("doctor", "--json", **away).rows}
    assert found["topics"]["fix"] == "tidegate topic apply"
    assert found["topics"]["words"].startswith(f"{len(TOPICS)} missing")
    assert found["store"]["verdict"] == "fail"
    assert "tables" not in found
