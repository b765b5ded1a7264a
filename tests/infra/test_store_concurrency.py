"""Many at once in the embedded store: none waits for another, and who is gone is not served."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client

from tidegate_infra.clickhouse.client import connect
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.long

SLOW = "SELECT sum(sleepEachRow(0.05)) FROM numbers(1000) SETTINGS max_block_size = 1"


def test_a_long_query_delays_neither_ping_nor_other_queries(plain: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as other:
        long = other.submit(plain.post, "/", content=SLOW.replace("1000", "30"))
        time.sleep(0.2)
        begun = time.monotonic()
        assert plain.get("/ping").text == "Ok.\n"
        assert plain.post("/", content="SELECT 1").text == "1\n"
        assert time.monotonic() - begun < 1
        assert not long.done()
        assert long.result().text == "0\n"


def test_readers_beside_a_writer_see_whole_inserts_only(client: Client, settings: Settings) -> None:
    client.command("CREATE TABLE t (batch Int64, n Int64) ENGINE = MergeTree ORDER BY batch")
    written = threading.Event()

    def read() -> list[str]:
        mine, wrong = connect(settings, readonly=True), []
        while not written.is_set():
            torn = "SELECT batch FROM t GROUP BY batch HAVING count() != 1000 OR sum(n) != 499500"
            wrong += [str(row) for row in mine.query(torn).result_rows]
        return wrong

    with ThreadPoolExecutor(6) as others:
        readers = [others.submit(read) for _ in range(6)]
        for batch in range(40):
            client.insert_arrow("t", pa.table({"batch": [batch] * 1000, "n": range(1000)}))
        written.set()
        assert [reader.result() for reader in readers] == [[]] * 6
    assert client.command("SELECT count() FROM t") == 40_000


def wait_for_count(
    plain: httpx.Client, query_id: str, count: int, meanwhile: Callable[[], object] = lambda: time.sleep(0.02)
) -> None:
    sql = f"SELECT count() FROM system.processes WHERE startsWith(Settings['log_comment'], '{query_id}#')"
    deadline = time.monotonic() + 20
    while plain.post("/", content=sql).text != f"{count}\n":
        assert time.monotonic() < deadline, f"{query_id} was not seen {count} times"
        meanwhile()


def test_a_query_whose_client_is_gone_is_cancelled(plain: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as other, httpx.Client(base_url=plain.base_url, timeout=2) as impatient:
        given_up = other.submit(impatient.post, "/", params={"query_id": "abandoned"}, content=SLOW)
        wait_for_count(plain, "abandoned", 1)
        with pytest.raises(httpx.ReadTimeout):
            given_up.result()
    wait_for_count(plain, "abandoned", 0)


def test_a_stream_whose_client_is_gone_is_cancelled(plain: httpx.Client) -> None:
    sql = "SELECT number, repeat('x', 1000) FROM numbers(1000000000)"
    with plain.stream("POST", "/", params={"query_id": "half-read"}, content=sql) as answer:
        pieces = answer.iter_raw()
        # It is in the list while it works on the next piece, not while it waits for a reader.
        wait_for_count(plain, "half-read", 1, meanwhile=lambda: next(pieces))
    wait_for_count(plain, "half-read", 0)


def test_more_statements_than_threads_are_asked_to_come_again(plain: httpx.Client) -> None:
    sql = SLOW.replace("1000", "40")
    limits = httpx.Limits(max_connections=100)
    with (
        httpx.Client(base_url=plain.base_url, timeout=60, limits=limits) as many,
        ThreadPoolExecutor(80) as others,
    ):
        answers = [
            answer.result() for answer in [others.submit(many.post, "/", content=sql) for _ in range(80)]
        ]

    assert {answer.status_code for answer in answers} == {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.headers["X-ClickHouse-Exception-Code"] for answer in refused} == {"202"}
    assert len(refused) <= 16
    assert plain.post("/", content="SELECT 1").text == "1\n"
