import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import clickhouse_connect
import httpx
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from tidegate_infra.clickhouse.client import connect
from tidegate_infra.settings import Settings
from tidegate_infra.store.codings import zstd

SLOW = "SELECT sum(sleepEachRow(0.05)) FROM numbers(1000) SETTINGS max_block_size = 1"


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


def address(store: str) -> tuple[str, int]:
    host, port = store.removeprefix("http://").removesuffix("/default").split(":")
    return host, int(port)


def reader(store: str) -> Client:
    host, port = address(store)
    return clickhouse_connect.get_client(host=host, port=port, username="reader", dedicated_pool=True)


def calls_table(client: Client) -> None:
    client.command("""
        CREATE TABLE calls
        (id Int64, app LowCardinality(String), at DateTime64(6, 'UTC'), cost Nullable(Decimal(18, 9)))
        ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 1000
    """)


# The unmodified client


def test_rows_come_back_as_they_were_inserted(client: Client) -> None:
    calls_table(client)
    rows = [
        (1, "a", datetime(2024, 1, 1, microsecond=5, tzinfo=UTC), None),
        (2, "ü", datetime(2024, 1, 2, tzinfo=UTC), Decimal("0.000000001")),
    ]

    assert client.insert("calls", rows, column_names=["id", "app", "at", "cost"]).written_rows == 2

    assert (
        client.query("SELECT * FROM calls ORDER BY id", query_tz="UTC", tz_mode="aware").result_rows == rows
    )


def test_arrow_goes_in_and_out(client: Client) -> None:
    calls_table(client)
    table = pa.table(
        {
            "id": pa.array(range(100_000)),
            "app": pa.array(["a", "b"] * 50_000).dictionary_encode(),
            "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 100_000, pa.timestamp("us", "UTC")),
            "cost": pa.array([None, Decimal("1.5")] * 50_000, pa.decimal128(18, 9)),
        }
    )

    assert client.insert_arrow("calls", table).written_rows == 100_000

    back = client.query_arrow("SELECT * FROM calls ORDER BY id", use_strings=True)
    assert back.column("id") == table.column("id")
    assert back.column("app").cast(pa.string()) == table.column("app").cast(pa.string())
    assert back.column("cost").cast(pa.decimal128(18, 9)) == table.column("cost")
    assert client.query_arrow("SELECT id FROM calls WHERE id < 0").num_rows == 0


@pytest.mark.parametrize(
    "value", ["it's", "a\\b\t\n\0", "ü", "'; DROP TABLE calls; --", "x" * 300_000, ""], ids=range(6)
)
def test_bound_text_arrives_as_it_is(client: Client, value: str) -> None:
    assert client.query("SELECT {value:String}", parameters={"value": value}).result_rows == [(value,)]


def test_an_insert_of_several_batches_is_one_block(client: Client) -> None:
    calls_table(client)
    batch = pa.table({"id": range(40_000), "app": ["a"] * 40_000})

    client.insert_arrow(
        "calls", pa.concat_tables([batch] * 3), settings={"insert_deduplication_token": "range"}
    )

    parts = "SELECT max(max_block_number) FROM system.parts WHERE database = {database:String} AND active"
    assert client.command("SELECT count() FROM calls") == 120_000
    assert client.command(parts, parameters={"database": client.database}) == 1


def test_bound_values_have_types(client: Client) -> None:
    result = client.query(
        "SELECT {n:Nullable(Int8)}, {a:Array(UInt8)}, toString({t:DateTime64(6, 'UTC')}), {k:UInt64}",
        parameters={"n": None, "a": [1, 2], "t": datetime(2024, 1, 1, 5, tzinfo=UTC), "k": 1},
    )
    assert result.result_rows == [(None, [1, 2], "2024-01-01 05:00:00.000000", 1)]


@pytest.mark.parametrize(
    ("sql", "code", "name"),
    [
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(number = 150000) FROM numbers(200000)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ],
)
def test_errors_have_clickhouse_codes_and_names(client: Client, sql: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError) as error:
        client.query(sql)

    assert (error.value.code, error.value.name) == (code, name)


def test_a_repeated_token_inserts_once(client: Client) -> None:
    calls_table(client)
    table = pa.table({"id": [1, 2], "app": ["a", "b"]})
    for _ in range(3):
        client.insert_arrow("calls", table, settings={"insert_deduplication_token": "range:0-1"})
    client.insert_arrow("calls", table, settings={"insert_deduplication_token": "range:2-3"})

    assert client.command("SELECT count() FROM calls") == 4


