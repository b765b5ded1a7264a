"""Channels of a file at work, between a real broker and receivers that take, hang, lie and come back."""

import dataclasses
import json
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.consumers.conftest import Hooks
from tests.consumers.notifying import committed, figure, letters, notify, publish, until

from tidegate.records import Alert
from tidegate.topics import ALERTS, SILENCES
from tidegate_consumers.notify.process import main
from tidegate_consumers.notify.schedule import Schedule
from tidegate_consumers.notify.silences import put
from tidegate_infra.document import FileError
from tidegate_infra.kafka import scan
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")

OK = b"HTTP/1.1 200 So\r\ncontent-length: 2\r\n\r\nok"
TAKEN = b'HTTP/1.1 202 So\r\ncontent-length: 20\r\n\r\n{"status":"success"}'
KEY = "R" * 32


def slack(hooks: Hooks, **keys: Any) -> dict[str, Any]:
    hooks.answer = OK
    return {"type": "slack", "url": {"value": url(hooks)}, "private": True, "groupWait": "0s"} | keys


def pagerduty(hooks: Hooks, **keys: Any) -> dict[str, Any]:
    hooks.answer = TAKEN
    where = {"url": url(hooks), "routingKey": {"value": KEY}, "private": True, "groupWait": "1s"}
    return {"type": "pagerduty"} | where | keys


def url(hooks: Hooks) -> str:
    return f"http://127.0.0.1:{hooks.port}/pl4nted"


def write(file: Path, **channels: Any) -> Path:
    # JSON is YAML.
    file.write_text(json.dumps({"apiVersion": "tidegate/v1", "kind": "Channels", "channels": channels}))
    return file


def titles(hooks: Hooks) -> list[str]:
    return [json.loads(post.body)["blocks"][0]["text"]["text"] for post in hooks.posts]


def events(hooks: Hooks) -> list[tuple[str, str]]:
    bodies = [json.loads(post.body) for post in hooks.posts]
    return [(body["event_action"], body["dedup_key"]) for body in bodies]


def over(alert: Alert) -> Alert:
    return dataclasses.replace(alert, status="resolved", sequence=alert.sequence + 1, ends_at=alert.ts + 1)


def many(alert: Any, count: int, **changes: Any) -> list[Alert]:
    return [alert(fingerprint=f"{i:016x}", **changes) for i in range(count)]


def published(settings: Settings, rule: str) -> list[Alert]:
    return [one for _, one in scan.records(settings, ALERTS) if one is not None and one.rule == rule]


def test_a_receiver_that_hangs_delays_no_other(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path
) -> None:
    with closing(Hooks()) as hanging:
        file = write(tmp_path / "c.yaml", stuck=slack(hanging), fine=slack(hooks))
        hanging.answer = None
        with notify(settings, None, timeout_s=60, channels=file) as process:
            publish(settings, ALERTS, *many(alert, 5))
            until(lambda: len(hanging.posts) == 4, 5)
            publish(settings, ALERTS, *many(alert, 5, sequence=4))
            until(lambda: len(hooks.posts) == 10, 5)
            until(lambda: committed(settings, ALERTS, "notify.fine") == 10)
            assert committed(settings, ALERTS, "notify.stuck") == 0
            hanging.answer = OK
            hanging.over.set()
            # None of the four was taken: they are told again.
            until(lambda: figure(process, "deliveries_total", channel="stuck", outcome="delivered") >= 10)
    assert letters(settings) == []


