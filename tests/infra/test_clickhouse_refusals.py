"""What becomes of a ClickHouse that answers and does not serve."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from tidegate.errors import ConfigError, DependencyUnavailable
from tidegate_infra.clickhouse.client import connect, reason
from tidegate_infra.settings import Settings


@contextmanager
def answering(status: int, code: int, words: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"Code: {code}. DB::Exception: {words}".encode()
            self.send_response(status)
            self.send_header("X-ClickHouse-Exception-Code", str(code))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tidegate"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "words", "expected"),
    [
        (500, 202, "Too many simultaneous queries", DependencyUnavailable),
        (500, 241, "Memory limit exceeded", DependencyUnavailable),
        (404, 81, "Database tidegate does not exist", ConfigError),
        (401, 516, "Authentication failed", ConfigError),
    ],
)
def test_what_may_pass_is_waited_for_and_what_will_not_is_a_wrong_setting(
    status: int, code: int, words: str, expected: type[Exception]
) -> None:
    with answering(status, code, words) as address, pytest.raises(expected):
        connect(Settings(clickhouse=address))


def test_a_lost_connection_is_told_without_its_address_and_a_refusal_in_clickhouse_own_words() -> None:
    pool = "Error HTTPConnectionPool(host='127.0.0.1', port=1): Max retries exceeded with url: /?query_id=7"
    lost = OperationalError(f"{pool} (Caused by: refused)")
    lost.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert reason(lost) == "Connection refused"
    assert reason(OperationalError(f"{pool}: Read timed out.")) == "Read timed out."
    refused = "Code: 241. DB::Exception: Memory limit exceeded: would use 9 GiB"
    assert reason(DatabaseError(refused)) == refused
