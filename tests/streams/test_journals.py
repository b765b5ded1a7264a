"""The shell around the fold, without Kafka: what may be sent, when, and in which order."""

import asyncio
import copy
import time
from types import SimpleNamespace

import pytest
from tests.streams.shell import PARTITION, START, ago, assign, assigned, command, decide, run, take

from tidegate.errors import InvariantBroken
from tidegate.records import WindowMetricsBatch
from tidegate_infra.settings import Settings
from tidegate_streams import fence, journals, published
from tidegate_streams.journals import STALLED_SECONDS
from tidegate_streams.published import Published


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


def test_a_process_whose_partitions_go_elsewhere_is_not_ready_until_it_is_told_what_it_has(known):
    async def scenario():
        held = await assigned(end=0)
        await held.settle()
        states = held._process.states
        assert states[-1] == "ready"
        await held.revoke()
        await held.settle()
        assert states[-1] == "partitions are being assigned"
        held.assign(set())
        await held.recall()
        await held.settle()
        return states[-1]

    assert run(scenario()) == "ready"


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


@pytest.mark.parametrize("is_assigned_anew", [False, True])
def test_nothing_is_sent_until_the_group_was_heard_of_again_after_standing_still(
    known, monkeypatch, journal, is_assigned_anew
):
    decide(monkeypatch, command(1))

    async def scenario():
        held = await assigned()
        held.outbox.go_on.set()
        held.heard(ago(Settings().kafka_session_ms))
        # The process may have stood still between the group's answer and this.
        if is_assigned_anew:
            await assign(held, 0, 0)
        taking = asyncio.create_task(take(held, 0, journal().beat(START)))
        await asyncio.sleep(0.1)
        assert held.outbox.sent == []
        held.heard(fence.now())
        await taking
        return [one.revision for one in held.outbox.sent]

    assert run(scenario()) == [1]


def test_a_process_that_stood_still_and_lost_its_partitions_sends_nothing_more(known, monkeypatch, journal):
    decide(monkeypatch, command(1))

    async def scenario():
        held = await assigned()
        held.outbox.go_on.set()
        held.heard(ago(Settings().kafka_session_ms))
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
