"""Records and ranges that the tests of consumers write, and a receiver of webhooks."""

import base64
import secrets
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from pydantic import SecretStr
from uuid_utils import uuid7

from tidegate import codec
from tidegate.records import (
    Alert,
    Attribute,
    Content,
    DeploymentCommand,
    Feedback,
    Guardrail,
    KeyValue,
    LLMCall,
    Retrieval,
    Routing,
    Series,
    Silence,
    UsageOther,
    Weight,
)
from tidegate.topics import CALLS
from tidegate_infra.kafka.ranges import Range

# What several files of tests share stands in modules of its own beside them, found from the root.
sys.path.insert(0, str(Path(__file__).parents[2]))

APPENDED_MS = 1_760_000_010_000

Calls = Callable[..., LLMCall]
Ranges = Callable[..., Range]


def _call(**changes: Any) -> LLMCall:
    plain = LLMCall(
        event_id=str(uuid7()),
        ts_start=1_760_000_000_000_000,
        ts_end=1_760_000_001_250_000,
        tenant="acme",
        app="support",
        environment="prod",
        deployment="chat",
        variant="base",
        operation="chat",
        provider="openai",
        request_model="gpt-4o",
        status="ok",
        input_tokens=1_000,
        output_tokens=200,
    )
    return replace(plain, **changes)


def _full_call(**changes: Any) -> LLMCall:
    return _call(
        producer_id="9d3b1c5e-0000-4000-8000-000000000001",
        seq=7,
        ttft_us=200_000,
        queue_us=3,
        gateway_us=4,
        app_version="2.1",
        segment="eu",
        budget_keys=["team:x", "key:y"],
        session_id="s1",
        user_hash="u1",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        experiment="upgrade",
        assignment_unit="user",
        assignment_hash=-(2**63),
        assignment_reason="split",
        assignment_revision=3,
        response_model="gpt-4o-2024-08-06",
        temperature=0.5,
        prompt_name="answer",
        prompt_version="12",
        tools_called=["search", "search"],
        http_status=200,
        finish_reasons=["stop"],
        outcome="answered",
        cache_read_tokens=100,
        usage_other=[UsageOther(unit="web_searches", quantity=1.5)],
        reported_cost_usd=Decimal("0.000123456"),
        guardrails=[
            Guardrail(name="pii", stage="input", triggered=False, categories=["a", "b"], score=0.25),
            Guardrail(name="toxic", stage="output", action="block", triggered=True, duration_us=9),
        ],
        routing=Routing(router="r", query_words=4),
        retrieval=Retrieval(count=2, duration_us=50, doc_ids=["d1", "d2"]),
        content=Content(input="Why?", output="Because ü.", bytes=15, masked_count=1),
        training_allowed=True,
        sample_rate=0.25,
        tags=["x"],
        attributes=[Attribute(key="k", value="v"), Attribute(key="k2", value="")],
        **changes,
    )


def _feedback(*, resolved: bool = True, **changes: Any) -> Feedback:
    series = Series(
        app="support",
        environment="prod",
        deployment="chat",
        variant="base",
        operation="chat",
        provider="openai",
        request_model="gpt-4o",
        traffic="live",
        call_ts_end=1_760_000_001_250_000,
        assignment_revision=3,
        comparable=True,
    )
    plain = Feedback(
        event_id=str(uuid7()),
        ts=1_760_000_005_000_000,
        tenant="acme",
        name="helpful",
        target_event_id="0190a0b0-0000-7000-8000-000000000001",
        kind="thumbs",
        positive=False,
        given_by="user",
        comment="wrong",
        attributes=[Attribute(key="page", value="3")],
        series=series if resolved else None,
    )
    return replace(plain, **changes)


def _key(record: Any) -> bytes | None:
    match record:
        case LLMCall():
            return record.event_id.encode()
        case bytes():
            return b"poison"
        case _:
            return None


def _ranged(
    records: Iterable[Any],
    topic: str = CALLS,
    lo: int = 0,
    *,
    topic_id: str = "topic/id",
    partition: int = 3,
    redo: bool = False,
    headers: list[tuple[str, bytes]] | None = None,
    appended_ms: int = APPENDED_MS,
) -> Range:
    messages = [
        Message(
            topic=topic,
            partition=partition,
            offset=offset,
            key=_key(record),
            value=record if isinstance(record, bytes) else codec.encode(record),
            headers=headers,
            timestamp=(2, appended_ms),
        )
        for offset, record in enumerate(records, start=lo)
    ]
    return Range(
        topic=topic,
        topic_id=topic_id,
        partition=partition,
        lo=lo,
        hi=lo + len(messages) - 1,
        messages=messages,
        redo=redo,
        epoch=1,
    )


