"""E-mail through real mail servers: one that takes it, and ones that refuse, hang, trickle or hang up."""

import asyncio
import base64
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from tidegate_consumers.notify.address import Guard
from tidegate_consumers.notify.channel import Channel, Mailing
from tidegate_consumers.notify.delivery import Outcome
from tidegate_consumers.notify.mailbox import Mailbox
from tidegate_consumers.notify.parcel import Parcel

PASSWORD = "pl4nted-password"


class Desk:
    """What a mail server does with what it is given, as a test wants it."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.refused: set[str] = set()
        self.answer = "250 OK"

    async def handle_RCPT(  # noqa: N802 - as the server names it
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(envelope)
        return self.answer


def authenticated(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=is_right, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", directory / "key.pem", "-out", directory / "cert.pem", "-days", "2"),
            *("-subj", "/CN=mail.example.test", "-addext", "subjectAltName=DNS:mail.example.test"),
        ],
        check=True,
        capture_output=True,
    )
    return directory


@contextmanager
def serving(desk: Desk, **options: Any) -> Iterator[int]:
    controller = Controller(desk, hostname="127.0.0.1", port=0, **options)
    # Not its own `start`: that asks the port that it was given, which is none.
    thread = threading.Thread(target=controller.loop.run_forever, daemon=True)
    server = controller.loop.run_until_complete(
        controller.loop.create_server(controller._factory_invoker, "127.0.0.1", 0)
    )
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        controller.loop.call_soon_threadsafe(controller.loop.stop)
        thread.join()
        server.close()
        controller.loop.run_until_complete(server.wait_closed())
        controller.loop.close()


def channel(port: int, **mailing: Any) -> Channel:
    return Channel(
        name="desk",
        kind="email",
        url=f"smtp://mail.example.test:{port}",
        secrets=(PASSWORD,),
        own=True,
        mailing=Mailing(
            sender="tidegate@example.test",
            recipients=("a@example.test", "b@example.test"),
            **{"tls": "none", **mailing},
        ),
    )


async def here(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


def sent(to: Channel, alert: Any, timeout_s: float = 5, trust: ssl.SSLContext | None = None) -> Outcome:
    mailbox = Mailbox(to, guard=Guard(False, here, True), timeout_s=timeout_s, trust=trust)
    try:
        return asyncio.run(mailbox.tell(Parcel(records=(alert,))))
    finally:
        mailbox.close()


def test_a_mail_arrives_and_its_thread_is_the_alerts(alert: Any) -> None:
    desk = Desk()
    with serving(desk) as port:
        assert sent(channel(port), alert()).kind == "delivered"
        assert sent(channel(port), alert(status="resolved", sequence=4)).kind == "delivered"
    first, last = (message_from_bytes(bytes(one.content or b""), policy=SMTP) for one in desk.mails)
    assert desk.mails[0].mail_from == "tidegate@example.test"
    assert desk.mails[0].rcpt_tos == ["a@example.test", "b@example.test"]
    assert first["Subject"] == "[tidegate] CRITICAL: rolled_back of acme"
    assert last["Subject"] == "[tidegate] resolved: rolled_back of acme"
    assert first["Message-ID"] == "<00c0ffee00c0ffee-3@example.test>"
    assert first["References"] == last["References"] == "<00c0ffee00c0ffee@example.test>"
    assert "It was rolled back." in first.get_content()


def test_it_logs_in_only_under_tls_of_the_right_name(alert: Any, certificate: Path) -> None:
    desk = Desk()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trust = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    options = {"tls_context": context, "require_starttls": True, "authenticator": authenticated}
    with serving(desk, auth_required=True, **options) as port:
        to = channel(port, user="tidegate", tls="starttls")
        assert sent(to, alert(), trust=trust).kind == "delivered"
        other = replace(to, url=f"smtp://other.example.test:{port}")
        assert "certificate" in sent(other, alert(), trust=trust).words
        assert "certificate" in sent(to, alert()).words, "nobody we know has signed it"
        wrong = sent(replace(to, secrets=("another",)), alert(), trust=trust)
    assert (wrong.kind, wrong.words, wrong.passing) == ("failed", "answered 535", False)
    assert len(desk.mails) == 1


def test_a_server_without_starttls_gets_neither_password_nor_alert(alert: Any) -> None:
    desk = Desk()
    with serving(desk) as port:
        outcome = sent(channel(port, user="tidegate", tls="starttls"), alert())
    assert (outcome.kind, outcome.passing) == ("failed", False)
    assert "STARTTLS" in outcome.words
    assert not desk.mails


def test_one_recipient_that_is_refused_keeps_it_from_no_other(alert: Any) -> None:
    desk = Desk()
    with serving(desk) as port:
        desk.refused = {"a@example.test"}
        some = sent(channel(port), alert())
        desk.refused |= {"b@example.test"}
        none = sent(channel(port), alert())
    assert (some.kind, some.words) == ("delivered", "taken, but 1 of its recipients were refused")
    assert (none.kind, none.passing) == ("failed", False)
    assert len(desk.mails) == 1


@pytest.mark.parametrize(("answer", "passing"), [("451 try later", True), ("554 no", False)])
def test_what_the_server_does_not_take_is_not_delivered(alert: Any, answer: str, passing: bool) -> None:
    desk = Desk()
    desk.answer = answer
    with serving(desk) as port:
        outcome = sent(channel(port), alert())
    assert (outcome.kind, outcome.passing) == ("failed", passing)
    assert outcome.words == f"answered {answer[:3]}"


@contextmanager
def saying(*pieces: bytes, pause_s: float = 0.0, hang: bool = False) -> Iterator[int]:
    """A server that says pieces and hangs up, or says nothing more."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            for piece in pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return
                over.wait(pause_s)
            if hang:
                over.wait(20)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        over.set()
        thread.join()
        listening.close()


