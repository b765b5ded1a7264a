"""One attempt against receivers of every kind, and addresses that must not be called."""

import asyncio
import json
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from tidegate.errors import ConfigError
from tidegate_consumers.notify.address import AddressRefused, Guard, fault
from tidegate_consumers.notify.channel import of_settings
from tidegate_consumers.notify.delivery import Endpoint, Outcome, seconds_asked
from tidegate_consumers.notify.kinds.webhook import request
from tidegate_consumers.notify.message import Message, message_of
from tidegate_infra.settings import Settings

MESSAGE = Message(id="one", type="alert", body='{"type":"alert","timestamp":"","data":{}}')
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def post(endpoint: Endpoint, message: Message = MESSAGE) -> Outcome:
    return asyncio.run(endpoint.post(request(endpoint.channel, message, datetime.now(UTC))))


def to(hooks: Any, guard: Guard | None = None, **settings: Any) -> Endpoint:
    return Endpoint(of_settings(Settings(**hooks.settings | settings)), guard=guard)


def reached(hooks: Any, **changes: Any) -> Endpoint:
    channel = of_settings(Settings(**hooks.settings))
    return Endpoint(channel, timeout_s=changes.pop("timeout_s", 5), **changes)


def resolving(*addresses: str) -> Callable[[str, int], Any]:
    async def look_up(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return look_up


def test_what_is_posted_verifies_with_the_library_and_only_unchanged(hooks: Any, command: Any) -> None:
    message = message_of(command(reason="Größer – 更多"))
    assert post(reached(hooks), message).kind == "delivered"
    [got] = hooks.posts
    assert Webhook(hooks.secret).verify(got.body, got.headers) == json.loads(message.body)
    assert got.headers["webhook-id"] == message.id
    assert got.headers["content-type"] == "application/json"
    assert got.path == "/hooks/path-that-is-a-password"
    with pytest.raises(WebhookVerificationError):
        Webhook(hooks.secret).verify(got.body.replace(b"acme", b"evil"), got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(hooks.secret).verify(got.body, got.headers | {"webhook-id": "another"})


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_signatures_hold_wherever_the_process_runs(
    hooks: Any, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        post(reached(hooks))
    finally:
        monkeypatch.undo()
        time.tzset()
    Webhook(hooks.secret).verify(hooks.posts[0].body, hooks.posts[0].headers)


@pytest.mark.parametrize(
    ("status", "kind", "passing"),
    [
        (200, "delivered", False),
        (202, "delivered", False),
        (204, "delivered", False),
        (301, "failed", False),
        (400, "failed", False),
        (401, "failed", False),
        (404, "failed", False),
        (410, "gone", False),
        (429, "failed", False),
        (500, "failed", True),
        (503, "failed", True),
    ],
)
def test_the_status_alone_decides(hooks: Any, status: int, kind: str, passing: bool) -> None:
    hooks.answer = hooks.saying(status)
    outcome = post(reached(hooks))
    assert (outcome.kind, outcome.passing) == (kind, passing)
    assert str(status) in outcome.words


def test_a_redirect_is_not_followed(hooks: Any) -> None:
    hooks.answer = hooks.saying(307, location=f"http://127.0.0.1:{hooks.port}/elsewhere")
    assert "not followed" in post(reached(hooks)).words
    assert len(hooks.posts) == 1


def test_a_throttled_sender_is_told_how_long(hooks: Any) -> None:
    hooks.answer = hooks.saying(429, retry_after="7")
    assert post(reached(hooks)).asked_s == 7
    until = datetime.now(UTC) + timedelta(seconds=60)
    hooks.answer = hooks.saying(503, retry_after=until.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    outcome = post(reached(hooks))
    assert 50 < outcome.asked_s <= 60
    assert not outcome.passing


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("120", 120),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("9" * 5_000, 0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 01:01:00 +0100", 60),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
        ("Thu, 99 Jan 99999999999999999999 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_and_nonsense_is_nothing(
    text: str | None, seconds: float
) -> None:
    assert seconds_asked(text, NOW) == seconds


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "hung up"),
        (b"HTTP/1.1 20", "hung up"),
        (b"HTTP/1.1 500 So\r\ncontent-le", "hung up"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
        (b"\x00\xff" * 1_000, "no HTTP"),
        (b"HTTP/1.1 abc So\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 So\r\nx: " + b"y" * 2_000_000, "no HTTP"),
    ],
)
def test_garbage_and_half_answers_are_failures_that_may_pass(hooks: Any, answer: bytes, words: str) -> None:
    hooks.answer = answer
    outcome = post(reached(hooks))
    assert (outcome.kind, outcome.passing) == ("failed", True)
    assert words in outcome.words or outcome.words.startswith("not reached")
    assert len(outcome.words) < 300


def test_after_a_success_the_body_may_break_off(hooks: Any) -> None:
    hooks.answer = b"HTTP/1.1 200 So\r\ncontent-length: 100\r\n\r\nhalf"
    assert post(reached(hooks)).kind == "delivered"


def test_a_receiver_that_hangs_is_given_up_in_time(hooks: Any) -> None:
    hooks.answer = None
    outcome = post(reached(hooks, timeout_s=0.3))
    assert (outcome.words, outcome.passing) == ("no answer in 0.3 s", True)


def test_a_receiver_that_trickles_is_given_up_in_time(hooks: Any) -> None:
    hooks.answer = [b"HTTP/1.1 200 So\r\n"] + [b"x: y\r\n"] * 100
    assert post(reached(hooks, timeout_s=0.4)).words == "no answer in 0.4 s"


def test_a_closed_port_is_a_failure_that_may_pass_and_keeps_the_path_to_itself(hooks: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/path-that-is-a-password"
        outcome = post(to(hooks, webhook_url=url))
    assert (outcome.kind, outcome.passing) == ("failed", True)
    assert "password" not in outcome.words


def test_neither_path_nor_secret_nor_signature_is_logged(
    hooks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        post(reached(hooks))
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "password" not in said
    assert hooks.secret[6:] not in said
    assert hooks.posts[0].headers["webhook-signature"] not in said


@pytest.mark.parametrize("secret", ["whsec_a", "whsec_", "whsec_ä"])
def test_a_secret_that_cannot_sign_is_refused_without_being_quoted(hooks: Any, secret: str) -> None:
    with pytest.raises(ConfigError, match="TIDEGATE_WEBHOOK_SECRET should be whsec_") as refused:
        to(hooks, webhook_secret=SecretStr(secret))
    assert secret not in str(refused.value).replace("whsec_ and", "")


def test_the_host_is_named_and_the_checked_address_is_called(hooks: Any) -> None:
    asked = []

    async def look_up(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    url = f"http://hooks.example.invalid:{hooks.port}/x?y=1"
    endpoint = to(hooks, Guard(True, look_up), webhook_url=url)
    assert post(endpoint).kind == "delivered"
    assert asked == [("hooks.example.invalid", hooks.port)]
    assert hooks.posts[0].headers["host"] == f"hooks.example.invalid:{hooks.port}"
    assert hooks.posts[0].path == "/x?y=1"


def test_another_address_of_the_name_is_tried_when_the_first_is_closed(hooks: Any) -> None:
    assert post(reached(hooks, guard=Guard(True, resolving("::1", "127.0.0.1")))).kind == "delivered"


def test_a_name_with_one_private_address_is_not_called_at_all(hooks: Any) -> None:
    guard = Guard(False, resolving("127.0.0.1", "8.8.8.8"))
    outcome = post(reached(hooks, guard=guard))
    assert (outcome.kind, outcome.passing) == ("failed", False)
    assert "127.0.0.1, which is loopback" in outcome.words
    assert not hooks.posts


def test_a_name_that_turns_private_after_it_was_checked_leads_nowhere(hooks: Any) -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]])

    async def look_up(_host: str, _port: int) -> list[str]:
        return next(answers)

    endpoint = reached(hooks, guard=Guard(False, look_up), timeout_s=0.5)
    asyncio.run(endpoint.addresses())
    outcomes = [post(endpoint), post(endpoint)]
    assert all("127.0.0.1, which is loopback" in outcome.words for outcome in outcomes)
    assert not hooks.posts


def test_ones_own_network_may_be_allowed_without_the_services_that_hand_out_keys() -> None:
    def asked(*addresses: str) -> list[str]:
        return asyncio.run(Guard(False, resolving(*addresses), allow_own=True).addresses("x", 443))

    assert asked("10.1.2.3", "127.0.0.1", "fd00::1") == ["10.1.2.3", "127.0.0.1", "fd00::1"]
    for metadata in ("169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200"):
        with pytest.raises(AddressRefused, match="a metadata service"):
            asked(metadata)
    for other in ("169.254.1.1", "224.0.0.1", "0.0.0.0", "2002:7f00:1::"):
        with pytest.raises(AddressRefused):
            asked("10.1.2.3", other)


def test_a_name_that_nobody_answers_holds_up_no_other_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    real = socket.getaddrinfo

    def hanging(host: Any, *rest: Any, **options: Any) -> Any:
        if host == "slow.example.test":
            over.wait(20)
        return real("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)

    async def ask() -> list[str]:
        slow, quick = Guard(True), Guard(True)
        waiting = [asyncio.ensure_future(slow.addresses("slow.example.test", 1)) for _ in range(100)]
        try:
            async with asyncio.timeout(5):
                return await quick.addresses("quick.example.test", 1)
        finally:
            over.set()
            await asyncio.gather(*waiting)

    assert asyncio.run(ask()) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "224.0.0.1",
        "255.255.255.255",
        "１２７.0.0.1",
    ],
)
def test_no_spelling_of_a_private_address_gets_through(hooks: Any, host: str) -> None:
    url = f"https://{host}:{hooks.port}/"
    with pytest.raises((AddressRefused, ConfigError)):
        asyncio.run(to(hooks, webhook_url=url, allow_private_webhooks=False).addresses())


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_may_be_called(address: str) -> None:
    assert fault(address) == ""


def test_a_receiver_on_the_internet_must_speak_https(hooks: Any) -> None:
    with pytest.raises(ConfigError, match="https://"):
        to(hooks, allow_private_webhooks=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of hooks.example.test, which signs itself."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", directory / "key.pem", "-out", directory / "cert.pem", "-days", "2"),
            *("-subj", "/CN=hooks.example.test", "-addext", "subjectAltName=DNS:hooks.example.test"),
        ],
        check=True,
        capture_output=True,
    )
    return directory


@pytest.mark.parametrize(
    ("host", "kind"), [("hooks.example.test", "delivered"), ("other.example.test", "failed")]
)
def test_the_certificate_must_be_the_names_not_the_addresss(
    hooks: Any, certificate: Path, host: str, kind: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    named: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    hooks.server.socket = context.wrap_socket(
        hooks.server.socket, server_side=True, do_handshake_on_connect=False
    )
    url = f"https://{host}:{hooks.port}/"
    endpoint = Endpoint(
        of_settings(Settings(**hooks.settings | {"webhook_url": url})),
        guard=Guard(True, resolving("127.0.0.1")),
        trust=ssl.create_default_context(cafile=str(certificate / "cert.pem")),
    )
    outcome = post(endpoint)
    assert outcome.kind == kind, outcome.words
    assert named == [host]
