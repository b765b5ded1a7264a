"""Notify between a real broker and real receivers: nothing is lost, nothing stands still."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from tests.consumers.notifying import committed, figure, letters, notify, publish, until

from tidegate import codec
from tidegate.errors import ConfigError
from tidegate.topics import ALERTS, DEPLOYMENTS
from tidegate_consumers.notify.process import main
from tidegate_consumers.notify.schedule import Schedule
from tidegate_infra.kafka import client
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")


def test_commands_and_alerts_arrive_signed_once_and_are_committed(
    settings: Settings, hooks: Any, command: Any, alert: Any
) -> None:
    publish(settings, DEPLOYMENTS, command())  # the past
    commands = [command(dry_run=bool(i % 2)) for i in range(20)]
    alerts = [alert(sequence=i) for i in range(20)]
    with notify(settings, hooks) as process:
        publish(settings, DEPLOYMENTS, *commands)
        publish(settings, ALERTS, *alerts)
        until(lambda: figure(process, "deliveries_total", outcome="delivered") == 40)
        until(lambda: figure(process, "lag", topic=DEPLOYMENTS) == 0)
    assert sorted(hooks.ids) == sorted(
        [one.command_id for one in commands] + [f"{one.fingerprint}-{one.sequence}" for one in alerts]
    )
    webhook = Webhook(hooks.secret)
    types = {post.id: webhook.verify(post.body, post.headers)["type"] for post in hooks.posts}
    assert all(
        types[one.command_id] == ("deployment.command.dry_run" if one.dry_run else "deployment.command")
        for one in commands
    )
    assert (committed(settings, DEPLOYMENTS), committed(settings, ALERTS)) == (21, 20)


@pytest.mark.long
def test_what_comes_while_it_is_down_is_delivered_even_if_nothing_ever_was(
    settings: Settings, hooks: Any, alert: Any
) -> None:
    publish(settings, ALERTS, alert(sequence=1))
    with notify(settings, hooks):
        assert committed(settings, ALERTS) == 1
    publish(settings, ALERTS, alert(sequence=2))
    with notify(settings, hooks):
        until(lambda: hooks.ids == ["00c0ffee00c0ffee-2"])


def test_a_short_trouble_is_over_within_a_second_or_so(settings: Settings, hooks: Any, alert: Any) -> None:
    hooks.answers = [hooks.saying(500), b""]
    with notify(settings, hooks, Schedule(pauses_s=(600,))) as process:
        publish(settings, ALERTS, alert())
        until(lambda: figure(process, "deliveries_total", outcome="delivered") == 1)
        assert figure(process, "deliveries_total", outcome="failed") == 2
        assert figure(process, "retries_total") == 2
    assert hooks.ids == ["00c0ffee00c0ffee-3"] * 3


@pytest.mark.long
def test_a_longer_trouble_is_outlasted_and_told_by_readyz(settings: Settings, hooks: Any, alert: Any) -> None:
    hooks.answer = hooks.saying(401)
    with notify(settings, hooks, Schedule(pauses_s=(0.2,) * 200)) as process:
        publish(settings, ALERTS, alert())
        waits = f"1 wait for http://127.0.0.1:{hooks.port}/…: answered 401"
        until(lambda: waits in process.health.readyz()[1])
        assert committed(settings, ALERTS) == 0
        until(lambda: figure(process, "deliveries_total", outcome="failed") >= 4)
        hooks.answer = hooks.saying(200)
        until(lambda: process.health.is_ready)
        # Two of them are what it says of itself: that it fails, and that it does no more.
        until(lambda: committed(settings, ALERTS) == 3)
    assert letters(settings) == []


@pytest.mark.long
def test_retry_after_holds_back_every_delivery(settings: Settings, hooks: Any, command: Any) -> None:
    hooks.answers = [hooks.saying(429, retry_after="1")]
    with notify(settings, hooks) as process:
        publish(settings, DEPLOYMENTS, command())
        until(lambda: len(hooks.posts) == 1)
        throttled_s = time.monotonic()
        until(lambda: figure(process, "deliveries_total", outcome="failed") == 1)
        publish(settings, DEPLOYMENTS, command())
        until(lambda: len(hooks.posts) == 3)
        assert 0.8 < time.monotonic() - throttled_s < 10
        until(lambda: figure(process, "deliveries_total", outcome="delivered") == 2)


@pytest.mark.long
@pytest.mark.parametrize("answer", [b"HTTP/1.1 302 So\r\nlocation: /\r\n\r\n", b"what?\r\n"])
def test_what_cannot_be_delivered_is_dead_lettered_and_only_then_committed(
    settings: Settings, hooks: Any, alert: Any, answer: bytes
) -> None:
    hooks.answer = answer
    record = alert()
    with notify(settings, hooks) as process:
        publish(settings, ALERTS, record)
        until(lambda: figure(process, "deliveries_total", outcome="dead_lettered") == 1)
        until(lambda: process.health.is_ready)
        # The second is what it says of itself.
        until(lambda: committed(settings, ALERTS) == 2)
    assert letters(settings) == [("notify", "undeliverable", codec.encode(record))]
    assert len(set(hooks.ids)) == 1
    assert len(hooks.ids) >= 3


def test_what_cannot_be_read_is_dead_lettered_and_skipped(
    settings: Settings, hooks: Any, command: Any, alert: Any
) -> None:
    poison = [b"", b"poison", codec.encode(alert()), codec.encode(command(command_id="a\r\nb"))]
    last = command()
    # More than the dead letters take, though it came packed.
    other = client.producer(settings, message_max_bytes=6 << 20)
    with notify(settings, hooks):
        other.produce(settings.topic_prefix + DEPLOYMENTS, bytes(5 << 20), "k")
        assert other.flush(20) == 0
        publish(settings, DEPLOYMENTS, *poison, last)
        until(lambda: hooks.ids == [last.command_id])
        until(lambda: len(letters(settings)) == 5)
        # A letter can be read before its writer knows that it stands.
        until(lambda: committed(settings, DEPLOYMENTS) == 6)
    assert {(reason, value) for _, reason, value in letters(settings)} == {
        ("empty", b""),
        ("no_registry", b""),
        ("unknown_framing", b"poison"),
        ("unexpected_record", poison[2]),
        ("invalid_field", poison[3]),
    }


def test_the_mark_of_a_removed_key_is_no_news(settings: Settings, hooks: Any, command: Any) -> None:
    last = command()
    with notify(settings, hooks):
        publish(settings, DEPLOYMENTS, None, last)
        until(lambda: hooks.ids == [last.command_id])
    assert committed(settings, DEPLOYMENTS) == 2
    assert letters(settings) == []


@pytest.mark.long
def test_a_receiver_that_hangs_on_one_holds_up_neither_the_others_nor_the_polling(
    settings: Settings, hooks: Any, alert: Any, command: Any
) -> None:
    hooks.answers = [None]
    with notify(settings, hooks, timeout_s=60) as process:
        publish(settings, ALERTS, alert(sequence=0))
        until(lambda: len(hooks.posts) == 1)
        publish(settings, ALERTS, *[alert(fingerprint=f"{i:016x}") for i in range(1, 300)])
        publish(settings, DEPLOYMENTS, command())
        # All but the one: more than may wait at a time, so the partition is paused and taken up again.
        until(lambda: len(hooks.posts) == 301)
        until(lambda: figure(process, "waiting", topic=ALERTS) == 1)
        process.health._stalled_after_seconds = 2
        time.sleep(0.5)
        assert process.health.livez() == (200, "live")
        until(lambda: committed(settings, DEPLOYMENTS) == 1)
        assert committed(settings, ALERTS) == 0


@pytest.mark.long
def test_when_all_deliveries_hang_the_partition_is_paused_and_the_loop_turns(
    settings: Settings, hooks: Any, alert: Any
) -> None:
    with notify(settings, hooks, timeout_s=60) as process:
        hooks.answer = None
        publish(settings, ALERTS, *[alert(fingerprint=f"{i:016x}") for i in range(400)])
        until(lambda: figure(process, "waiting", topic=ALERTS) >= 100)
        process.health._stalled_after_seconds = 2
        time.sleep(1)
        assert figure(process, "waiting", topic=ALERTS) < 300
        assert len(hooks.posts) == 4
        assert process.health.livez() == (200, "live")
        hooks.answer = hooks.saying(200)
        hooks.over.set()
        until(lambda: figure(process, "deliveries_total", outcome="delivered") == 400)


def test_a_receiver_that_is_gone_is_posted_to_no_more_and_nothing_is_lost(
    settings: Settings, hooks: Any, alert: Any
) -> None:
    hooks.answers = [hooks.saying(410)]
    with notify(settings, hooks) as process:
        publish(settings, ALERTS, alert(sequence=1))
        until(lambda: "gone" in process.health.readyz()[1])
        publish(settings, ALERTS, alert(sequence=2))
        until(lambda: figure(process, "waiting", topic=ALERTS) == 2)
        assert process.health.livez()[0] == 200
        assert committed(settings, ALERTS) == 0
        assert len(hooks.posts) == 1
    with notify(settings, hooks):
        until(lambda: len(hooks.posts) == 3)
        # Two of them are what it says of itself: that it fails, and that it does no more.
        until(lambda: committed(settings, ALERTS) == 4)
    assert letters(settings) == []


@pytest.mark.long
def test_killed_between_post_and_commit_it_delivers_again_under_the_same_id(
    settings: Settings, hooks: Any, command: Any, start_process: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEGATE_CRASH_AT", "notify.after_post")
    monkeypatch.setenv("TIDEGATE_CRASH_ONCE", str(tmp_path / "crashed"))
    record = command()
    first = start_process("notify", **hooks.settings)
    first.wait_until_ready()
    publish(settings, DEPLOYMENTS, record)
    assert first.process.wait(30) == -9
    assert hooks.ids == [record.command_id]
    hooks.answers = [hooks.saying(500), b"what?\r\n"]
    second = start_process("notify", log_level="debug", **hooks.settings)
    until(lambda: len(hooks.posts) == 4)
    until(lambda: committed(settings, DEPLOYMENTS) == 1)
    second.stop()
    assert second.process.returncode == 0
    assert hooks.ids == [record.command_id] * 4
    assert len({post.body for post in hooks.posts}) == 1
    said = second.log.read_text()
    assert hooks.secret[6:] not in said
    assert "password" not in said
    assert not any(post.headers["webhook-signature"] in said for post in hooks.posts)


def test_without_a_webhook_it_is_idle_ready_and_says_so_once(start_process: Any) -> None:
    process = start_process("notify")
    process.wait_until_ready()
    with urllib.request.urlopen(f"http://127.0.0.1:{process.health_port}/livez", timeout=5) as answer:
        assert answer.status == 200
    process.stop()
    assert process.process.returncode == 0
    assert process.log.read_text().count("idle") == 1


@pytest.mark.long
def test_a_private_receiver_that_is_not_allowed_ends_the_process_with_the_reason(
    settings: Settings, hooks: Any, start_process: Any
) -> None:
    changes = {**hooks.settings, "webhook_url": "https://127.0.0.1:1/x", "allow_private_webhooks": False}
    process = start_process("notify", **changes)
    assert process.process.wait(30) == 5
    assert "127.0.0.1, which is loopback" in process.last_words()


def test_a_receiver_in_the_clear_is_refused_before_kafka_is_asked(settings: Settings, hooks: Any) -> None:
    changed = settings.model_copy(update={**hooks.settings, "allow_private_webhooks": False})
    with pytest.raises(ConfigError, match="https://"):
        main(Process("notify", changed))


@pytest.mark.long
def test_two_processes_share_the_work_and_one_takes_over(
    settings: Settings, hooks: Any, command: Any, start_process: Any
) -> None:
    pair = [start_process("notify", **hooks.settings) for _ in range(2)]
    for process in pair:
        process.wait_until_ready()
    records = [command() for _ in range(30)]
    publish(settings, DEPLOYMENTS, *records[:15])
    until(lambda: len(set(hooks.ids)) == 15)
    pair[0].kill()
    publish(settings, DEPLOYMENTS, *records[15:])
    until(lambda: len(set(hooks.ids)) == 30)
    until(lambda: committed(settings, DEPLOYMENTS) == 30)
    assert json.loads(hooks.posts[-1].body)["data"]["command_id"] in {one.command_id for one in records}
