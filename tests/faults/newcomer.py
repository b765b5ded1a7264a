"""A producer that joins with a schema of its own, and the registry that knows it."""

import copy
import io
import json
import struct
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from fastavro import parse_schema, schemaless_writer

from tidegate import versions
from tidegate.records import LLMCall

Change = Literal["newer", "older", "reordered", "incompatible", "unregistered"]

REFUSED: dict[Change, str] = dict.fromkeys(("incompatible", "unregistered"), "unknown_schema")
"""Change -> the reason for which such calls are dead letters; those of other changes count."""

_UNREGISTERED = 999_999


def changed(how: Change) -> dict[str, Any]:
    """Return the schema of calls as a producer of another release, or of another team, has it."""
    source = copy.deepcopy(versions.latest(LLMCall).source)
    fields = source["fields"]
    match how:
        case "newer":
            fields.insert(3, {"name": "weather", "type": ["null", "string"], "default": None})
            fields.append({"name": "rating", "type": "long", "default": 0})
        case "older":
            source["fields"] = [
                field for field in fields if field["name"] not in ("prompt_version", "stream")
            ]
        case "reordered":
            # Named types are written out where they come first: only fields of plain types may move.
            source["fields"] = [*reversed(fields[:9]), *fields[9:]]
        case "incompatible":
            field = next(field for field in fields if field["name"] == "input_tokens")
            field["type"] = "string"
            del field["default"]
        case "unregistered":
            pass
    return source


def written(call: LLMCall, how: Change, schema_id: int) -> bytes:
    """Return a call in Confluent framing, in a changed schema."""
    values = asdict(call) | {"weather": "fair", "rating": 5}
    if how == "incompatible":
        values["input_tokens"] = "a few"
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(versions.plain_times(changed(how))), values)
    return b"\x00" + struct.pack(">I", schema_id) + out.getvalue()


class Registry:
    """A schema registry that answers what readers ask, and can be away.

    Use it as a context manager.
    """

    def __init__(self) -> None:
        self.is_away = False
        self._schemas: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def register(self, how: Change) -> int:
        """Return the id of a changed schema."""
        if how == "unregistered":
            return _UNREGISTERED
        self._schemas.append(json.dumps(changed(how)))
        return len(self._schemas)

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
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = int(self.path.partition("?")[0].rpartition("/")[2])
                if registry.is_away:
                    self._say(503, {"error_code": 50003, "message": "away"})
                elif asked <= len(registry._schemas):
                    self._say(200, {"schema": registry._schemas[asked - 1]})
                else:
                    self._say(404, {"error_code": 40403, "message": "Schema not found"})

            def _say(self, status: int, what: dict[str, Any]) -> None:
                body = json.dumps(what).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
                return

        return Handler
