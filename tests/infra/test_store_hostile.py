import gzip
import socket
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx
import lz4.frame  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate_infra.store.codings import zstd

PACK: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
ROWS = b"".join(b"%d\n" % number for number in range(50_000))


@pytest.fixture
def http(store: str) -> Iterator[httpx.Client]:
    """Whatever a test sent, the store answers afterwards."""
    with httpx.Client(base_url=store.removesuffix("default"), timeout=30, verify=False) as http:
        yield http
        assert http.post("/", content="SELECT 1").text == "1\n"


@pytest.fixture
def table(http: httpx.Client) -> Iterator[str]:
    name = "hostile_" + httpx.URL(str(http.base_url)).host.replace(".", "_") + str(id(http))
    http.post("/", content=f"CREATE TABLE {name} (a Int64) ENGINE = MergeTree ORDER BY a").raise_for_status()
    yield name
    http.post("/", content=f"DROP TABLE {name}").raise_for_status()


def count(http: httpx.Client, table: str) -> int:
    return int(http.post("/", content=f"SELECT count() FROM {table}").raise_for_status().text)


def talk(http: httpx.Client, request: bytes, *, finish: bool = True) -> bytes:
    """Send raw bytes and return what comes back before the store hangs up."""
    with socket.create_connection((http.base_url.host, http.base_url.port or 80), timeout=10) as wire:
        wire.sendall(request)
        if not finish:
            return b""
        wire.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize("coding", PACK)
def test_a_truncated_body_inserts_nothing(http: httpx.Client, table: str, coding: str) -> None:
    packed = PACK[coding](ROWS)
    for size in (len(packed) - 1, len(packed) // 2, 5):
        refused = http.post(
            "/",
            params={"query": f"INSERT INTO {table} FORMAT CSV"},
            content=packed[:size],
            headers={"Content-Encoding": coding},
        )
        assert refused.status_code == 500
        assert refused.headers["X-ClickHouse-Exception-Code"] in {"354", "561", "618"}
    assert count(http, table) == 0


@pytest.mark.parametrize(
    ("said", "packed"), [(said, packed) for said in PACK for packed in [*PACK, "plain"] if said != packed]
)
def test_a_body_that_is_not_what_its_header_says_inserts_nothing(
    http: httpx.Client, table: str, said: str, packed: str
) -> None:
    body = PACK[packed](ROWS) if packed in PACK else ROWS

    refused = http.post(
        "/",
        params={"query": f"INSERT INTO {table} FORMAT CSV"},
        content=body,
        headers={"Content-Encoding": said},
    )

    assert refused.headers["X-ClickHouse-Exception-Code"] in {"354", "561", "618"}
    assert count(http, table) == 0


@pytest.mark.parametrize("coding", ["br", "snappy", "lz4, gzip", "../../etc/passwd"])
def test_an_unknown_coding_is_named(http: httpx.Client, coding: str) -> None:
    refused = http.post("/", content=b"SELECT 1", headers={"Content-Encoding": coding})

    assert refused.status_code == 501
    assert coding in refused.text


def test_a_client_that_leaves_in_the_middle_of_its_body_inserts_nothing(
    http: httpx.Client, table: str
) -> None:
    query = quote(f"INSERT INTO {table} FORMAT CSV")
    head = f"POST /?query={query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(ROWS)}\r\n\r\n".encode()

    talk(http, head + ROWS[:1000], finish=False)
    talk(
        http,
        head.replace(b"Content-Length: %d" % len(ROWS), b"Transfer-Encoding: chunked") + b"3\r\n1\n2\r\n",
    )

    assert count(http, table) == 0


def test_rows_that_cannot_be_read_insert_nothing(http: httpx.Client, table: str) -> None:
    for data in (b"1\n2\nthree\n", b"1\n\x00\xff\xfe\n", b'1\n"2'):
        refused = http.post("/", params={"query": f"INSERT INTO {table} FORMAT CSV"}, content=data)
        assert refused.status_code in {400, 500}, refused.text
    for form in ("Native", "Arrow", "Parquet", "Avro", "RowBinary", "Protobuf"):
        refused = http.post(
            "/", params={"query": f"INSERT INTO {table} FORMAT {form}"}, content=b"\xff" * 5001
        )
        assert refused.status_code >= 400, (form, refused.text)
    assert count(http, table) == 0


def test_a_bomb_is_refused_before_it_is_unpacked(http: httpx.Client) -> None:
    bomb = gzip.compress(b"SELECT 1 -- " + bytes(100 << 20), compresslevel=1)

    refused = http.post("/", content=bomb, headers={"Content-Encoding": "gzip"})

    assert refused.status_code == 413
    assert "longer than 4 MiB" in refused.text


def test_a_statement_of_many_megabytes_is_refused(http: httpx.Client) -> None:
    refused = http.post("/", content=b"SELECT " + b"1," * (10 << 20) + b"1")

    assert (refused.status_code, refused.headers["X-ClickHouse-Exception-Code"]) == (413, "229")


@pytest.mark.parametrize(
    "sql",
    [
        b"",
        b";",
        b"-- nothing",
        b"\xff\xfe\x00",
        b"SELECT " + b"(" * 100_000 + b"1" + b")" * 100_000,
        b"SELECT 1" + b"+1" * 20_000,
        b"SELECT '" + b"\\" * 99_999,
        b"INSERT INTO nowhere FORMAT Nothing\n1",
        b"SELECT 1 FORMAT Nothing",
        b"SELECT * FROM numbers(1e12) ORDER BY rand() SETTINGS max_memory_usage = 10000000",
        b"SELECT repeat('x', 1000000000000)",
    ],
    ids=range(11),
)
def test_statements_that_make_no_sense_are_answered_with_an_error(http: httpx.Client, sql: bytes) -> None:
    refused = http.post("/", content=sql)

    assert refused.status_code >= 400
    assert refused.text.startswith("Code: ")


@pytest.mark.parametrize(
    "params",
    [
        {"nonsense": "1"},
        {"max_threads": "many"},
        {"max_threads": "1', readonly = '0"},
        {"`, readonly": "0"},
        {"max_threads` = 1, `readonly": "0"},
        {"": "1"},
        {"readonly": "no"},
        {"database": "nowhere"},
        {"database": "default`; DROP TABLE x; --"},
        {"default_format": "Nothing"},
        {"param_x": "not a number"},
        {"compress": "1"},
        {"decompress": "1"},
        {"query_id": "a\r\nX-Injected: 1"},
        {"query_id": "x" * 201},
        {"profile": "nobody"},
    ],
    ids=str,
)
def test_a_wrong_parameter_is_an_error_and_no_header_or_setting_is_smuggled(
    http: httpx.Client, params: dict[str, str]
) -> None:
    refused = http.post(
        "/", params=params, content=b"SELECT {x:UInt8}" if "param_x" in params else b"SELECT 1"
    )

    assert refused.status_code >= 400, refused.text
    assert "X-Injected" not in refused.headers


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /?query=" + b"x" * (2 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Long: " + b"x" * (2 << 20) + b"\r\n\r\n",
    ],
    ids=range(8),
)
def test_what_is_no_http_is_refused(http: httpx.Client, request_bytes: bytes) -> None:
    try:
        answer = talk(http, request_bytes)
    except OSError:
        return
    assert answer == b"" or answer.split(maxsplit=2)[1].startswith((b"4", b"5"))


