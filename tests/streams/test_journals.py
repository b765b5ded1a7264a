"""The shell around the fold, without Kafka: what may be sent, when, and in which order."""

import asyncio
import copy
from types import SimpleNamespace

import pytest
import structlog
from faust.types import TP
from prometheus_client import CollectorRegistry

from tidegate.codec import encode
from tidegate.errors import InvariantBroken
from tidegate.records import DeploymentCommand, SourceOffset, WindowMetricsBatch
from tidegate_infra.settings import Settings
from tidegate_streams import journals, published
from tidegate_streams.journals import Journals
from tidegate_streams.published import Published

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


@pytest.fixture
def known(monkeypatch):
    """What stands in the topics, instead of reading it back; every reading gets a copy."""
    stands = Published()
    monkeypatch.setattr(published, "read", lambda _: stands)
    return stands


def assigned(start=0, end=0):
    states = []
    process = SimpleNamespace(
        settings=Settings(),
        metrics=CollectorRegistry(),
        log=structlog.get_logger(),
        ready=lambda: states.append("ready"),
        not_ready=states.append,
    )
    held = Journals(process)
    held.outbox = SlowOutbox()
    held.assign({PARTITION})
    held.begin(PARTITION, start, end)
    return held


def decide(monkeypatch, *records):
    """Let every message cause these records."""
    monkeypatch.setattr(journals.fold, "apply", lambda *_, **__: list(records))


async def take(held, offset, message):
    await held.take(2, offset, None, encode(message))


def test_nothing_is_published_again_while_a_newer_command_is_on_its_way(known, monkeypatch, journal):
    known.note(command(2))
    known.note(command(1))
    decide(monkeypatch, command(3))

    async def scenario():
        held = assigned(end=0)
        taking = asyncio.create_task(take(held, 0, journal().beat(START)))
        await held.outbox.sending.wait()
        settling = asyncio.create_task(held.settle())
        await asyncio.sleep(0)
        held.outbox.go_on.set()
        await asyncio.gather(taking, settling)
        return [one.revision for one in held.outbox.sent]

    assert run(scenario()) == [3]


def test_a_revocation_ends_when_what_was_being_sent_is_sent_and_nothing_follows(known, monkeypatch, journal):
    decide(monkeypatch, command(1), command(2))

    async def scenario():
        held = assigned()
        taking = asyncio.create_task(take(held, 0, journal().beat(START)))
        await held.outbox.sending.wait()
        revoking = asyncio.create_task(held.revoke())
        await asyncio.sleep(0.01)
        assert not revoking.done()
        held.outbox.go_on.set()
        await revoking
        sent = [one.revision for one in held.outbox.sent]
        await taking
        assert [one.revision for one in held.outbox.sent] == sent
        return sent

    assert run(scenario()) == [1]


def test_what_is_still_being_sent_when_partitions_come_back_is_there_before_it_is_read_back(
    monkeypatch, journal
):
    stands = Published()
    monkeypatch.setattr(published, "read", lambda _: copy.deepcopy(stands))
    decide(monkeypatch, command(1))

    async def scenario():
        held = assigned()
        stale = asyncio.create_task(take(held, 0, journal().beat(START)))
        await held.outbox.sending.wait()
        held.assign({PARTITION})
        held.begin(PARTITION, 0, 1)
        again = asyncio.create_task(take(held, 0, journal().beat(START)))
        await asyncio.sleep(0.01)
        stands.note(command(1))
        held.outbox.go_on.set()
        await asyncio.gather(stale, again)
        return [one.revision for one in held.outbox.sent]

    assert run(scenario()) == [1]


def test_a_message_of_an_earlier_assignment_is_not_taken_for_the_first(known, monkeypatch, journal):
    decide(monkeypatch)

    async def scenario():
        held = assigned(start=0, end=10)
        await take(held, 7, journal().beat(START))
        assert held.position(PARTITION) == 0
        await take(held, 0, journal().beat(START))
        assert held.position(PARTITION) == 1

    run(scenario())


def test_a_gap_in_the_journal_ends_the_process(known, monkeypatch, journal):
    decide(monkeypatch)

    async def scenario():
        held = assigned(start=0, end=10)
        await take(held, 0, journal().beat(START))
        await take(held, 2, journal().beat(START))

    with pytest.raises(InvariantBroken, match="lacks 1 to 1"):
        run(scenario())


@pytest.mark.parametrize(("end", "shown"), [(0, [True]), (900, [True]), (901, [False])])
def test_windows_of_a_journal_that_was_there_before_do_not_hide_those_of_this_one(
    known, monkeypatch, journal, end, shown
):
    known.windows[2] = 900
    asked = []
    monkeypatch.setattr(journals.fold, "apply", lambda *_, windows: asked.append(windows) or [])

    async def scenario():
        held = assigned(start=0, end=end)
        await take(held, 0, journal().beat(START))

    run(scenario())
    assert asked == shown
    batch = WindowMetricsBatch(partition=2, offset=0, watermark=START, rows=b"")
    assert [known.lacks(batch)] == shown