def test_a_server_that_says_nothing_is_given_up_in_time_and_its_thread_is_free(alert: Any) -> None:
    with saying(hang=True) as port:
        mailbox = Mailbox(channel(port), guard=Guard(False, here, True), timeout_s=0.4)
        outcome = asyncio.run(mailbox.tell(Parcel(records=(alert(),))))
        assert (outcome.words, outcome.passing) == ("no answer in 0.4 s", True)
        assert mailbox._threads.submit(lambda: "free").result(timeout=5) == "free"
        mailbox.close()


def test_a_server_that_trickles_is_given_up_in_time(alert: Any) -> None:
    with saying(*[b"220-x\r\n"] * 100, pause_s=0.05) as port:
        assert sent(channel(port), alert(), timeout_s=0.4).words == "no answer in 0.4 s"


@pytest.mark.parametrize(
    "pieces", [[], [b"HTTP/1.1 400 Bad Request\r\n"], [b"220 hello\r\n"], [b"\xff\x00\r\n"]]
)
def test_hanging_up_and_garbage_are_failures_and_the_password_is_not_told(
    alert: Any, pieces: list[bytes]
) -> None:
    with saying(*pieces) as port:
        outcome = sent(channel(port, user="tidegate"), alert())
    assert outcome.kind == "failed"
    assert PASSWORD not in outcome.words
    assert base64.b64encode(PASSWORD.encode()).decode() not in outcome.words


def test_a_server_in_a_private_network_is_not_called_unless_it_is_ones_own(alert: Any) -> None:
    async def metadata(_host: str, _port: int) -> list[str]:
        return ["169.254.169.254"]

    to = replace(channel(25), own=False)
    refused = asyncio.run(Mailbox(to, guard=Guard(False, here)).tell(Parcel(records=(alert(),))))
    assert "127.0.0.1, which is loopback" in refused.words
    own = Mailbox(to, guard=Guard(False, metadata, True))
    assert "a metadata service" in asyncio.run(own.tell(Parcel(records=(alert(),)))).words
