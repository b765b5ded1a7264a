"""The shell around the fold without Kafka: it sends as slowly as it is let, and keeps in memory."""

import asyncio
import threading
from types import SimpleNamespace

import structlog
from faust.types import TP
from prometheus_client import CollectorRegistry

from tidegate.codec import encode
from tidegate.records import DeploymentCommand, SourceOffset
from tidegate_infra.settings import Settings
from tidegate_streams import fence, journals
from tidegate_streams.journals import Journals

START = 1_700_000_000_000_000
PARTITION = TP("llm.partials", 2)


class SlowOutbox:
    """Takes its time to send, as a broker does."""

    def __init__(self):
        self.sent = []
        self.sending = asyncio.Event()
        self.go_on = asyncio.Event()

    async def send(self, record):
        self.sending.set()
        await self.go_on.wait()
        self.sent.append(record)


def run(scenario):
    """Run it; a deadlock is a failure, not a wait."""
    return asyncio.run(asyncio.wait_for(scenario, timeout=10))


def command(revision):
    return DeploymentCommand(
        command_id=f"id-{revision}",
        tenant="acme",
        environment="prod",
        deployment="chat",
        rollout="r",
        generation=1,
        revision=revision,
        action="start",
        state="initialising",
        step=0,
        assignment_unit="user",
        salt="r",
        reason="",
        actor="ada",
        actor_kind="human",
        offsets=[SourceOffset(topic="llm.partials", partition=2, offset=0)],
        ts=START,
    )


def ago(milliseconds):
    """The moment that was so long ago."""
    return tuple(at_s - milliseconds / 1_000 for at_s in fence.now())


class Shelf:
    """Keeps in memory what is written, and gives what it was made with."""

    def __init__(self, found=None):
        self.found = found
        self.written = []
        self.has_written = threading.Event()

    def read(self, _):
        return {2: [b""]}

    def newest(self, _pieces, _partition, start, end):
        return self.found if self.found and start <= self.found[0] <= end else None

    def write(self, partition, next_offset, state):
        self.written.append((partition, next_offset, state))
        self.has_written.set()


async def assigned(start=0, end=0, shelf=None):
    states = []
    process = SimpleNamespace(
        settings=Settings(),
        metrics=CollectorRegistry(),
        log=structlog.get_logger(),
        ready=lambda: states.append("ready"),
        not_ready=states.append,
        states=states,
    )
    held = Journals(process)
    held.outbox = SlowOutbox()
    held.shelf = shelf or Shelf()
    held.heard(fence.now())
    await assign(held, start, end)
    return held


async def assign(held, start, end):
    held.assign({PARTITION})
    await held.recall()
    await held.begin(PARTITION, start, end)


def decide(monkeypatch, *records):
    """Let every message cause these records."""
    monkeypatch.setattr(journals.fold, "apply", lambda *_, **__: list(records))


async def take(held, offset, message):
    await held.take(2, offset, None, encode(message))
