"""Files of channels: what is right becomes a channel, what is wrong is named with its place, all at once."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.file import FileError, load, parse
from tidegate_consumers.notify.kinds import KINDS
from tidegate_infra.settings import Settings

HEAD = "apiVersion: tidegate/v1\nkind: Channels\nchannels:\n"
MAIL = "{type: email, server: s, from: a@b, to: c@d"
KEY = "R0UT1NGK3Y" * 3 + "AB"


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_URL", "https://hooks.slack.example/services/T0/B0/pl4nted")
    monkeypatch.setenv("PAGERDUTY_KEY", KEY)


def read(text: str, tmp_path: Path = Path(), **settings: Any) -> dict[str, Channel]:
    return {one.name: one for one in parse(HEAD + text, "channels.yaml", tmp_path, Settings(**settings))}


def problems(text: str) -> list[str]:
    with pytest.raises(FileError) as refused:
        parse(text, "channels.yaml", Path(), Settings())
    return str(refused.value).splitlines()


def test_a_channel_is_told_what_it_asks_for(alert: Any, command: Any) -> None:
    found = read(
        "  team:\n    type: slack\n    url: {env: SLACK_URL}\n    commands: true\n"
        "    alerts: {severity: [critical, error], tenant: acme, labels: {environment: [prod, stage]}}\n"
        "  pager:\n    type: pagerduty\n    routingKey: {env: PAGERDUTY_KEY}\n"
    )
    from tidegate.records import KeyValue

    prod = [KeyValue(key="environment", value="prod")]
    team = found["team"].wants
    assert team.include(alert(labels=prod))
    assert team.include(command())
    assert not team.include(alert(labels=prod, severity="info"))
    assert not team.include(alert(labels=prod, tenant="other"))
    assert not team.include(alert())
    pager = found["pager"].wants
    assert pager.include(alert())
    assert not pager.include(alert(dry_run=True)), "what changes nothing pages nobody"
    assert not pager.include(command())


def test_secrets_come_from_variables_and_files_and_are_not_shown(tmp_path: Path) -> None:
    Path(tmp_path, "key").write_text("whsec_" + "A" * 32 + "\n")
    found = read(
        "  team: {type: slack, url: {env: SLACK_URL}}\n"
        "  hook:\n    type: webhook\n    url: https://hooks.example/x\n"
        "    secret: [{file: key}, {value: whsec_BBBB}]\n"
        "  desk: {type: email, server: smtp.example, from: a@b.example, to: c@d.example}\n",
        tmp_path,
    )
    assert found["team"].url == "https://hooks.slack.example/services/T0/B0/pl4nted"
    assert found["team"].shown == "https://hooks.slack.example/…"
    assert found["hook"].secrets == ("whsec_" + "A" * 32, "whsec_BBBB")
    assert found["desk"].url == "smtp://smtp.example"
    assert replace(found["team"], url="http://u:pl4nted@[::1]:8080/x?y").shown == "http://[::1]:8080/…"
    assert "pl4nted" not in repr(found)
    assert "whsec_" not in repr(found)


def test_every_mistake_is_named_at_once_with_its_place_and_without_a_secret() -> None:
    found = problems(
        "apiVersion: tidegate/v2\n"
        "kind: Channel\n"
        "channels:\n"
        "  Team!: {type: slak}\n"
        "  a:\n"
        "    type: slack\n"
        "    url: https://hooks.slack.example/hunter2\n"
        "  b:\n"
        "    type: pagerduty\n"
        "    routingKey: {value: hunter2}\n"
        "    commands: true\n"
        "    alerts: {severity: [fatal], tenants: x}\n"
        "  c: {type: webhook, url: 'http://hooks.example/x', secret: {env: NO_SUCH_VARIABLE}}\n"
        "  d: {type: email, server: 'smtp.example:0', from: 'A <a@b>', to: [], user: u, tls: no}\n"
        "  e: {type: alertmanager, token: {file: /no/such/file}, groupWait: 1h}\n"
        "  webhook: {type: teams, url: {value: 'ftp://x'}, alerts: false, colour: red}\n"
    )
    places = [line.split(": ", 2)[:2] for line in found]
    assert places == sorted(places, key=lambda place: [int(n) for n in place[0].split(":")[1:]])
    said = "\n".join(found)
    for expected in (
        "channels.yaml:1:13: apiVersion: 'tidegate/v2' is not known: did you mean tidegate/v1?",
        "channels.yaml:2:7: kind: 'Channel' is not known: did you mean Channels?",
        "channels.yaml:4:17: channels.Team!.type: 'slak' is not known: did you mean slack?",
        "channels.yaml:7:10: channels.a.url: a secret in clear",
        "channels.yaml:10:17: channels.b.routingKey: is no routing key",
        "channels.yaml:11:5: channels.b.commands: pagerduty takes alerts only",
        "channels.yaml:12:25: channels.b.alerts.severity[0]: 'fatal' is not known",
        "channels.b.alerts.tenants: unknown key 'tenants': did you mean tenant?",
        "channels.c.secret.env: the variable NO_SUCH_VARIABLE is not set",
        "channels.c.url: should begin with https://; in your own network `private: true`",
        "channels.d.server: 'smtp.example:0' is no server",
        "channels.d.from: 'A <a@b>' is no mail address",
        "channels.d.to: nobody is named",
        "channels.d.tls: 'no' is not known",
        "channels.d.user: password is missing",
        "channels.e.token.file: /no/such/file cannot be read: No such file or directory",
        "channels.e.groupWait: unknown key",
        "channels.e: url is missing: add `url: https://alertmanager.example:9093`",
        "channels.webhook: webhook is the one of TIDEGATE_WEBHOOK_URL",
        "channels.webhook.url: should be an https:// address",
        "channels.webhook: it is told nothing",
        "channels.webhook.colour: unknown key 'colour'",
    ):
        assert expected in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (f"{MAIL}, tls: none}}", "alerts go in the clear"),
        (
            f"{MAIL}, tls: none, private: true, user: u, password: {{env: SLACK_URL}}}}",
            "a password does not go",
        ),
        ("{type: email, server: s, from: a@b, to: 'a@b\\nBcc: x@y'}", "is no mail address"),
        ("{type: webhook, url: https://u:p@h/x, secret: {value: whsec_AAAA}}", "without user or password"),
        ("{type: webhook, url: https://h/x, secret: {value: whsec_p}}", "should be whsec_"),
        ("{type: slack, url: {env: SLACK_URL, file: x}}", "one of env, file and value"),
        ("{type: alertmanager, url: https://h, token: {value: 'a b'}}", "is no token"),
        ("[]", "keys and values are needed here"),
    ],
)
def test_what_would_not_be_safe_or_would_not_work_is_refused(channel: str, words: str) -> None:
    found = "\n".join(problems(f"{HEAD}  x: {channel}\n"))
    assert words in found
    assert "whsec_p" not in found


@profile(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    for source in (text, HEAD + text, f"{HEAD}  x:\n    type: slack\n    url: {text}"):
        with suppress(FileError):
            parse(source, "channels.yaml", Path(), Settings())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read: No such file"):
        load(tmp_path / "channels.yaml", Settings())


EXAMPLES = Path(__file__).parents[2] / "docs" / "channels.md"


def test_the_examples_of_the_documentation_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEAMS_URL", "SMTP_PASSWORD"):
        monkeypatch.setenv(name, "https://office.example/x")
    for name in ("HOOK_SECRET", "HOOK_OLD_SECRET"):
        monkeypatch.setenv(name, "whsec_" + "A" * 32)
    whole, *each = re.findall(r"^```yaml\n(.*?)^```$", EXAMPLES.read_text(), re.DOTALL | re.MULTILINE)
    assert [one.name for one in parse(whole, "x", Path(), Settings())] == ["team", "on-call"]
    assert {one.kind for text in each for one in read(text).values()} == set(KINDS)
