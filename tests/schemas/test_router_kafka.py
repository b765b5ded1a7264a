"""The router against a real broker."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from tidegate import Router
from tidegate import topics as names
from tidegate.client import configuration, current
from tidegate.client.client import Client
from tidegate.codec import encode
from tidegate.records import DeploymentCommand, Weight
from tidegate.series import deployment_key
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports

Publish = Callable[..., None]


def command(revision: int, candidate_bp: int, **fields: Any) -> DeploymentCommand:
    given = {
        "command_id": f"c{revision}",
        "tenant": "default",
        "environment": "test",
        "deployment": "bot",
        "rollout": "try-v2",
        "generation": 1,
        "revision": revision,
        "action": "advance",
        "state": "progressing",
        "step": 1,
        "assignment_unit": "user",
        "salt": "s",
        "reason": "r",
        "actor": "a",
        "actor_kind": "controller",
        "ts": 1,
        "weights": [
            Weight(variant="v1", role="baseline", weight_bp=10_000 - candidate_bp, request_model="old"),
            Weight(variant="v2", role="candidate", weight_bp=candidate_bp, request_model="new"),
        ],
    }
    return DeploymentCommand(**(given | fields))


@pytest.fixture
def publish(settings: Settings, topics: None) -> Publish:
    producer = Producer({"bootstrap.servers": settings.kafka})

    def publish(*commands: DeploymentCommand | tuple[str, bytes | None]) -> None:
        for item in commands:
            if isinstance(item, tuple):
                key, value = item
            else:
                key, value = deployment_key(item.tenant, item.environment, item.deployment), encode(item)
            producer.produce(settings.topic_prefix + names.DEPLOYMENTS, value, key)
        assert producer.flush(10) == 0

    return publish


@pytest.fixture
def configured(settings: Settings, topics: None) -> Iterator[None]:
    given = {
        "app": "app",
        "environment": "test",
        "kafka": settings.kafka,
        "topic_prefix": settings.topic_prefix,
    }
    previous = current.install(Client(configuration.read(given, environ={})))
    yield
    current.install(previous)


@pytest.fixture
def router(configured: None) -> Iterator[Router]:
    router = Router("bot", default="v1")
    yield router
    router.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "not within 10 s"
        time.sleep(0.01)


def test_a_router_is_ready_when_it_has_read_what_stands(publish: Publish, configured: None) -> None:
    publish(command(1, 0), command(3, 10_000), command(2, 0))
    router = Router("bot", default="v1")
    assert router.ready(20)
    assignment = router.assign("user-1")
    assert (assignment.variant, assignment.revision, assignment.reason) == ("v2", 3, "static")
    assert assignment.definition is not None
    assert assignment.definition.request_model == "new"
    assert router.revisions == (1, 3)
    router.close()


def test_a_router_without_commands_is_ready_and_serves_the_default(router: Router) -> None:
    assert router.ready(20)
    assert router.assign("user-1").reason == "default"


def test_a_rollback_reaches_a_running_router(router: Router, publish: Publish) -> None:
    publish(command(1, 10_000))
    wait_for(lambda: router.revisions == (1,))
    started = time.monotonic()
    publish(command(2, 0))
    wait_for(lambda: router.assign("user-1").variant == "v1")
    assert time.monotonic() - started < 2


def test_other_keys_and_broken_records_are_passed_over(
    router: Router, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    key = deployment_key("default", "test", "bot")
    publish(
        ("default/test/other", b"not a record"),
        command(9, 10_000, deployment="other"),
        command(8, 10_000, environment="prod"),
        (key, b"\xc3\x01 not a record"),
        (key, None),
        command(1, 10_000),
    )
    wait_for(lambda: router.revisions == (1,))
    assert "a record of" in caplog.text
    assert "is ignored: unknown_schema" in caplog.text


def test_a_router_without_kafka_serves_the_default_at_once(settings: Settings) -> None:
    given = {"app": "app", "environment": "test", "kafka": f"127.0.0.1:{ports.free_port()}"}
    previous = current.install(Client(configuration.read(given, environ={})))
    try:
        started = time.monotonic()
        router = Router("bot", default="v1")
        assert router.assign("user-1").reason == "default"
        assert not router.ready(0.1)
        assert time.monotonic() - started < 2
        router.close()
    finally:
        current.install(previous)


FORKING = """
    import os, sys, time
    import tidegate

    tidegate.configure(app="app", environment="test", kafka=sys.argv[1], topic_prefix=sys.argv[2])
    router = tidegate.Router("bot", default="v1")
    assert router.ready(20)
    pid = os.fork()
    assert router.assign("user-1").revision == 1, "what was known is not forgotten"
    print("here" if pid else "child", flush=True)
    deadline = time.monotonic() + 20
    while router.revisions != (1, 2):
        router.assign("user-1")
        assert time.monotonic() < deadline, router.revisions
        time.sleep(0.01)
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def test_a_forked_child_goes_on_following(settings: Settings, publish: Publish) -> None:
    publish(command(1, 10_000))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FORKING), settings.kafka, settings.topic_prefix],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline().strip() for _ in range(2)) == ["child", "here"]
        publish(command(2, 0))
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
