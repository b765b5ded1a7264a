"""The shell around the fold, without Kafka: what may be sent, when, and in which order."""

import asyncio
import copy
import threading
import time
from types import SimpleNamespace

import pytest
import structlog
from faust.types import TP
from prometheus_client import CollectorRegistry

from tidegate.codec import encode
from tidegate.errors import DependencyUnavailable, InvariantBroken
from tidegate.records import DeploymentCommand, SourceOffset, WindowMetricsBatch
from tidegate_infra.settings import Settings
from tidegate_streams import fold, journals, published
from tidegate_streams import journal as journal_module
from tidegate_streams.journals import STALLED_SECONDS, Journals
from tidegate_streams.published import Published
from tidegate_streams.rollouts.state import State as Deployment

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
    monkeypatch.setattr(published, "read", lambda *_: stands)
    return stands


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
    )
    held = Journals(process)
    held.outbox = SlowOutbox()
    held.shelf = shelf or Shelf()
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


def test_nothing_is_published_again_while_a_newer_command_is_on_its_way(known, monkeypatch, journal):
    known.note(command(2))
    known.note(command(1))
    decide(monkeypatch, command(3))

    async def scenario():
        held = await assigned(end=0)
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
        held = await assigned()
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
    monkeypatch.setattr(published, "read", lambda *_: copy.deepcopy(stands))
    decide(monkeypatch, command(1))

    async def scenario():
        held = await assigned()
        stale = asyncio.create_task(take(held, 0, journal().beat(START)))
        await held.outbox.sending.wait()
        coming_back = asyncio.create_task(assign(held, 0, 1))
        await asyncio.sleep(0.01)
        stands.note(command(1))
        held.outbox.go_on.set()
        await asyncio.gather(stale, coming_back)
        await take(held, 0, journal().beat(START))
        return [one.revision for one in held.outbox.sent]

    assert run(scenario()) == [1]


def test_a_message_of_an_earlier_assignment_is_not_taken_for_the_first(known, monkeypatch, journal):
    decide(monkeypatch)

    async def scenario():
        held = await assigned(start=0, end=10)
        await take(held, 7, journal().beat(START))
        assert held.position(PARTITION) == 0
        await take(held, 0, journal().beat(START))
        assert held.position(PARTITION) == 1

    run(scenario())


def test_a_gap_in_the_journal_ends_the_process(known, monkeypatch, journal):
    decide(monkeypatch)

    async def scenario():
        held = await assigned(start=0, end=10)
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
        held = await assigned(start=0, end=end)
        await take(held, 0, journal().beat(START))

    run(scenario())
    assert asked == shown
    batch = WindowMetricsBatch(partition=2, offset=0, watermark=START, rows=b"")
    assert [known.lacks(batch)] == shown


def test_nothing_is_sent_until_the_group_was_heard_of_again_after_standing_still(known, monkeypatch, journal):
    decide(monkeypatch, command(1))

    async def scenario():
        held = await assigned()
        held.outbox.go_on.set()
        held.heard(time.monotonic() - Settings().kafka_session_ms / 1_000)
        taking = asyncio.create_task(take(held, 0, journal().beat(START)))
        await asyncio.sleep(0.1)
        assert held.outbox.sent == []
        held.heard(time.monotonic())
        await taking
        return [one.revision for one in held.outbox.sent]

    assert run(scenario()) == [1]


def test_a_process_that_stood_still_and_lost_its_partitions_sends_nothing_more(known, monkeypatch, journal):
    decide(monkeypatch, command(1))

    async def scenario():
        held = await assigned()
        held.outbox.go_on.set()
        held.heard(time.monotonic() - Settings().kafka_session_ms / 1_000)
        taking = asyncio.create_task(take(held, 0, journal().beat(START)))
        await asyncio.sleep(0.1)
        await held.revoke()
        await taking
        return held.outbox.sent

    assert run(scenario()) == []


def test_a_command_that_a_zombie_has_hidden_since_is_published_again(known, monkeypatch, journal):
    decide(monkeypatch, command(1))

    async def scenario():
        held = await assigned()
        held.outbox.go_on.set()
        await held.settle()
        await take(held, 0, journal().beat(START))
        for revisions in ([1, 2], [2, 1], [1, 2]):
            late = Published()
            for revision in revisions:
                late.note(command(revision))
            monkeypatch.setattr(published, "read", lambda *_, late=late: late)
            await held.look_again()
        return [one.revision for one in held.outbox.sent]

    assert run(scenario()) == [1, 2]