@pytest.mark.parametrize("path", ["/play", "/../etc/passwd", "/ping/x"])
def test_there_are_no_other_pages(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code in {403, 404, 421}


def test_other_methods_are_refused(http: httpx.Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert http.request(method, "/", params={"query": "SELECT 1"}).status_code == 405


@pytest.mark.parametrize(
    "authorization", ["Basic", "Basic !!!", "Basic /w==", "Bearer token", "Basic " + "A" * 10_000]
)
def test_broken_credentials_are_refused_or_ignored_and_never_let_in_as_somebody(
    http: httpx.Client, authorization: str
) -> None:
    answer = http.post("/", content=b"SELECT currentUser()", headers={"Authorization": authorization})

    assert answer.status_code in {401, 403} or (
        authorization.startswith("Bearer") and answer.status_code == 200
    )


def test_files_beside_a_query_are_refused_in_words(http: httpx.Client) -> None:
    refused = http.post("/", data={"query": "SELECT 1"}, files={"outside": b"1\n"})

    assert refused.status_code == 501
    assert "external data (outside)" in refused.text


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_broken_form_is_an_error(http: httpx.Client, content_type: str) -> None:
    refused = http.post("/", content=b"--x\r\n\r\n", headers={"Content-Type": content_type})

    assert refused.status_code >= 400


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.one_of(
        st.binary(max_size=60), st.sampled_from([b"SELECT 1 ", b"INSERT INTO nowhere FORMAT CSV "])
    ),
    body=st.binary(max_size=200),
    headers=st.dictionaries(
        st.sampled_from(
            ["Content-Encoding", "Accept-Encoding", "X-ClickHouse-Format", "X-ClickHouse-Database"]
        ),
        st.text("abcgiplz4std,;q=0 ", max_size=12).map(str.strip),
        max_size=3,
    ),
)
def test_noise_is_answered(http: httpx.Client, query: bytes, body: bytes, headers: dict[str, str]) -> None:
    answer = http.post(f"/?enable_http_compression=1&query={quote(query)}", content=body, headers=headers)

    assert answer.status_code == 200 or answer.text.startswith("Code: ")
