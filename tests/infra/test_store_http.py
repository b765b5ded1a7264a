"""The embedded store over plain HTTP, as curl and business tools speak it."""

import json
import subprocess
from collections.abc import Callable

import httpx

from tidegate_infra.store.codings import zstd


def test_ping_needs_no_user(store: str) -> None:
    answer = httpx.get(store.removesuffix("default") + "ping", auth=("nobody", "wrong"))

    assert (answer.status_code, answer.text) == (200, "Ok.\n")


def test_the_statement_may_stand_in_the_url_or_in_the_body_or_in_both(plain: httpx.Client) -> None:
    assert plain.get("/", params={"query": "SELECT 1"}).text == "1\n"
    assert plain.post("/", content="SELECT 1").text == "1\n"
    assert plain.post("/", params={"query": "SELECT 1,"}, content="2").text == "1\t2\n"


def test_data_may_follow_the_statement_or_be_the_body(http: httpx.Client) -> None:
    http.post("/", content="CREATE TABLE t (a Int64, b String) ENGINE = MergeTree ORDER BY a")

    assert http.post("/", content='INSERT INTO t FORMAT JSONEachRow {"a": 1, "b": "x"}').status_code == 200
    assert (
        http.post("/", params={"query": "INSERT INTO t (a) FORMAT CSV"}, content="2\n3\n").status_code == 200
    )
    assert http.post("/", content="INSERT INTO t VALUES (4, upper('y')), (5, 'z')").status_code == 200
    assert http.post("/", content="INSERT INTO t SELECT number + 6, '' FROM numbers(2)").status_code == 200
    assert http.post("/", params={"query": "INSERT INTO t FORMAT CSV"}).status_code == 200

    assert (
        http.post("/", content="SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)").text
        == "[1,2,3,4,5,6,7]\n"
    )


def test_parameters_also_name_the_table_of_an_insert(http: httpx.Client) -> None:
    http.post("/", content="CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")

    done = http.post(
        "/", params={"query": "INSERT INTO {t:Identifier} FORMAT CSV", "param_t": "t"}, content="1\n"
    )

    assert done.status_code == 200, done.text
    assert http.post("/", content="SELECT count() FROM t").text == "1\n"


def test_headers_tell_what_happened(http: httpx.Client) -> None:
    http.post("/", content="CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
    insert = http.post(
        "/", params={"query": "INSERT INTO t FORMAT CSV", "query_id": "mine"}, content="1\n2\n"
    )
    select = http.post("/", params={"wait_end_of_query": 1}, content="SELECT * FROM t FORMAT jsoncompact")

    assert insert.headers["X-ClickHouse-Query-Id"] == "mine"
    assert json.loads(insert.headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    assert "X-ClickHouse-Format" not in insert.headers
    assert json.loads(select.headers["X-ClickHouse-Summary"])["read_rows"] == "2"
    assert select.headers["X-ClickHouse-Format"] == "JSONCompact"
    assert select.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert select.headers["X-ClickHouse-Timezone"] == "UTC"
    assert select.json()["data"] == [["1"], ["2"]] or select.json()["data"] == [[1], [2]]


def test_the_default_format_can_be_asked_for(plain: httpx.Client) -> None:
    assert plain.post("/", params={"default_format": "CSV"}, content="SELECT 'a'").text == '"a"\n'
    assert plain.post("/", headers={"X-ClickHouse-Format": "CSV"}, content="SELECT 'a'").text == '"a"\n'


def test_answers_are_packed_only_when_asked(plain: httpx.Client) -> None:
    sql = "SELECT number FROM numbers(5000)"
    unpacked = plain.post("/", content=sql, headers={"Accept-Encoding": "gzip"})
    packed = plain.post(
        "/", content=sql, headers={"Accept-Encoding": "gzip"}, params={"enable_http_compression": 1}
    )

    assert "Content-Encoding" not in unpacked.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.text == unpacked.text


def test_a_get_only_reads(plain: httpx.Client) -> None:
    refused = plain.get("/", params={"query": "CREATE TABLE t (a Int8) ENGINE = Memory"})

    assert (refused.status_code, refused.headers["X-ClickHouse-Exception-Code"]) == (500, "164")


def test_what_would_need_a_session_is_refused_in_words(plain: httpx.Client) -> None:
    refused = plain.post("/", params={"session_id": "s"}, content="SET max_threads = 1")

    assert refused.status_code == 501
    assert "keeps no sessions" in refused.text


def test_curl_works_as_its_manual_says(store: str, installed: Callable[[str, str], str]) -> None:
    command = [installed("curl", "curl"), "-sS", store.removesuffix("default")]
    command += ["-d", "SELECT number FROM numbers(3) FORMAT CSV"]

    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0\n1\n2\n"


def test_a_body_may_be_packed_with_zstd_by_any_client(http: httpx.Client) -> None:
    http.post("/", content="CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")

    packed = zstd.compress(b"1\n2\n3\n")
    http.post(
        "/",
        params={"query": "INSERT INTO t FORMAT CSV"},
        content=packed,
        headers={"Content-Encoding": "zstd"},
    )

    assert http.post("/", content="SELECT sum(a) FROM t").text == "6\n"
