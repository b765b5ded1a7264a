"""A receiver of webhooks that believes nothing unsigned: what a team would run at the other end."""

import base64
import secrets
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

_MOST_BYTES = 100_000


@dataclass(slots=True)
class Deliveries:
    """What came in: verified payloads by webhook id, and how many requests failed verification."""

    verified: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: int = 0
    refused: int = 0


class Receiver:
    """Listens on a free port of loopback and checks each signature (Standard Webhooks 1.0).

    Use it as a context manager. `deliveries` holds what came; an id that comes twice is one delivery.
    """

    def __init__(self) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.deliveries = Deliveries()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._server.server_port}/hooks/tidegate"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        webhook, deliveries, lock = Webhook(self.secret), self.deliveries, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(min(int(self.headers.get("content-length", 0)), _MOST_BYTES))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with lock:
                    deliveries.requests += 1
                    try:
                        payload = webhook.verify(body, headers)
                    except WebhookVerificationError:
                        deliveries.refused += 1
                        status = 401
                    else:
                        deliveries.verified[headers["webhook-id"]] = payload
                        status = 204
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 - the base class's
                return

        return Handler
