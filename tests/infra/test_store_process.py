import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from pydantic import SecretStr

from tidegate.errors import ConfigError, DependencyUnavailable, Refused
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup
from tidegate_infra.store.directory import StoreDirectory
from tidegate_infra.store.process import accounts, listen

TABLE = """CREATE TABLE IF NOT EXISTS calls (id Int64, app String) ENGINE = MergeTree ORDER BY id
SETTINGS non_replicated_deduplication_window = 1000"""

Start = Callable[..., program.Program]


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """A store of this test alone."""
    return Settings(
        clickhouse=f"http://127.0.0.1:{ports.free_port()}/own",
        data_dir=tmp_path,
        health_port=ports.free_port(),
    )


@pytest.fixture
def start(process_group: ProcessGroup, tmp_path: Path, own: Settings) -> Iterator[Start]:
    started = []

    def start(settings: Settings = own) -> program.Program:
        started.append(program.start("store", settings, group=process_group, log=tmp_path / "log"))
        return started[-1]

    yield start
    for store in started:
        store.kill()


def refusal(store: program.Program) -> str:
    """The one line with which a store does not start."""
    with pytest.raises(DependencyUnavailable):
        store.wait_until_ready()
    lines = [line for line in store.log.read_text().splitlines() if not line.startswith("20")]
    assert len(lines) == 1, lines
    return lines[0]


def rows(first: int, count: int) -> pa.Table:
    return pa.table({"id": range(first, first + count), "app": ["a"] * count})


@pytest.mark.long
def test_rows_outlive_an_orderly_end(start: Start, own: Settings) -> None:
    store = start()
    store.wait_until_ready()
    client = connect(own)
    client.command(TABLE)
    client.insert_arrow("calls", rows(0, 1000))

    store.process.send_signal(signal.SIGTERM)
    assert store.process.wait(10) == 0
    assert not (own.data_dir / "store" / "port").exists()

    start().wait_until_ready()
    assert connect(own).command("SELECT count() FROM calls") == 1000


@pytest.mark.long
def test_an_orderly_end_does_not_wait_for_long_queries(start: Start, own: Settings) -> None:
    store = start()
    store.wait_until_ready()
    with httpx.Client(base_url=own.clickhouse.removesuffix("own"), timeout=30) as http:
        sql = (
            "SELECT sleepEachRow(0.01), repeat('x', 10000) FROM numbers(1000000) SETTINGS max_block_size = 1"
        )
        with http.stream("POST", "/", content=sql):
            begun = time.monotonic()
            store.process.send_signal(signal.SIGTERM)
            assert store.process.wait(15) == 0
            assert time.monotonic() - begun < 5


@pytest.mark.long
def test_an_orderly_end_does_not_wait_for_a_client_that_stopped_in_the_middle_of_its_body(
    start: Start, own: Settings
) -> None:
    store = start()
    store.wait_until_ready()
    connect(own).command(TABLE)
    with socket.create_connection(("127.0.0.1", httpx.URL(own.clickhouse).port)) as wire:
        path = "/?database=own&query=INSERT%20INTO%20calls%20FORMAT%20CSV"
        wire.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n1,a\n".encode())
        time.sleep(0.5)
        store.process.send_signal(signal.SIGTERM)
        assert store.process.wait(10) == 0

    start().wait_until_ready()
    assert connect(own).command("SELECT count() FROM calls") == 0


def test_kill_9_loses_no_answered_insert_and_no_deduplication_token(start: Start, own: Settings) -> None:
    for life in range(2):
        store = start()
        store.wait_until_ready()
        client = connect(own)
        client.command(TABLE)
        for block in range(life * 5, life * 5 + 5):
            client.insert_arrow(
                "calls", rows(block * 100, 100), settings={"insert_deduplication_token": f"b{block}"}
            )
        # Every earlier block once more, as after a lost answer.
        for block in range(life * 5 + 5):
            client.insert_arrow(
                "calls", rows(block * 100, 100), settings={"insert_deduplication_token": f"b{block}"}
            )
        assert client.query("SELECT count(), uniqExact(id) FROM calls").first_row == (
            (life + 1) * 500,
            (life + 1) * 500,
        )
        store.kill()