def test_a_snapshot_holds_only_what_has_been_sent_and_is_made_once_in_a_while(known, monkeypatch, journal):
    decide(monkeypatch, command(1))
    monkeypatch.setattr(journal_module, "SNAPSHOT_MESSAGES", 1)
    shelf = Shelf()

    async def scenario():
        held = await assigned(shelf=shelf)
        taking = asyncio.create_task(take(held, 0, journal().beat(START)))
        await held.outbox.sending.wait()
        await asyncio.sleep(0.05)
        assert shelf.written == []
        held.outbox.go_on.set()
        await taking
        for offset in range(1, 4):
            await take(held, offset, journal().beat(START))
        await asyncio.to_thread(shelf.has_written.wait, 5)

    run(scenario())
    assert [(partition, next_offset) for partition, next_offset, _ in shelf.written] == [(2, 1)]


def test_a_restart_goes_on_from_a_snapshot_where_the_journal_reaches_it(known, journal):
    async def scenario(start, end):
        held = await assigned(start, end, Shelf((7, fold.State(2))))
        return held.position(PARTITION)

    assert run(scenario(0, 9)) == 7
    assert run(scenario(8, 9)) == 8
    assert run(scenario(0, 6)) == 0


def test_a_snapshot_that_has_not_decided_what_was_published_is_not_used(known, journal):
    known.note(command(1))
    state = fold.State(2)

    async def scenario():
        return (await assigned(0, 9, Shelf((7, state)))).position(PARTITION)

    assert run(scenario()) == 0
    state.rollouts["acme/prod/chat"] = Deployment("acme/prod/chat", revision=1)
    assert run(scenario()) == 7


def test_what_was_read_for_an_earlier_assignment_does_not_say_where_a_later_one_begins(known, journal):
    async def scenario():
        held = await assigned(0, 9, Shelf((7, fold.State(2))))
        held.assign({PARTITION})
        await held.begin(PARTITION, 0, 5)
        assert held.position(PARTITION) is None
        await held.recall()
        await held.begin(PARTITION, 0, 9)
        return held.position(PARTITION)

    assert run(scenario()) == 7


def test_a_state_that_cannot_be_kept_is_said_and_the_fold_goes_on(known, monkeypatch, journal):
    decide(monkeypatch)
    monkeypatch.setattr(journal_module, "SNAPSHOT_MESSAGES", 1)
    shelf = Shelf()

    async def scenario():
        held = await assigned(shelf=shelf)
        monkeypatch.setattr(journals.frozen, "freeze", lambda _: print + 1)
        await take(held, 0, journal().beat(START))
        await take(held, 1, journal().beat(START))
        return held.position(PARTITION)

    assert run(scenario()) == 2
    assert shelf.written == []


def test_a_shelf_that_does_not_answer_makes_a_restart_longer_and_nothing_else(known, monkeypatch, journal):
    class Broken(Shelf):
        def read(self, _):
            raise DependencyUnavailable("Kafka does not answer")

        def write(self, *_):
            raise DependencyUnavailable("Kafka does not answer")

    decide(monkeypatch, command(1))
    monkeypatch.setattr(journal_module, "SNAPSHOT_MESSAGES", 1)

    async def scenario():
        held = await assigned(3, 9, Broken())
        held.outbox.go_on.set()
        for offset in (3, 4):
            await take(held, offset, journal().beat(START))
        return held.position(PARTITION)

    assert run(scenario()) == 5


def test_a_partition_that_stands_still_although_messages_wait_ends_the_process(known, monkeypatch, journal):
    clock = [time.monotonic()]
    monkeypatch.setattr(journals, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    async def scenario():
        held = await assigned(0, 0)
        for ends in ({2: 5}, {2: 0}, {}, {2: 5}):
            held.check_progress(ends)
            clock[0] += STALLED_SECONDS + 1

    with pytest.raises(InvariantBroken, match="has 5 messages and none was applied for 60 s"):
        run(scenario())
    assert clock[0] > time.monotonic() + 2 * STALLED_SECONDS