@pytest.fixture
def call() -> Calls:
    """A call with its required fields, and changes."""
    return _call


@pytest.fixture
def full_call() -> Calls:
    """A call with nearly every field set."""
    return _full_call


@pytest.fixture
def feedback() -> Callable[..., Feedback]:
    """Feedback on a call, with or without its series."""
    return _feedback


@pytest.fixture
def ranged() -> Ranges:
    """A range of records or raw bytes, as a consumer would hand it over."""
    return _ranged


@dataclass(frozen=True, slots=True)
class Post:
    """A request that came to the receiver."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Hooks:
    """A receiver of webhooks on loopback that answers what a test wants.

    Each request takes the next of `answers`, bytes as they are sent; when there are none left, `answer`. None
    says nothing until the test ends; a list is sent piece by piece, slowly.
    """

    def __init__(self) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.posts: list[Post] = []
        self.answers: list[bytes | list[bytes] | None] = []
        self.answer: bytes | list[bytes] | None = self.saying(204)
        self.over = threading.Event()
        hooks = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                path = self.rfile.readline().split()[1].decode()
                lines = iter(lambda: self.rfile.readline().decode().strip(), "")
                headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
                body = self.rfile.read(int(headers["content-length"]))
                hooks.posts.append(Post(path, headers, body))
                answer = hooks.answers.pop(0) if hooks.answers else hooks.answer
                match answer:
                    case None:
                        hooks.over.wait(30)
                    case bytes():
                        self.wfile.write(answer)
                    case list():
                        for piece in answer:
                            self.wfile.write(piece)
                            hooks.over.wait(0.05)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hung up is what some tests are about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self.server.server_address[1])
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @staticmethod
    def saying(status: int, **headers: str) -> bytes:
        lines = [f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items()]
        return f"HTTP/1.1 {status} So\r\n{''.join(lines)}content-length: 0\r\n\r\n".encode()

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "webhook_url": f"http://127.0.0.1:{self.port}/hooks/path-that-is-a-password",
            "webhook_secret": SecretStr(self.secret),
            "allow_private_webhooks": True,
        }

    @property
    def ids(self) -> list[str]:
        return [post.id for post in self.posts]

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """A receiver of webhooks."""
    with closing(Hooks()) as receiver:
        yield receiver


def _command(**changes: Any) -> DeploymentCommand:
    plain = DeploymentCommand(
        command_id=str(uuid7()),
        tenant="acme",
        environment="prod",
        deployment="chat",
        rollout="upgrade",
        generation=1,
        revision=4,
        previous_revision=3,
        action="rollback",
        state="rolling_back",
        step=1,
        assignment_unit="user",
        salt="s",
        weights=[
            Weight(variant="base", role="baseline", weight_bp=10_000),
            Weight(variant="new", role="candidate", weight_bp=0),
        ],
        reason="The candidate abstains more often.",
        actor="tidegate",
        actor_kind="controller",
        ts=1_760_000_010_000_000,
    )
    return replace(plain, **changes)


def _alert(**changes: Any) -> Alert:
    plain = Alert(
        fingerprint="00c0ffee00c0ffee",
        status="firing",
        rule="rolled_back",
        rule_hash="aa",
        severity="critical",
        labels=[KeyValue(key="tenant", value="acme")],
        annotations=[KeyValue(key="summary", value="It was rolled back.")],
        starts_at=1_760_000_010_000_000,
        sequence=3,
        tenant="acme",
        ts=1_760_000_010_000_000,
    )
    return replace(plain, **changes)


@pytest.fixture
def command() -> Callable[..., DeploymentCommand]:
    """A command with its required fields, and changes."""
    return _command


@pytest.fixture
def alert() -> Callable[..., Alert]:
    """An alert with its required fields, and changes."""
    return _alert


def _silence(**changes: Any) -> Silence:
    plain = Silence(
        silence_id="one",
        matchers=[KeyValue(key="rule", value="rolled_back"), KeyValue(key="tenant", value="acme")],
        starts_at=0,
        ends_at=10**16,
        actor="ada@desk",
        reason="planned",
        ts=0,
    )
    return replace(plain, **changes)


@pytest.fixture
def silence() -> Callable[..., Silence]:
    """A silence of the alerts that `alert` makes, and changes."""
    return _silence
