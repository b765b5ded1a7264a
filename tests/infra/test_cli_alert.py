"""``tidegate alert``: what fires, whom a channel reaches, and silences, in words that scripts depend on."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tidegate import codec
from tidegate.records import Alert, KeyValue
from tidegate.topics import ALERTS
from tidegate_infra import checkup
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import Settings


def alert(mark: str, sequence: int = 1, status: str = "firing", **changes: Any) -> Alert:
    fields: dict[str, Any] = {"severity": "error", "tenant": "acme", "rule": "no_traffic"} | changes
    return Alert(
        fingerprint=mark,
        status=status,
        rule_hash="",
        labels=[KeyValue(key="app", value="chat")],
        annotations=[KeyValue(key="summary", value="Nobody calls.")],
        starts_at=1_760_000_000_000_000,
        sequence=sequence,
        ts=1_760_000_000_000_000,
        **fields,
    )


def publish(settings: Settings, *alerts: Alert) -> None:
    send(settings, [Outgoing(topic=ALERTS, key=one.fingerprint, value=codec.encode(one)) for one in alerts])


@pytest.fixture
def slack() -> Iterator[HTTPServer]:
    """A receiver that says `server.words` and keeps what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            server.bodies.append(json.loads(body))  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(server.words)  # type: ignore[attr-defined]

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.bodies, server.words = [], b"ok"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def file(tmp_path: Path, slack: HTTPServer) -> Path:
    path = tmp_path / "channels.yaml"
    path.write_text(
        "apiVersion: tidegate/v1\nkind: Channels\nchannels:\n  team:\n    type: slack\n    private: true\n"
        f"    url: {{value: 'http://127.0.0.1:{slack.server_port}/pl4nted'}}\n"
        "    alerts: {severity: error}\n"
    )
    return path


def test_channels_are_listed_without_their_secrets(cli: Any, file: Path, slack: HTTPServer) -> None:
    done = cli("alert", "channels", "--json", TIDEGATE_CHANNELS=str(file))
    assert done.code == 0
    assert done.rows == [
        {
            "channel": "team",
            "type": "slack",
            "to": f"http://127.0.0.1:{slack.server_port}/…",
            "alerts": True,
            "of": {"severity": "error"},
            "commands": False,
            "dry_runs": True,
        }
    ]


def test_the_doctor_asks_after_every_channel(file: Path) -> None:
    assert checkup._channels(Settings(channels=file)) == ["notify.team"]
    assert checkup._channels(Settings(channels=file, webhook_url="https://x")) == ["notify", "notify.team"]
    assert checkup._channels(Settings()) == ["notify"]


def test_a_file_with_mistakes_ends_with_3_and_their_places(cli: Any, file: Path) -> None:
    file.write_text(file.read_text().replace("slack", "slak") + "  b: 1\n")
    done = cli("alert", "channels", "-f", file)
    assert done.code == 3
    assert f"{file}:5:11: channels.team.type: 'slak' is not known: did you mean slack?" in done.err
    assert f"{file}:9:6: channels.b: keys and values are needed here" in done.err


def test_a_channel_is_tried_with_an_alert_that_fires_and_is_over(cli: Any, file: Path, slack: Any) -> None:
    done = cli("alert", "test", "--channel", "team", "-f", file, "--yes", "--json")
    assert [(row["status"], row["outcome"]) for row in done.rows] == [
        ("firing", "delivered"),
        ("resolved", "delivered"),
    ]
    assert [body["text"] for body in slack.bodies] == ["🔵 INFO: channel_test", "✅ resolved: channel_test"]
    assert "pl4nted" not in done.out + done.err


def test_a_channel_that_does_not_take_it_ends_with_1(cli: Any, file: Path, slack: Any) -> None:
    slack.words = b"<html>"
    done = cli("alert", "test", "-c", "team", "-f", file, "-y")
    assert done.code == 1
    assert "firing: answered 200, but not with the ok that Slack says" in done.err