@pytest.mark.long
def test_a_channel_whose_name_nobody_answers_delays_no_other(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, real = threading.Event(), socket.getaddrinfo

    def hanging(host: Any, *rest: Any, **options: Any) -> Any:
        if host == "nobody.example.test":
            over.wait(30)
        return real("127.0.0.1" if host == "nobody.example.test" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    lost = slack(hooks, url={"value": "https://nobody.example.test/pl4nted"})
    file = write(tmp_path / "c.yaml", lost=lost, fine=slack(hooks))
    with notify(settings, None, timeout_s=30, channels=file):
        try:
            publish(settings, ALERTS, *many(alert, 5))
            until(lambda: len(hooks.posts) == 5, 5)
        finally:
            over.set()


def test_a_channel_that_does_not_get_through_is_an_alert_for_the_others_until_it_does(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path
) -> None:
    with closing(Hooks()) as refusing:
        file = write(tmp_path / "c.yaml", refusing=slack(refusing), fine=slack(hooks))
        refusing.answer = refusing.saying(403)
        schedule, pages = Schedule(pauses_s=(0.1,) * 500), "https://docs.example/runbooks/"
        with notify(settings, None, schedule, channels=file, runbooks=pages) as process:
            publish(settings, ALERTS, alert())
            until(lambda: titles(hooks)[1:] == ["🟠 ERROR: channel_failing"])
            assert b"<https://docs.example/runbooks/channel_failing.md|runbook>" in hooks.posts[1].body
            waits = f"wait for http://127.0.0.1:{refusing.port}/…: answered 403"
            assert waits in process.health.readyz()[1]
            refusing.answer = OK
            until(lambda: titles(hooks)[2:] == ["✅ resolved: channel_failing"])
            until(lambda: process.health.is_ready)
    told = published(settings, "channel_failing")
    assert [(one.status, one.sequence) for one in told] == [("firing", 1), ("resolved", 2)]
    assert set(titles(refusing)) == {"🔴 CRITICAL: rolled_back of acme"}, "not told of itself"
    assert letters(settings) == []


@pytest.mark.long
def test_a_flood_is_one_page_and_is_over_once(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path
) -> None:
    file = write(tmp_path / "c.yaml", pager=pagerduty(hooks))
    flood = many(alert, 10_000, sequence=1)
    with notify(settings, None, channels=file) as process:
        publish(settings, ALERTS, *flood)
        until(lambda: figure(process, "lag", channel="pager", topic=ALERTS) == 0)
        publish(settings, ALERTS, *[over(one) for one in flood])
        until(lambda: committed(settings, ALERTS, "notify.pager") == 20_000)
    told = events(hooks)
    [key] = {key for _, key in told}
    assert told[-1] == ("resolve", key)
    assert {action for action, _ in told[:-1]} == {"trigger"}
    assert len(told) <= 5, "one page, whose number grows while the flood comes in"
    assert "alerts, rolled_back of acme" in json.loads(hooks.posts[0].body)["payload"]["summary"]


@pytest.mark.long
def test_firing_comes_before_resolved_whatever_the_receiver_does(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path
) -> None:
    file = write(tmp_path / "c.yaml", pager=pagerduty(hooks, groupWait="0s"))
    hooks.answers = [
        hooks.saying(500),
        b"garbage",
        b"HTTP/1.1 202 So\r\ncontent-length: 99\r\n\r\n{",
        hooks.saying(302, location="http://169.254.169.254/"),
        b"HTTP/1.1 200 So\r\ncontent-length: 5\r\n\r\nhello",
        None,
    ]
    fired = many(alert, 3)
    with notify(settings, None, Schedule(pauses_s=(0.05,) * 50), timeout_s=0.5, channels=file) as process:
        publish(settings, ALERTS, *fired, *map(over, fired), *fired[:1], *map(over, fired))
        until(lambda: committed(settings, ALERTS, "notify.pager") >= 10)
        until(lambda: process.health.is_ready)
    for one in fired:
        said = [action for action, key in events(hooks) if key == one.fingerprint]
        assert "resolve" not in said[: said.index("trigger")]
        assert said[-1] == "resolve"
    assert letters(settings) == []


def test_a_broken_file_keeps_the_channels_before_and_says_so(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path
) -> None:
    file = write(tmp_path / "c.yaml", team=slack(hooks))
    with closing(Hooks()) as other, notify(settings, None, channels=file) as process:
        file.write_text(file.read_text().replace("slack", "slak"))
        until(lambda: "'slak' is not known: did you mean slack?" in process.health.readyz()[1])
        publish(settings, ALERTS, alert(sequence=1))
        until(lambda: len(hooks.posts) == 1)
        write(file, team=slack(hooks, alerts={"severity": "info"}), new=slack(other))
        until(lambda: process.health.is_ready)
        until(lambda: figure(process, "waiting", channel="new", topic=ALERTS) == 0)
        publish(settings, ALERTS, alert(fingerprint="b", sequence=1))
        until(lambda: len(other.posts) == 1)
        until(lambda: committed(settings, ALERTS, "notify.team") == 2)
    assert len(hooks.posts) == 1, "it is told of what it asks for now"


def test_with_a_broken_file_it_does_not_begin(settings: Settings, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", team={"type": "slack"})
    with pytest.raises(FileError, match="url is missing"):
        main(Process("notify", settings.model_copy(update={"channels": file})))


def test_what_a_silence_holds_is_told_when_it_ends_and_not_at_all_if_it_is_over_by_then(
    settings: Settings, hooks: Any, alert: Any, silence: Any, tmp_path: Path
) -> None:
    now_us = time.time_ns() // 1_000
    file = write(tmp_path / "c.yaml", team=slack(hooks))
    mine = silence(starts_at=now_us, ts=now_us, ends_at=now_us + 3_600_000_000)
    put(settings, mine)
    long, short, other = (
        alert(fingerprint="a", ts=now_us),
        alert(fingerprint="b"),
        alert(fingerprint="c", tenant="x"),
    )
    with notify(settings, None, channels=file) as process:
        publish(settings, ALERTS, long, short, over(short), other)
        until(lambda: figure(process, "lag", channel="team", topic=ALERTS) == 0)
        until(lambda: titles(hooks) == ["🔴 CRITICAL: rolled_back of x"])
    # It is held across a restart too.
    with notify(settings, None, channels=file):
        put(settings, dataclasses.replace(mine, ends_at=time.time_ns() // 1_000))
        until(lambda: titles(hooks)[1:] == ["🔴 CRITICAL: rolled_back of acme"])
        publish(settings, ALERTS, over(long))
        until(lambda: titles(hooks)[2:] == ["✅ resolved: rolled_back of acme"])
    assert len(list(scan.messages(settings, SILENCES))) == 2


def test_an_alertmanager_is_told_again_what_fires(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate_consumers.notify.notifier._REMIND_S", 0.3)
    hooks.answer = hooks.saying(200)
    file = write(tmp_path / "c.yaml", am={"type": "alertmanager", "url": url(hooks), "private": True})
    one = alert()
    with notify(settings, None, channels=file):
        publish(settings, ALERTS, one)
        until(lambda: len(hooks.posts) >= 3)
        publish(settings, ALERTS, over(one))
        until(lambda: committed(settings, ALERTS, "notify.am") == 2)
        count = len(hooks.posts)
        time.sleep(0.7)
        assert len(hooks.posts) == count, "nothing fires any more"
    assert {post.path for post in hooks.posts} == {"/pl4nted/api/v2/alerts"}
    assert json.loads(hooks.posts[-1].body)[0]["labels"]["alertname"] == "rolled_back"


@pytest.mark.long
def test_what_a_channel_does_not_take_for_hours_is_dead_lettered_for_it_alone(
    settings: Settings, hooks: Any, alert: Any, tmp_path: Path
) -> None:
    with closing(Hooks()) as lying:
        file = write(tmp_path / "c.yaml", lying=slack(lying), fine=slack(hooks))
        lying.answer = b"HTTP/1.1 200 So\r\ncontent-length: 13\r\n\r\n<html></html>"
        with notify(settings, None, channels=file) as process:
            publish(settings, ALERTS, alert())
            until(lambda: figure(process, "deliveries_total", channel="lying", outcome="dead_lettered") == 1)
            until(lambda: len(hooks.posts) == 2)
    assert [(stage, reason) for stage, reason, _ in letters(settings)] == [("notify", "undeliverable")]
    assert titles(hooks)[1] == "🟠 ERROR: channel_failing"


@pytest.mark.long
def test_killed_with_a_page_told_it_tells_it_again_under_the_same_key(
    settings: Settings, hooks: Any, alert: Any, start_process: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    file = write(tmp_path / "c.yaml", pager=pagerduty(hooks))
    monkeypatch.setenv("TIDEGATE_CRASH_AT", "notify.after_post")
    monkeypatch.setenv("TIDEGATE_CRASH_ONCE", str(tmp_path / "crashed"))
    one = alert()
    first = start_process("notify", channels=file)
    first.wait_until_ready()
    publish(settings, ALERTS, one, over(one))
    assert first.process.wait(30) == -9
    second = start_process("notify", channels=file)
    until(lambda: committed(settings, ALERTS, "notify.pager") == 2)
    second.stop()
    mark = one.fingerprint
    assert events(hooks) == [("trigger", mark), ("trigger", mark), ("resolve", mark)]
    assert "pl4nted" not in first.log.read_text() + second.log.read_text()
