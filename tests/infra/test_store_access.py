"""Who may do what in the embedded store, and what nobody may."""

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError


def address(store: str) -> tuple[str, int]:
    host, port = store.removeprefix("http://").removesuffix("/default").split(":")
    return host, int(port)


def reader(store: str) -> Client:
    host, port = address(store)
    return clickhouse_connect.get_client(host=host, port=port, username="reader", dedicated_pool=True)


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


def test_of_all_rights_that_the_engine_knows_only_those_to_its_own_tables_are_granted(
    plain: httpx.Client,
) -> None:
    def ask(sql: str) -> str:
        return plain.post("/", content=sql).raise_for_status().text

    # Files, addresses, buckets, other servers: each is a right of its own, and new ones come with the engine.
    known = ask("SELECT privilege FROM system.privileges WHERE parent_group = 'ALL'").splitlines()
    assert {"FILE", "URL", "S3", "REMOTE", "READ", "WRITE", "SOURCES", "BACKUP", "ODBC"} <= set(known)
    assert {right for right in known if ask(f"CHECK GRANT {right} ON *.*") == "1\n"} == {
        *("SELECT", "INSERT", "ALTER", "TRUNCATE", "UNDROP TABLE", "OPTIMIZE", "CHECK"),
        *("SHOW", "SHOW FILESYSTEM CACHES", "KILL QUERY", "CLUSTER"),
    }