def test_trying_asks_first_names_what_is_misspelt_and_shows_what_it_would_do(
    cli: Any, file: Path, slack: Any
) -> None:
    assert cli("alert", "test", "-c", "team", "-f", file).code == 5
    assert cli("alert", "test", "-c", "team", "-f", file, "--dry-run").code == 0
    missing = cli("alert", "test", "-c", "taem", "-f", file, "-y")
    assert missing.code == 3
    assert "did you mean team?" in missing.err
    assert cli("alert", "test", "-c", "team", "--severity", "fatal", "-f", file).code == 2
    assert not slack.bodies


def test_what_fires_is_listed_worst_first_and_what_is_over_only_if_asked(
    cli: Any, settings: Settings, topics: None
) -> None:
    publish(
        settings,
        alert("a"),
        alert("b", severity="critical"),
        alert("c", tenant="other"),
        alert("c", 2, "resolved", tenant="other"),
    )
    assert [row["fingerprint"] for row in cli("alert", "list", "--json").rows] == ["b", "a"]
    every = cli("alert", "list", "--all", "--json").rows
    assert [(row["fingerprint"], row["status"]) for row in every] == [
        ("b", "firing"),
        ("a", "firing"),
        ("c", "resolved"),
    ]
    assert [row["fingerprint"] for row in cli("alert", "list", "--severity", "error", "--json").rows] == ["a"]
    [one] = cli("alert", "list", "--severity", "error", "--json", TIDEGATE_RUNBOOKS="https://docs/r/").rows
    assert one["runbook_url"] == "https://docs/r/no_traffic.md"
    assert cli("alert", "list", TIDEGATE_RUNBOOKS="https://docs/r").code == 3
    table = cli("alert", "list", "--rule", "no_traffic")
    assert "Nobody calls." in table.out
    assert "nothing fires" in cli("alert", "list", "--rule", "other").err


def test_a_silence_says_who_why_until_when_and_ends_by_hand(
    cli: Any, settings: Settings, topics: None
) -> None:
    publish(settings, alert("a"), alert("b", tenant="other"))
    asked = ("alert", "silence", "rule=no_traffic", "tenant=acme", "--for", "2h", "--reason", "a move")
    tried = cli(*asked, "--dry-run")
    assert "would silence rule=no_traffic tenant=acme until" in tried.err
    assert "1 that fire now match" in tried.err
    assert cli(*asked).code == 5
    assert cli("alert", "silences", "--json").rows == []
    done = cli(*asked, "--yes", "--json")
    assert "1 that fire now match" in done.err
    [made] = done.rows
    [found] = cli("alert", "silences", "--json").rows
    assert made == found
    assert (found["reason"], "@" in found["actor"]) == ("a move", True)
    assert found["ends_at"] - found["starts_at"] == 2 * 3_600_000_000
    assert abs(found["starts_at"] / 1e6 - time.time()) < 60
    silenced = {row["fingerprint"]: row["silence"] for row in cli("alert", "list", "--json").rows}
    assert silenced == {"a": found["silence_id"], "b": None}
    assert cli("alert", "unsilence", found["silence_id"], "--yes").code == 0
    assert cli("alert", "silences", "--json").rows == []
    assert len(cli("alert", "silences", "--all", "--json").rows) == 1
    assert cli("alert", "unsilence", found["silence_id"], "--yes").code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("rule",),
        ("rule=",),
        ("=x",),
        ("rule=a", "rule=b"),
        ("rule=a", "--for", "31d"),
        ("rule=a", "--for", "soon"),
        ("rule=a", "--for", "0s"),
    ],
)
def test_a_silence_that_could_not_hold_is_a_mistake_of_usage(cli: Any, arguments: tuple[str, ...]) -> None:
    assert cli("alert", "silence", *arguments, "--yes").code == 2
