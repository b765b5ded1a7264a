"""The page on how long things are kept says what is so, and its statements do what it says."""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from tidegate.topics import TOPICS
from tidegate_infra import checkup
from tidegate_infra.clickhouse import client, migrations
from tidegate_infra.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs/keeping.md").read_text()
OLD = "now() - INTERVAL 40 DAY"
DAY_MS = 86_400_000
PARTS = (
    "SELECT name, path FROM system.parts WHERE active AND database = currentDatabase() AND table = 'calls'"
)
SET_ASIDE = "SELECT name FROM system.detached_parts WHERE database = currentDatabase()"


def statements() -> Iterator[str]:
    for block in re.findall(r"^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        yield from migrations.split(block)


def test_topics_are_kept_for_as_long_as_the_page_says() -> None:
    said = {
        topic: int(days)
        for names, days in re.findall(r"^\| (`llm.*`) \| (\d+) days \|$", PAGE, re.MULTILINE)
        for topic in re.findall(r"`(.*?)`", names)
    }
    kept = {name: topic.config.get("retention.ms") for name, topic in TOPICS.items()}
    assert said == {name: int(ms) / DAY_MS for name, ms in kept.items() if ms is not None}


@pytest.fixture
def store(migrated: None, settings: Settings) -> Iterator[Client]:
    with closing(client.connect(settings)) as connection:
        yield connection


def insert(
    store: Client, event_id: str, tenant: str = "acme", table: str = "calls", token: str = "", **values: str
) -> None:
    columns = ", ".join(values)
    store.command(
        f"INSERT INTO {table} (event_id, tenant, {columns}) "
        f"SELECT '{event_id}', '{tenant}', {', '.join(values.values())}",
        settings={"insert_deduplication_token": token},
    )


def ids(store: Client, table: str) -> set[str]:
    return {row[0] for row in store.query(f"SELECT event_id FROM {table}").result_rows}


def test_the_statements_of_the_page_do_what_it_says(store: Client) -> None:
    may = {"ts": "'2026-05-01 12:00:00'", "append_ts": "now()"}
    insert(store, "damaged", token="of the damaged", **may)
    [[part, path]] = store.query(PARTS).result_rows
    os.truncate(Path(path) / "data.bin", 0)
    store.command("DETACH TABLE calls SYNC")
    store.command("ATTACH TABLE calls")
    finding = checkup._parts(store)
    assert (finding.verdict, part in finding.words) == ("warn", True)

    # By its token alone it would not come back.
    insert(store, "damaged", token="of the damaged", **may)
    assert ids(store, "calls") == set()

    insert(store, "may", **may)
    insert(store, "may", table="feedback", **may)
    insert(store, "june", table="feedback", ts="'2026-06-01 12:00:00'", append_ts="now()")
    for tenant in ("acme", "beta"):
        insert(store, f"old of {tenant}", tenant, ts=OLD, append_ts=OLD)
        # A replay of the past: old events that have only come.
        insert(store, f"replayed of {tenant}", tenant, ts=OLD, append_ts="now()")
    for event_id, user in (("of the person", "u-17"), ("of another", "u-18")):
        insert(store, event_id, ts="now()", append_ts="now()", user_hash=f"'{user}'")
        insert(store, event_id, table="call_bodies", append_ts="now()")

    for statement in statements():
        store.command(re.sub(r"(?<='broken-on-start_)\w+", part, statement))

    insert(store, "damaged", token="of the damaged", **may)
    replayed = {"replayed of acme", "replayed of beta"}
    assert ids(store, "calls") == {"damaged", "old of beta", "of another", *replayed}
    assert ids(store, "call_bodies") == {"of another"}
    assert ids(store, "feedback") == {"june"}
    assert store.query(SET_ASIDE).result_rows == []