def test_an_insert_that_the_engine_could_not_write_is_no_success(client: Client) -> None:
    client.command(
        "CREATE TABLE picky (a UInt64, CONSTRAINT small CHECK a < 2) ENGINE = MergeTree ORDER BY a "
        "SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 0"
    )
    with pytest.raises(DatabaseError, match="is violated") as violated:
        client.insert_arrow("picky", pa.table({"a": pa.array([1, 2], pa.uint64())}))
    client.insert_arrow("picky", pa.table({"a": pa.array([1], pa.uint64())}))
    with pytest.raises(DatabaseError, match="Too many parts") as refused:
        client.insert_arrow("picky", pa.table({"a": pa.array([0], pa.uint64())}))
    assert (violated.value.code, refused.value.code) == (469, 252)
    assert client.query("SELECT a FROM picky").result_rows == [(1,)]


def test_a_large_answer_is_streamed(client: Client) -> None:
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(300000)") as blocks:
        sizes = [len(block) for block in blocks]

    assert sum(sizes) == 300_000
    assert len(sizes) > 1
    with client.query_arrow_stream("SELECT number FROM numbers(300000)") as batches:
        assert sum(batch.num_rows for batch in batches) == 300_000


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(client: Client) -> None:
    sql = "SELECT throwIf(number = 250000) FROM numbers(300000) SETTINGS max_block_size = 1000"
    with pytest.raises(StreamFailureError, match="non-zero"), client.query_row_block_stream(sql) as blocks:
        for _ in blocks:
            pass


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_each_compression_of_the_client_works_both_ways(
    store: str, settings: Settings, compress: str | bool
) -> None:
    connect(settings).command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
    host, port = address(store)
    database = settings.clickhouse.rpartition("/")[2]
    client = clickhouse_connect.get_client(host=host, port=port, database=database, compress=compress)

    client.insert("t", [[number] for number in range(20_000)], column_names=["a"])

    assert sum(row[0] for row in client.query("SELECT a FROM t").result_rows) == sum(range(20_000))
    client.close()


def test_settings_of_a_request_end_with_it(client: Client) -> None:
    assert client.command("SELECT getSetting('max_threads')", settings={"max_threads": 3}) == 3
    assert client.command("SELECT value FROM system.settings WHERE name = 'max_threads'") != "3"


# Plain HTTP


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


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_works_as_its_manual_says(store: str) -> None:
    command = ["curl", "-sS", store.removesuffix("default"), "-d", "SELECT number FROM numbers(3) FORMAT CSV"]

    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0\n1\n2\n"


# Who may do what


