import time
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tidegate.errors import DependencyUnavailable, Refused
from tidegate.topics import ALERTS, CALLS, PRICES, TOPICS
from tidegate_infra.kafka import client, topics
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports


def wait_until_listed(admin: AdminClient, name: str, *, listed: bool) -> None:
    """A broker answers before its list shows what it has made, or deleted."""
    until_s = time.monotonic() + 10
    while (name in admin.list_topics(timeout=10).topics) != listed:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_applying_the_table_creates_what_is_missing_and_then_has_nothing_to_do(
    kafka: str, settings: Settings
) -> None:
    created = topics.apply(settings)

    assert {change.topic for change in created} == {settings.topic_prefix + name for name in TOPICS}
    assert {change.kind for change in created} == {"create"}
    assert topics.plan(settings) == []
    metadata = client.admin(settings).list_topics(timeout=10).topics
    assert len(metadata[settings.topic_prefix + CALLS].partitions) == TOPICS[CALLS].partitions


def test_a_changed_configuration_is_altered_in_place(
    kafka: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics.apply(settings, [ALERTS])
    row = TOPICS[ALERTS]
    monkeypatch.setitem(TOPICS, ALERTS, replace(row, config=row.config | {"retention.ms": "60000"}))

    assert [str(change) for change in topics.plan(settings, [ALERTS])] == [
        f"~ {settings.topic_prefix}llm.alerts  retention.ms: {row.config['retention.ms']} -> 60000"
    ]
    topics.apply(settings, [ALERTS])
    assert topics.plan(settings, [ALERTS]) == []


def test_another_partition_count_is_refused_and_nothing_is_changed(kafka: str, settings: Settings) -> None:
    admin = client.admin(settings)
    name = settings.topic_prefix + CALLS
    admin.create_topics([NewTopic(name, 2, 1)])[name].result()
    wait_until_listed(admin, name, listed=True)

    with pytest.raises(Refused, match=r"llm\.calls  partitions: 2 -> 12"):
        topics.apply(settings, [CALLS, PRICES])

    assert settings.topic_prefix + PRICES not in admin.list_topics(timeout=10).topics


def test_a_created_topic_is_shown_as_one_line(kafka: str, settings: Settings) -> None:
    config = "cleanup.policy=delete, max.message.bytes=8388608, retention.ms=2592000000"
    assert [str(change) for change in topics.plan(settings, [ALERTS])] == [
        f"+ {settings.topic_prefix}llm.alerts  1 partition, {config}"
    ]


def test_a_topic_made_anew_has_another_id(kafka: str, settings: Settings) -> None:
    topics.apply(settings, [ALERTS])
    admin = client.admin(settings)
    name = settings.topic_prefix + ALERTS
    before = client.topic_id(admin, name)
    assert client.topic_id(admin, name) == before

    admin.delete_topics([name])[name].result()
    wait_until_listed(admin, name, listed=False)
    topics.apply(settings, [ALERTS])

    assert client.topic_id(admin, name) != before


def test_a_missing_kafka_is_an_unavailable_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_ANSWER_SECONDS", 0.3)
    with pytest.raises(DependencyUnavailable, match="TIDEGATE_KAFKA"):
        topics.plan(Settings(kafka=f"127.0.0.1:{ports.free_port()}"))
