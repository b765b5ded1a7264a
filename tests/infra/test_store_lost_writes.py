"""The engine passes over writes that fail. Nothing that was answered may be lost by that, nor be unreadable.

A limit on the size of files makes writes fail as a full disk does, and takes no mount.
"""

import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from tidegate.errors import DependencyUnavailable
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup
from tidegate_infra.store.directory import StoreDirectory

TABLE = """CREATE TABLE calls (id Int64, body String) ENGINE = MergeTree ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000"""
SET_ASIDE = "SELECT reason, level FROM system.detached_parts WHERE table = 'calls' ORDER BY level"
SUM = "SELECT count(), uniqExact(id), sum(length(body)) FROM calls"
BODY_BYTES = 100
LIMIT_BYTES = 300_000

Start = Callable[[], program.Program]


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """A store of this test alone."""
    address = f"http://127.0.0.1:{ports.free_port()}/own"
    return Settings(clickhouse=address, data_dir=tmp_path, health_port=ports.free_port())


@pytest.fixture
def start(process_group: ProcessGroup, tmp_path: Path, own: Settings) -> Iterator[Start]:
    started = []

    def start() -> program.Program:
        started.append(program.start("store", own, group=process_group, log=tmp_path / "log"))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for store in started:
        store.kill()


def rows(first: int, count: int) -> pa.Table:
    bodies = [
        random.Random(number).randbytes(BODY_BYTES // 2).hex() for number in range(first, first + count)
    ]
    return pa.table({"id": range(first, first + count), "body": bodies})


def limit_files(store: program.Program, size: int) -> None:
    resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_what_a_failed_write_spoils_is_set_aside_and_all_that_was_answered_stands(
    start: Start, own: Settings
) -> None:
    store = start()
    client = connect(own)
    client.command(TABLE)
    client.command("SYSTEM STOP MERGES calls")
    for block in range(4):
        client.insert_arrow("calls", rows(block * 1000, 1000))
    limit_files(store, LIMIT_BYTES)
    with pytest.raises(ClickHouseError, match="could not write"):
        client.insert_arrow("calls", rows(4000, 5000), settings={"insert_deduplication_token": "spoilt"})
    # Nor is anything else answered: it might be read from what will be set aside.
    with pytest.raises((ClickHouseError, OSError)):
        client.command("SELECT 1")
    assert store.process.wait(10) == DependencyUnavailable.exit_code
    assert "could not write" in store.last_words()

    store = start()
    client = connect(own)
    assert client.query(SUM).first_row == (4000, 4000, 4000 * BODY_BYTES)
    assert client.query(SET_ASIDE).result_rows == [("broken-on-start", 0)]
    client.insert_arrow("calls", rows(4000, 5000), settings={"insert_deduplication_token": "again"})

    limit_files(store, LIMIT_BYTES)
    with pytest.raises((ClickHouseError, OSError)):
        client.command("OPTIMIZE TABLE calls FINAL")
    assert store.process.wait(10) == DependencyUnavailable.exit_code

    store = start()
    client = connect(own)
    assert client.query(SUM).first_row == (9000, 9000, 9000 * BODY_BYTES)
    assert client.query(SET_ASIDE).result_rows == [("broken-on-start", 0), ("broken-on-start", 1)]
    assert store.log.read_text().count("part_set_aside") == 3
    client.command("OPTIMIZE TABLE calls FINAL")
    assert client.query(SUM).first_row == (9000, 9000, 9000 * BODY_BYTES)


def test_no_engine_is_opened_on_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(DependencyUnavailable, match=r"has 0 MiB left .*: make room"):
        StoreDirectory(tmp_path / "store").prepare(8123)
    assert list((tmp_path / "store").rglob("*")) == [tmp_path / "store" / "engine"]
