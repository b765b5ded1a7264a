"""When the shell makes a snapshot, and when it goes on from one."""

import asyncio

from tests.streams.shell import PARTITION, START, Shelf, assigned, command, decide, run, take

from tidegate.errors import DependencyUnavailable
from tidegate_streams import fold, journals
from tidegate_streams import journal as journal_module
from tidegate_streams.rollouts.state import State as Deployment


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