@pytest.mark.parametrize(
    "how",
    [
        {"auth": ("reader", "")},
        {"headers": {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": ""}},
        {"params": {"user": "reader", "password": ""}},
    ],
)
def test_the_reader_reads_and_changes_nothing(http: httpx.Client, how: dict[str, object]) -> None:
    assert http.post("/", content="CREATE TABLE t (a Int8) ENGINE = Memory").status_code == 200
    database = str(http.params["database"])
    params = {"database": database, **how.pop("params", {})}  # type: ignore[dict-item]

    def ask(sql: str) -> httpx.Response:
        return http.post("/", params=params, content=sql, **how)  # type: ignore[arg-type]

    assert ask("SELECT count() FROM t").text == "0\n"
    for change in (
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t FORMAT CSV 1",
        "DROP TABLE t",
        "KILL QUERY WHERE 1 = 0",
    ):
        assert ask(change).headers["X-ClickHouse-Exception-Code"] == "164", change
    assert ask("SELECT count() FROM t").text == "0\n"


READS_FILES = [
    "SELECT file('/etc/passwd')",
    "SELECT `f\\x69le`('/etc/passwd')",
    "SELECT * APPLY file FROM (SELECT '/etc/passwd')",
    "SELECT arrayMap(file, ['/etc/passwd'])",
    "SELECT file('/etc/passwd', 'nothing')",
    "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM default.`/etc/passwd`",
    "SELECT * FROM {table:Identifier}",
    "DESCRIBE file('/etc/passwd')",
    "DESCRIBE TABLE (SELECT * FROM file('/etc/passwd'))",
    "SELECT * FROM filesystem('/etc')",
    "SELECT * FROM eval('SELECT file(''/etc/passwd'')')",
    "SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1",
    "SELECT * FROM sqlite('/etc/passwd', 'x')",
    "SELECT * FROM executable('cat /etc/passwd', 'LineAsString', 'line String')",
    "SELECT * FROM Python(os)",
    "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString",
    "CREATE TABLE f (line String) ENGINE = File(LineAsString, '/etc/passwd')",
    "CREATE DATABASE f ENGINE = Filesystem('/etc')",
    "CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(FILE(path '/etc/passwd')) LAYOUT(FLAT())",
    "SELECT 'x' INTO OUTFILE 'written'",
    "INSERT INTO FUNCTION file('written', 'CSV', 'a Int8') SELECT 1",
    "BACKUP DATABASE default TO File('written')",
]
REACHES_OUT = [
    "SELECT * FROM url('http://127.0.0.1:{port}/ping', 'LineAsString')",
    "DESCRIBE url('http://127.0.0.1:{port}/ping')",
    "SELECT * FROM remote('127.0.0.1:{port}', system.one)",
    "SELECT * FROM mysql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM s3('http://127.0.0.1:{port}/bucket/key', 'CSV', 'a String')",
    "SELECT * FROM redis('127.0.0.1:{port}', 'k', 'k String')",
    "CREATE TABLE u (line String) ENGINE = URL('http://127.0.0.1:{port}/', LineAsString)",
]
HARMS_THE_STORE = [
    "SYSTEM SHUTDOWN",
    "SYSTEM KILL",
    "DROP DATABASE default",
    "RENAME DATABASE default TO elsewhere",
    "DETACH DATABASE default",
    "CREATE USER mallory",
    "GRANT ALL ON *.* TO default",
    "EXECUTE AS default SELECT 1",
    "SELECT 1; SELECT 2",
]


@pytest.mark.parametrize("user", ["reader", "default"])
@pytest.mark.parametrize("sql", READS_FILES + REACHES_OUT + HARMS_THE_STORE)
def test_nobody_reaches_beyond_the_tables_of_the_store(plain: httpx.Client, user: str, sql: str) -> None:
    table = {"param_table": "/etc/passwd"} if "{table:" in sql else {}
    statement = sql.replace("{port}", str(plain.base_url.port))

    refused = plain.post("/", content=statement, auth=(user, ""), params=table)

    assert refused.status_code >= 400, refused.text
    assert "root:" not in refused.text
    assert "X-ClickHouse-Exception-Code" in refused.headers
    assert plain.post("/", content="SELECT 1").text == "1\n"


@pytest.mark.parametrize(
    "settings_clause", ["readonly = 0", "max_memory_usage = 0", "max_execution_time = 0"]
)
def test_the_reader_cannot_lift_its_limits(store: str, settings_clause: str) -> None:
    with pytest.raises(DatabaseError, match="READONLY"):
        reader(store).query(f"SELECT 1 SETTINGS {settings_clause}")


def test_the_reader_may_shorten_its_time_and_not_lengthen_it(plain: httpx.Client) -> None:
    def ask(seconds: str) -> httpx.Response:
        sql = "SELECT getSetting('max_execution_time')"
        return plain.post("/", content=sql, auth=("reader", ""), params={"max_execution_time": seconds})

    assert ask("5").text == "5\n"
    assert ask("3600").headers["X-ClickHouse-Exception-Code"] == "164"


@pytest.mark.parametrize(
    ("auth", "status", "code"),
    [(("default", "wrong"), 403, "516"), (("nobody", ""), 401, "194"), (("reader", "wrong"), 403, "516")],
)
def test_strangers_and_wrong_passwords_are_refused(
    plain: httpx.Client, auth: tuple[str, str], status: int, code: str
) -> None:
    refused = plain.post("/", content="SELECT 1", auth=auth)

    assert (refused.status_code, refused.headers["X-ClickHouse-Exception-Code"]) == (status, code)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": ""},
        {"Host": "["},
        {"Host": "localhost.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_pages_of_other_sites_are_refused(plain: httpx.Client, headers: dict[str, str]) -> None:
    refused = plain.post("/", content="SELECT 1", headers=headers)

    assert refused.status_code == 403
    assert "its own machine only" in refused.text


# Many at once


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


def wait_for_count(plain: httpx.Client, query_id: str, count: int) -> None:
    sql = f"SELECT count() FROM system.processes WHERE startsWith(Settings['log_comment'], '{query_id}#')"
    deadline = time.monotonic() + 20
    while plain.post("/", content=sql).text != f"{count}\n":
        assert time.monotonic() < deadline, f"{query_id} was not seen {count} times"
        time.sleep(0.02)


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
        next(answer.iter_raw())
        wait_for_count(plain, "half-read", 1)
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
