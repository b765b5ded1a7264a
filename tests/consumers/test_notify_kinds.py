"""What each kind of receivers is sent, whatever stands in an alert: within what the receiver publishes."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook
from tests.consumers.receivers import RULES

from tidegate.records import Alert, KeyValue
from tidegate_consumers.notify.channel import Channel, Mailing
from tidegate_consumers.notify.kinds import KINDS, alertmanager
from tidegate_consumers.notify.mailbox import mail
from tidegate_consumers.notify.notice import address, block, line, notice_of
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "R" * 32
CHANNEL = Channel(name="x", kind="slack", url="https://example.test/x", secrets=(KEY,))
MAILING = Channel(
    name="mail",
    kind="email",
    url="smtp://127.0.0.1:25",
    mailing=Mailing(sender="tidegate@example.test", recipients=("a@example.test", "b@example.test")),
)

# Labels and texts are other people's: long, in every script, with signs that channels read as their own.
SIGNS = 'aé更🔴<>&|[]()*_`@!#\r\n\t\0\u2028\x85 :"\\'
URLS = (None, "https://example.test/" + "r" * 900, "javascript:alert(1)", "https://example.test/<!channel>")
words = st.builds(str.__mul__, st.text(SIGNS, max_size=12), st.sampled_from([1, 1, 700]))


def _alert_of(seed: int, text: str, status: str) -> Alert:
    rng = random.Random(f"{seed}{text}")

    def some() -> str:
        return rng.choice(
            [text, "", "".join(rng.choices(SIGNS, k=rng.randint(1, 30))) * rng.choice([1, 300])]
        )

    def pairs() -> list[KeyValue]:
        return [KeyValue(key=some(), value=some()) for _ in range(rng.choice([0, 3, 40]))]

    said = [KeyValue(key="summary", value=some()), KeyValue(key="description", value=some())]
    return Alert(
        fingerprint=f"{rng.getrandbits(64):016x}",
        status=status,
        rule=some() or "rule",
        rule_hash="a",
        severity=rng.choice(["critical", "error", "warning", "info", "odd"]),
        labels=pairs(),
        annotations=said + pairs(),
        starts_at=rng.randrange(10**16),
        ends_at=rng.choice([None, rng.randrange(10**16)]) if status == "resolved" else None,
        value=rng.choice([None, 1.5, float("nan"), float("inf")]),
        threshold=rng.choice([None, 0.0]),
        unit=rng.choice([None, some()]),
        runbook_url=rng.choice(URLS),
        generator_url=rng.choice(URLS),
        sequence=rng.randint(1, 10**9),
        tenant=some(),
        ts=1,
        dry_run=rng.random() < 0.5,
    )


def _parcel_of(seed: int, text: str, status: str, size: int) -> Parcel:
    records = tuple(_alert_of(seed + i, text, status) for i in range(size))
    return Parcel(records=records, group="feedfacefeedface" * (size > 1), left=3)


parcels = st.builds(
    _parcel_of,
    st.integers(0, 2**32),
    words,
    st.sampled_from(["firing", "resolved"]),
    st.sampled_from([1, 1, 8]),
)
quick = settings(max_examples=30, deadline=None)


def sent(kind: str, parcel: Parcel, channel: Channel = CHANNEL) -> list[Request]:
    make = KINDS[kind].requests
    assert make is not None
    return list(make(replace(channel, kind=kind), parcel, NOW))


@pytest.mark.parametrize("kind", ["slack", "pagerduty", "alertmanager", "teams"])
@quick
@given(parcel=parcels)
def test_whatever_an_alert_says_a_receiver_takes_it(kind: str, parcel: Parcel) -> None:
    check, _, _ = RULES[kind]
    for request in sent(kind, parcel):
        assert check(dict(request.headers), request.body) == ""


@quick
@given(parcels)
def test_an_alertmanager_is_told_every_member_and_an_end_to_come_while_it_fires(parcel: Parcel) -> None:
    [request] = sent("alertmanager", parcel, replace(CHANNEL, url="https://example.test/am/"))
    assert request.url == "https://example.test/am/api/v2/alerts"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    for one, alert in zip(json.loads(request.body), parcel.alerts, strict=True):
        assert one["labels"]["tidegate_fingerprint"] == alert.fingerprint
        assert (datetime.fromisoformat(one["endsAt"]) > NOW) or alert.ends_at is not None


@quick
@given(parcels)
def test_a_mail_has_one_subject_and_no_header_that_a_label_wrote(parcel: Parcel) -> None:
    message = mail(MAILING, parcel, NOW)
    read = message_from_bytes(message.as_bytes(), policy=SMTP)
    assert set(read.keys()) == {
        *("Subject", "From", "To", "Date", "Message-ID", "References", "Auto-Submitted"),
        *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
    }
    assert len(read.get_all("Subject") or []) == 1
    assert read["To"] == "a@example.test, b@example.test"
    assert all(len(row) <= 998 for row in message.as_bytes().split(b"\r\n"))


def test_a_label_with_a_line_break_writes_no_header(alert: Any) -> None:
    evil = alert(rule="x\r\nBcc: eve@example.test", tenant="t\nX-Evil: 1", fingerprint="a\r\nBcc: b")
    raw = mail(MAILING, Parcel(records=(evil,)), NOW).as_bytes()
    assert b"\nBcc:" not in raw
    assert b"\nX-Evil:" not in raw


@quick
@given(words)
def test_lines_are_one_line_and_blocks_are_printable(text: str) -> None:
    assert line(text).isprintable()
    assert all(row.isprintable() for row in block(text).split("\n"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.test/a", "https://example.test/a"),
        ("javascript:alert(1)", ""),
        ("https://example.test/a|b", ""),
        ("https://example.test/a b", ""),
        ("https://пример.test/", ""),
        (None, ""),
    ],
)
def test_a_link_is_shown_only_if_it_is_plain_http(url: str | None, shown: str) -> None:
    assert address(url) == shown


def test_every_incident_opens_and_closes_under_one_key(alert: Any) -> None:
    fire = json.loads(sent("pagerduty", Parcel(records=(alert(),)))[0].body)
    over = alert(status="resolved", sequence=4, ends_at=1_760_000_020_000_000)
    end = json.loads(sent("pagerduty", Parcel(records=(over,)))[0].body)
    assert (fire["event_action"], end["event_action"]) == ("trigger", "resolve")
    assert fire["dedup_key"] == end["dedup_key"] == "00c0ffee00c0ffee"


def test_a_group_is_one_incident_that_closes_with_its_last_member(alert: Any) -> None:
    def told(status: str, left: int, *, assumed: bool = False) -> list[tuple[str, str]]:
        members = tuple(alert(status=status, fingerprint=f"{i:016x}") for i in range(7))
        parcel = Parcel(records=members, group="feedfacefeedface", left=left, assumed=assumed)
        bodies = [json.loads(request.body) for request in sent("pagerduty", parcel)]
        return [(body["event_action"], body["dedup_key"]) for body in bodies]

    assert told("firing", 7) == [("trigger", "feedfacefeedface")]
    assert told("resolved", 3) == []
    assert told("resolved", 0) == [("resolve", "feedfacefeedface")]
    # After a restart it is not known how they were told: every way is closed.
    assert len(told("resolved", 0, assumed=True)) == 8


def test_a_group_is_told_with_its_number_and_the_first_of_its_members(alert: Any) -> None:
    many = tuple(alert(fingerprint=f"{i:016x}", rule="no_traffic") for i in range(10_000))
    notice = notice_of(Parcel(records=many, group="feedfacefeedface", left=10_000))
    assert notice.title == "CRITICAL: 10,000 alerts, no_traffic of acme"
    assert notice.text[1] == "and 9,990 more: tidegate alert list"
    later = notice_of(Parcel(records=many[:1], group="feedfacefeedface", left=10_001))
    assert later.title == "CRITICAL: 1 alert, 10,001 in all, no_traffic of acme"


def test_both_secrets_sign_while_they_are_exchanged(hooks: Any, alert: Any) -> None:
    other = "whsec_" + "A" * 32
    [request] = sent("webhook", Parcel(records=(alert(),)), replace(CHANNEL, secrets=(hooks.secret, other)))
    for secret in (hooks.secret, other):
        # The library looks at the clock: the moment of signing has to be now.
        signed = Webhook(secret).sign(request.headers["webhook-id"], NOW, request.body.decode())
        assert signed in request.headers["webhook-signature"].split(" ")


@pytest.mark.parametrize(
    ("kind", "status", "body", "is_believed"),
    [
        ("slack", 200, b"ok", True),
        ("slack", 200, b"<html>Log in</html>", False),
        ("slack", 200, b"", False),
        ("pagerduty", 202, b'{"status": "success", "message": "Event processed"}', True),
        ("pagerduty", 200, b'{"status": "success"}', False),
        ("pagerduty", 202, b"[]", False),
        ("pagerduty", 202, b"\xff", False),
        ("alertmanager", 200, b"", True),
        ("alertmanager", 200, b"welcome", False),
        ("alertmanager", 204, b"", False),
        ("teams", 202, b"", True),
        ("teams", 200, b"1", True),
        ("teams", 200, b"Webhook message delivery failed with error: HTTP error 429", False),
    ],
)
def test_success_is_believed_only_in_the_words_of_the_receiver(
    alert: Any, kind: str, status: int, body: bytes, is_believed: bool
) -> None:
    [request] = sent(kind, Parcel(records=(alert(),)))
    assert (request.doubt(status, body) == "") == is_believed


def test_a_command_is_told_to_people_in_words(command: Any) -> None:
    notice = notice_of(Parcel(records=(command(dry_run=True),)))
    assert notice.title == "dry run: rollback: prod/chat of acme"
    assert notice.text == ("The candidate abstains more often.",)
    assert ("weights", "base 100%, new 0%") in notice.facts
    assert alertmanager.label_name("0-a.b") == "_0_a_b"
