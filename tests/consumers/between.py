"""A proxy before the store that knows requests and answers, and does with them what a test wants."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Reply:
    """An answer; `sent` bytes of its body are sent, which says that it has them all."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


@dataclass(frozen=True)
class Ask:
    """A request, which `forward` sends on."""

    sql: str
    forward: Callable[[], Reply]

    @property
    def inserts(self) -> bool:
        return self.sql.lstrip().upper().startswith("INSERT")


Fault = Callable[[Ask], Reply | None]
"""What comes back; None ends the connection without a word."""


def honest(ask: Ask) -> Reply:
    """Let the store answer."""
    return ask.forward()


_TOO_MANY = b"Code: 252. DB::Exception: Too many parts (3001). Merges are too slow. (TOO_MANY_PARTS)\n"
_REFUSED = b"Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)\n"


def refuses_the_user(_ask: Ask) -> Reply:
    return Reply(403, _REFUSED, {"X-ClickHouse-Exception-Code": "516"})


def has_too_many_parts(_ask: Ask) -> Reply:
    return Reply(500, _TOO_MANY, {"X-ClickHouse-Exception-Code": "252"})


def is_busy(_ask: Ask) -> Reply:
    return Reply(503, b"upstream connect error\n")


def hangs_up(_ask: Ask) -> None:
    return None


def does_it_and_hangs_up(ask: Ask) -> None:
    ask.forward()


def does_it_and_says_that_it_failed(ask: Ask) -> Reply:
    ask.forward()
    return Reply(500, b"Code: 209. DB::Exception: Timeout exceeded. (SOCKET_TIMEOUT)\n")


def says_200_with_an_exception_in_the_header(_ask: Ask) -> Reply:
    return Reply(200, b"", {"X-ClickHouse-Exception-Code": "252"})


def says_200_with_an_exception_in_the_body(_ask: Ask) -> Reply:
    return Reply(200, _TOO_MANY)


def says_200_and_nothing(_ask: Ask) -> Reply:
    return Reply(200)


def cuts_its_answer(ask: Ask) -> Reply:
    whole = ask.forward()
    return Reply(whole.status, whole.body + b" ", whole.headers, sent=len(whole.body) // 2)


def answers_less_than_there_is(ask: Ask) -> Reply:
    whole = ask.forward()
    return Reply(whole.status, whole.body[: len(whole.body) // 2], whole.headers)


FAULTS: list[Fault] = [
    refuses_the_user,
    has_too_many_parts,
    is_busy,
    hangs_up,
    does_it_and_hangs_up,
    does_it_and_says_that_it_failed,
    says_200_with_an_exception_in_the_header,
    says_200_with_an_exception_in_the_body,
    says_200_and_nothing,
    cuts_its_answer,
    answers_less_than_there_is,
]


def on_inserts(fault: Fault) -> Fault:
    """Let only inserts meet it."""
    return lambda ask: (fault if ask.inserts else honest)(ask)


class Between:
    """The proxy.

    Parameters
    ----------
    target
        Address of the store.

    Attributes
    ----------
    fault
        What happens to requests from now on.
    """

    def __init__(self, target: str) -> None:
        self.fault: Fault = honest
        proxy, store = self, urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                said = parse_qs(urlsplit(self.path).query).get("query", [""])[0]

                def forward() -> Reply:
                    connection = HTTPConnection(store.hostname or "", store.port, timeout=60)
                    try:
                        connection.request(self.command, self.path, body, dict(self.headers.items()))
                        answer = connection.getresponse()
                        kept = {
                            name: text
                            for name, text in answer.getheaders()
                            if name.lower().startswith("x-clickhouse") or name.lower() == "content-encoding"
                        }
                        return Reply(answer.status, answer.read(), kept)
                    finally:
                        connection.close()

                reply = proxy.fault(Ask(said or body[:4_096].decode(errors="replace"), forward))
                self.close_connection = True
                if reply is None:
                    return
                self.send_response(reply.status)
                for name, text in reply.headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(reply.body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(reply.body[: reply.sent])

            do_GET = do_POST  # noqa: N815  # as its base class names them

            def log_message(self, *_words: object) -> None:
                """Say nothing: what went wrong was wanted."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A store that is away, or a client that has given up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}{store.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
