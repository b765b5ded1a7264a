"""Which lines of a file go out under a tenant that nobody named, in memory."""

import io
import json
from typing import Any

from tidegate.client import configuration
from tidegate.client.client import Client
from tidegate.client.transport import MemoryTransport
from tidegate_infra.cli import emit

RATING = {
    "type": "feedback", "ts": 7, "name": "helpful", "kind": "thumbs", "given_by": "user",
    "target_event_id": "019ca94e-fd00-7000-8000-5f6fdb5b3a01",
}  # fmt: skip


def test_ratings_that_look_for_their_call_under_an_assumed_tenant_are_counted() -> None:
    settings = {"app": "chat", "environment": "prod", "kafka": "memory:0"}
    client = Client(configuration.read(settings, environ={}), make_transport=MemoryTransport)
    of_session = {**RATING, "target_event_id": None, "target_session_id": "s"}
    ratings: list[dict[str, Any]] = [RATING, {**RATING, "tenant": "acme"}, of_session, {**RATING, "ts": 9}]
    lines = io.BytesIO("\n".join(map(json.dumps, ratings)).encode())
    try:
        assert emit._send(client, lines, "ratings.jsonl") == (9, 2)
        assert client.flush(5)
    finally:
        client.shutdown(1)
    assert client.counts.delivered == 4