@pytest.mark.long
def test_kill_9_in_the_middle_of_inserts_leaves_whole_blocks(start: Start, own: Settings) -> None:
    store = start()
    store.wait_until_ready()
    connect(own).command(TABLE)
    with httpx.Client(base_url=own.clickhouse.removesuffix("own"), timeout=30) as http:
        body = "".join(f"{number},a\n" for number in range(200_000))
        params = {
            "database": "own",
            "query": "INSERT INTO calls FORMAT CSV",
            "insert_deduplication_token": "one",
        }

        def slowly() -> Iterator[bytes]:
            yield body[: len(body) // 2].encode()
            store.kill()
            yield body[len(body) // 2 :].encode()

        with pytest.raises(httpx.TransportError):
            http.post("/", params=params, content=slowly())

    start().wait_until_ready()
    client = connect(own)
    assert client.command("SELECT count() FROM calls") == 0
    with httpx.Client(base_url=own.clickhouse.removesuffix("own"), timeout=30) as http:
        assert http.post("/", params=params, content=body.encode()).status_code == 200
    assert client.command("SELECT count() FROM calls") == 200_000


def test_port_0_takes_a_free_one_and_the_directory_says_which(start: Start, own: Settings) -> None:
    start(own.model_copy(update={"clickhouse": "http://127.0.0.1:0/own"})).wait_until_ready()

    port = int((own.data_dir / "store" / "port").read_text())

    assert httpx.get(f"http://127.0.0.1:{port}/ping").text == "Ok.\n"


def test_a_port_in_use_is_one_line_that_says_what_to_do(start: Start, own: Settings) -> None:
    port = httpx.URL(own.clickhouse).port
    with socket.create_server(("127.0.0.1", port)):
        words = refusal(start())

    assert words == (
        f"store: the store cannot listen on 127.0.0.1:{port} (Address already in use): "
        "stop what listens there, or let TIDEGATE_CLICKHOUSE name another port"
    )


@pytest.mark.long
def test_a_directory_that_another_store_has_open_is_refused(start: Start, own: Settings) -> None:
    first = start()
    first.wait_until_ready()
    elsewhere = {"clickhouse": f"http://127.0.0.1:{ports.free_port()}/own", "health_port": ports.free_port()}
    second = start(own.model_copy(update=elsewhere))

    with pytest.raises(DependencyUnavailable, match=f"is open in process {first.pid}: stop it"):
        second.wait_until_ready()
    assert second.process.returncode == 5
    assert connect(own).command("SELECT 1") == 1


def test_a_half_deleted_directory_is_refused_and_not_taken_for_an_empty_one(
    start: Start, own: Settings, tmp_path: Path
) -> None:
    store = start()
    store.wait_until_ready()
    client = connect(own)
    client.command(TABLE)
    client.command("CREATE MATERIALIZED VIEW ids ENGINE = MergeTree ORDER BY id AS SELECT id FROM calls")
    client.insert_arrow("calls", rows(0, 10))
    uuid = str(client.command("SELECT uuid FROM system.tables WHERE database = 'own' AND name = 'calls'"))
    store.stop()

    def without(part: str) -> StoreDirectory:
        copy = tmp_path / f"without {part.replace('/', ' ')}"
        shutil.copytree(own.data_dir / "store", copy, symlinks=True)
        if part != "nothing":
            shutil.rmtree(copy / "engine" / part)
        return StoreDirectory(copy)

    without("nothing").prepare(8123)
    for part, what in {
        "metadata": "metadata/default.sql is missing beside data, store",
        "store": "the tables of database own are missing",
        f"store/{uuid[:3]}/{uuid}": "the rows of table own.calls are missing",
    }.items():
        with pytest.raises(ConfigError) as refused:
            without(part).prepare(8123)
        assert what in str(refused.value)
        assert "restore it from a backup, or remove it to start empty" in str(refused.value)


def test_a_directory_that_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(ConfigError, match=r"the store cannot use .*: Not a directory"):
        StoreDirectory(tmp_path / "store").prepare(8123)
    with pytest.raises(ConfigError, match=r"must not contain \? or &"):
        StoreDirectory(tmp_path / "a&b").prepare(8123)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_other_machines_are_not_served_without_a_password(own: Settings, host: str) -> None:
    with pytest.raises(Refused, match="without a password"):
        listen(own.model_copy(update={"clickhouse": own.clickhouse.replace("127.0.0.1", host)}))


def test_a_store_does_not_pretend_to_speak_tls(own: Settings) -> None:
    with pytest.raises(ConfigError, match="speaks plain HTTP only"):
        listen(own.model_copy(update={"clickhouse": own.clickhouse.replace("http:", "https:")}))


def test_with_passwords_only_who_knows_one_is_served_and_they_stand_nowhere(
    start: Start, own: Settings
) -> None:
    passwords = {
        "clickhouse_password": SecretStr("op3n s&same"),
        "clickhouse_reader_password": SecretStr("pl3ase"),
    }
    secured = own.model_copy(update={"clickhouse_user": "writer", **passwords})
    start(
        secured.model_copy(update={"clickhouse": own.clickhouse.replace("127.0.0.1", "0.0.0.0")})
    ).wait_until_ready()

    connect(secured).command(TABLE)
    with httpx.Client(base_url=own.clickhouse.removesuffix("own"), params={"database": "own"}) as http:
        assert http.post("/", content="SELECT count() FROM calls", auth=("reader", "pl3ase")).text == "0\n"
        refused = http.post("/", content="DROP TABLE calls", auth=("reader", "pl3ase"))
        assert refused.headers["X-ClickHouse-Exception-Code"] == "164"
        for auth in (None, ("default", ""), ("reader", ""), ("writer", ""), ("reader", "op3n s&same")):
            assert http.post("/", content="SELECT 1", auth=auth).status_code in {401, 403}
    texts = {path: path.read_bytes() for path in own.data_dir.rglob("*") if path.is_file()}
    assert [path for path, text in texts.items() if b"op3n" in text or b"pl3ase" in text] == []


@pytest.mark.parametrize(("readers", "names"), [("", ["default"]), ("other", ["default", "reader"])])
def test_beside_a_writer_with_a_password_there_is_no_reader_without_one(
    own: Settings, readers: str, names: list[str]
) -> None:
    passwords = {"clickhouse_password": SecretStr("one"), "clickhouse_reader_password": SecretStr(readers)}

    assert [account.name for account in accounts(own.model_copy(update=passwords))] == names
