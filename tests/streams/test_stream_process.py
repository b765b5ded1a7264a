"""Stage 2 as a process, on a real broker, killed where it hurts."""

import json
import time
from dataclasses import replace
from functools import cache

import pytest
from confluent_kafka import TopicPartition

from tidegate import topics
from tidegate.codec import encode
from tidegate.records import (
    DecisionMetric,
    DeploymentCommand,
    Rollout,
    Step,
    Variant,
    WindowMetricsBatch,
)
from tidegate.series import deployment_key
from tidegate_infra.kafka import client, dead_letters, scan
from tidegate_infra.settings import Settings
from tidegate_streams import fold
from tidegate_streams import published as read_back
from tidegate_streams.journal import SNAPSHOT_MESSAGES
from tidegate_streams.outbox import OUTPUTS
from tidegate_streams.replay import newest, replay, windows

pytestmark = pytest.mark.long

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
PARTITION = 2
JUNK = b"\xc3\x01 no record of ours"


def spec(deployment):
    metric = DecisionMetric(
        name="error_rate", kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=2.0
    )
    return Rollout(
        name="new-model",
        tenant="acme",
        environment="prod",
        deployment=deployment,
        generation=1,
        spec_hash="hash",
        source_yaml="",
        actor="ada",
        ts=START,
        strategy="canary",
        assignment_unit="user",
        salt="new-model",
        max_duration_us=3_600 * SECOND,
        variants=[Variant(name="v1", role="baseline"), Variant(name="v2", role="candidate")],
        steps=[Step(weight_bp=5_000, min_calls=10, warmup_us=0)],
        metrics=[metric],
    )


def canary(made, panes, deployment="chat"):
    """The beginning of a rollout, and panes in which the candidate always fails."""
    messages = [made.beat(START), made.rollout(encode(spec(deployment)))]
    for pane in range(panes):
        pane_us = START + pane * 10 * SECOND
        calls = [
            made.Call(
                ts_us=pane_us + SECOND,
                revision=1,
                status="error" if i % 2 else "ok",
                dimensions={"deployment": deployment, "variant": "v2" if i % 2 else "v1"},
            )
            for i in range(40)
        ]
        messages += [*made.calls(calls), made.beat(pane_us + 10 * SECOND)]
    return messages


@cache
def writer(kafka):
    """One for all tests: an idempotent producer sends half a second after it was made, not sooner."""
    return client.producer(Settings(kafka=kafka))


def produce(settings, messages, topic=topics.PARTIALS, **where):
    producer = writer(settings.kafka)
    for message in messages:
        value = message if isinstance(message, bytes) else encode(message)
        producer.produce(settings.topic_prefix + topic, value, **where)
    assert producer.flush(20) == 0


def published(settings, topic):
    return [record for _, record in scan.records(settings, topic)]


def ended(program, seconds=60):
    deadline = time.monotonic() + seconds
    while program.process.poll() is None:
        assert time.monotonic() < deadline, f"{program.name} still runs: {program.last_words()}"
        time.sleep(0.05)
    return program.process.returncode


def delete_before(settings, offset):
    """What retention does to the journal."""
    admin = client.admin(settings)
    place = TopicPartition(settings.topic_prefix + topics.PARTIALS, PARTITION, offset)
    [answer] = admin.delete_records([place]).values()
    answer.result(timeout=10)


@pytest.mark.usefixtures("kafka", "topics")
def test_killed_twice_it_publishes_what_an_uninterrupted_run_does_and_no_command_twice(
    settings, start_process, journal, monkeypatch, tmp_path
):
    messages = canary(journal(), panes=8)
    messages.insert(6, JUNK)
    rules = fold.Rules(settings.allowed_lateness_us, settings.series_cap)
    readable = [(offset, message) for offset, message in enumerate(messages) if message is not JUNK]
    expected = [record for _, records in replay(readable, PARTITION, rules) for record in records]
    commands = [record for record in expected if isinstance(record, DeploymentCommand)]
    assert [command.action for command in commands] == ["start", "rollback"]

    produce(settings, messages[:8], partition=PARTITION)
    first = start_process("stream")
    first.wait_until_ready()
    first.kill()
    # Killed again, now between two sends of the rest.
    produce(settings, messages[8:], partition=PARTITION)
    with monkeypatch.context() as environment:
        environment.setenv("TIDEGATE_CRASH_AT", "stream.mid_send")
        environment.setenv("TIDEGATE_CRASH_ONCE", str(tmp_path / "crashed"))
        assert ended(start_process("stream")) == -9
    assert len(published(settings, topics.METRICS)) < len(
        [record for record in expected if isinstance(record, WindowMetricsBatch)]
    )
    start_process("stream").wait_until_ready()

    assert published(settings, topics.DEPLOYMENTS) == commands
    rows = newest(windows(published(settings, topics.METRICS)))
    assert rows.equals(newest(windows(expected)))
    for topic in (topics.ALERTS, topics.PROGRESS):
        kind = topics.TOPICS[topic].records
        assert published(settings, topic) == [record for record in expected if isinstance(record, kind)]
    letters = {dead_letters.read(message.headers()).offset for message in scan.messages(settings, topics.DLQ)}
    assert letters == {6}


