"""Processes that claim, killed and stopped: every message is effected, under one name."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from tests.infra.claiming import produce

from tidegate.topics import PRODUCERS
from tidegate_infra.kafka import client
from tidegate_infra.settings import Settings

WORKER = Path(__file__).with_name("claims_worker.py")

pytestmark = pytest.mark.usefixtures("topics")


class Worker:
    def __init__(self, settings: Settings, effects: Path, *point: str) -> None:
        arguments = [sys.executable, str(WORKER), settings.kafka, settings.topic_prefix, str(effects), *point]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    def wait(self) -> str:
        said, _ = self.process.communicate(timeout=60)
        return said


def effects_of(file: Path) -> dict[str, list[int]]:
    """Offsets by name; a name that came twice must have the same."""
    effects: dict[str, list[int]] = {}
    for line in file.read_text().splitlines():
        effect = json.loads(line)
        assert effects.setdefault(effect["name"], effect["offsets"]) == effect["offsets"]
    return effects


def assert_each_offset_once(settings: Settings, file: Path, count: int) -> None:
    found: dict[int, list[int]] = {}
    for name, effected in effects_of(file).items():
        found.setdefault(int(name.split(":")[1]), []).extend(effected)
    consumer = client.consumer(settings, "look")
    for partition in range(3):
        tp = TopicPartition(settings.topic_prefix + PRODUCERS, partition)
        end = consumer.get_watermark_offsets(tp, timeout=10)[1]
        assert sorted(found.get(partition, [])) == list(range(end))
    consumer.close()
    assert sum(map(len, found.values())) == count


def test_killed_between_any_two_steps_every_message_is_effected_under_one_name(
    settings: Settings, tmp_path: Path
) -> None:
    # Each in a group of its own, so that they wait for the dead one's session at the same time.
    points = ["after_claim", "in_effect", "after_effect", "after_settle"]
    produce(settings, 900, PRODUCERS)
    for worker in [Worker(settings, tmp_path / point, point, "KILL") for point in points]:
        worker.wait()
        assert worker.process.returncode == -signal.SIGKILL
    produce(settings, 100, PRODUCERS)
    for worker in [Worker(settings, tmp_path / point) for point in points]:
        worker.wait()
        assert worker.process.returncode == 0
    for point in points:
        assert_each_offset_once(settings, tmp_path / point, 1_000)


@pytest.mark.long
def test_a_process_that_was_stopped_beyond_its_session_cannot_settle_when_it_comes_back(
    settings: Settings, tmp_path: Path
) -> None:
    produce(settings, 900, PRODUCERS)
    effects = tmp_path / "effects"
    zombie = Worker(settings, effects, "after_effect", "STOP")
    os.waitid(os.P_PID, zombie.process.pid, os.WSTOPPED | os.WNOWAIT)
    Worker(settings, effects).wait()
    produce(settings, 100, PRODUCERS)
    zombie.process.send_signal(signal.SIGCONT)
    said = zombie.wait()
    assert said.startswith(("lost ranges dropped", "lost commit refused")), said
    assert_each_offset_once(settings, effects, 1_000)