@pytest.mark.usefixtures("kafka", "topics")
def test_the_highest_revision_is_published_again_when_a_lower_one_stands_last(
    settings, start_process, journal
):
    messages = canary(journal(), panes=6)
    expected = [record for _, records in replay(enumerate(messages), PARTITION) for record in records]
    commands = [record for record in expected if isinstance(record, DeploymentCommand)]
    key = deployment_key("acme", "prod", "chat")
    produce(settings, [*commands, commands[0]], topics.DEPLOYMENTS, key=key)
    produce(settings, messages, partition=PARTITION)
    start_process("stream").wait_until_ready()
    assert [command.revision for command in published(settings, topics.DEPLOYMENTS)] == [1, 2, 1, 2]
    assert published(settings, topics.DEPLOYMENTS)[-1] == commands[-1]
    # Which is what it looks for once a day.
    assert not list(read_back.read(settings, (topics.DEPLOYMENTS,)).hidden(PARTITION))


@pytest.mark.usefixtures("kafka", "topics")
def test_a_command_that_differs_from_the_published_one_is_not_sent_and_stops_the_process(
    settings, start_process, journal
):
    messages = canary(journal(), panes=6)
    expected = [record for _, records in replay(enumerate(messages), PARTITION) for record in records]
    start = next(record for record in expected if isinstance(record, DeploymentCommand))
    other = replace(start, revision=1, action="abort", state="aborted", reason="by another journal")
    produce(settings, [other], topics.DEPLOYMENTS, key=deployment_key("acme", "prod", "chat"))
    produce(settings, messages, partition=PARTITION)
    program = start_process("stream")
    assert ended(program) == 70
    assert "revision 1 of acme/prod/chat was published as abort" in program.last_words()
    assert published(settings, topics.DEPLOYMENTS) == [other]
    assert [alert.rule for alert in published(settings, topics.ALERTS)] == ["command_conflict"]


@pytest.mark.usefixtures("kafka", "topics")
def test_a_rollout_whose_start_the_journal_deleted_is_held_and_told_once_however_often_it_restarts(
    settings, start_process, journal
):
    made, key = journal(), deployment_key("acme", "prod", "chat")
    messages = [made.beat(START), made.rollout(encode(spec("chat")))]
    produce(settings, [spec("chat")], topics.ROLLOUTS, key=key)
    produce(settings, messages, partition=PARTITION)
    for record in (record for _, records in replay(enumerate(messages), PARTITION) for record in records):
        produce(settings, [record], OUTPUTS[type(record)], key=key)
    delete_before(settings, 2)
    produce(settings, [made.beat(START + 10 * SECOND)], partition=PARTITION)
    for _ in range(2):
        program = start_process("stream")
        program.wait_until_ready()
        program.kill()
    assert [alert.rule for alert in published(settings, topics.ALERTS)] == ["rollout_state_lost"]
    told = published(settings, topics.PROGRESS)
    assert [(one.state, one.revision) for one in told] == [("initialising", 1), ("holding", 1)]
    assert len(published(settings, topics.DEPLOYMENTS)) == 1


@pytest.mark.usefixtures("kafka", "topics")
def test_a_rollout_whose_start_the_journal_deleted_goes_on_from_a_snapshot_as_if_nothing_had_happened(
    settings, start_process, journal
):
    messages = canary(journal(), panes=6)
    # Many enough that a snapshot is made: the same sign of life, over and over.
    messages = [*messages[:2], *messages[:1] * SNAPSHOT_MESSAGES, *messages[2:]]
    expected = [record for _, records in replay(enumerate(messages), PARTITION) for record in records]
    commands = [record for record in expected if isinstance(record, DeploymentCommand)]
    produce(settings, messages[: SNAPSHOT_MESSAGES + 2], partition=PARTITION)
    first = start_process("stream")
    deadline = time.monotonic() + 30
    while not (kept := list(scan.messages(settings, topics.SNAPSHOTS))):
        assert time.monotonic() < deadline
    first.kill()
    assert published(settings, topics.DEPLOYMENTS) == commands[:1]
    next_offset = json.loads(kept[-1].value().partition(b"\n")[0])["next_offset"]
    assert next_offset > 2
    delete_before(settings, next_offset)
    produce(settings, messages[SNAPSHOT_MESSAGES + 2 :], partition=PARTITION)
    start_process("stream").wait_until_ready()
    assert published(settings, topics.DEPLOYMENTS) == commands
    assert {alert.rule for alert in published(settings, topics.ALERTS)} == {"rollout_rolled_back"}
    rows = newest(windows(published(settings, topics.METRICS)))
    assert rows.equals(newest(windows(expected)))


@pytest.mark.usefixtures("kafka")
def test_without_its_topics_it_says_how_to_make_them(settings, start_process):
    program = start_process("stream")
    assert ended(program) == 3
    assert "tidegate topic apply" in program.last_words()


@pytest.mark.usefixtures("kafka", "topics")
def test_a_second_process_takes_its_share_and_nothing_is_lost_or_sent_twice(settings, start_process, journal):
    made = {partition: canary(journal(), panes=8, deployment=f"chat-{partition}") for partition in range(4)}
    expected = [
        record
        for partition, messages in made.items()
        for _, records in replay(enumerate(messages), partition)
        for record in records
    ]
    for partition, messages in made.items():
        produce(settings, messages[:8], partition=partition)
    first = start_process("stream")
    first.wait_until_ready()
    second = start_process("stream")
    for partition, messages in made.items():
        produce(settings, messages[8:], partition=partition)
    second.wait_until_ready()
    first.wait_until_ready()
    deadline = time.monotonic() + 30
    while not (rows := newest(windows(published(settings, topics.METRICS)))).equals(
        newest(windows(expected))
    ):
        assert time.monotonic() < deadline, rows
        time.sleep(0.2)
    wanted = [record for record in expected if isinstance(record, DeploymentCommand)]
    assert len(wanted) == 8
    sent = sorted(published(settings, topics.DEPLOYMENTS), key=lambda one: (one.deployment, one.revision))
    assert sent == wanted
