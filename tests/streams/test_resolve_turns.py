"""What a resolver commits, and when: without Kafka or a store."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from tests.streams.test_resolve import SERIES, ranged, thumb

from tidegate_infra.kafka.claims import ClaimLost
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_streams.resolve import process
from tidegate_streams.resolve.process import Resolver
from tidegate_streams.resolve.ratings import Answer

SETTLED = ranged(thumb(series=SERIES))


class Consumer:
    """Has one range after the other, and notes what is committed."""

    def __init__(self, ranges, *, refuses=False):
        self._ranges = iter(ranges)
        self.epoch, self.commits, self.polls = 0, [], 0
        self._refuses = refuses

    def poll(self, _):
        self.polls += 1
        return [range_] if (range_ := next(self._ranges, None)) else []

    def idle(self, timeout):
        # Not to be told from a poll that nothing is taken of.
        self.polls += timeout > 0
        self.epoch += self._refuses

    def claim(self, ranges):
        self.commits.append(([], [range_.lo for range_ in ranges]))

    def settle_and_claim(self, ranges):
        if self._refuses:
            raise ClaimLost("the group has given this process up")
        following = self.poll(0)
        self.commits.append(([one.lo for one in ranges], [one.lo for one in following]))
        return following

    def settle(self, ranges):
        self.commits.append(([one.lo for one in ranges], []))

    def valid(self, _):
        return True

    def positions(self):
        return {}


@pytest.fixture
def resolver(monkeypatch):
    """Make a resolver that reads from a consumer, and is told nothing of any call."""
    monkeypatch.setattr(process, "_PAUSE_S", 0.0)
    monkeypatch.setattr(process, "Deliveries", lambda _: SimpleNamespace(settle=lambda _: None))
    stored = SimpleNamespace(
        ends=lambda places: dict.fromkeys(places, 9), ends_of=lambda _: {}, reach=lambda _: True
    )
    monkeypatch.setattr(process, "Settled", lambda *_: stored)

    def make(consumer, answer=None):
        monkeypatch.setattr(process, "RangeConsumer", lambda *_, **__: consumer)
        calls = SimpleNamespace(ask=lambda *_, **__: answer or Answer({}, set()))
        return Resolver(Process("resolve", Settings()), calls, patience_s=1e9)

    return make


def behind(range_, offset):
    """The same range, further on in its partition."""
    return replace(range_, lo=offset, hi=offset)


def test_a_range_that_follows_on_another_is_claimed_in_the_commit_that_settles_that_one(resolver):
    consumer = Consumer([behind(SETTLED, offset) for offset in range(3)])
    one = resolver(consumer)
    for _ in range(6):
        one.turn()
    assert consumer.commits == [([], [0]), ([0], [1]), ([1], [2]), ([2], [])]


def test_a_range_stays_claimed_until_something_has_become_of_all_its_ratings(resolver):
    consumer = Consumer([ranged(thumb())])
    resolved = Answer({}, set())
    one = resolver(consumer, resolved)
    for _ in range(5):
        one.turn()
        one._thread.submit(int).result()
    assert (consumer.commits, one.open) == ([([], [0])], 1)
    resolved.resolved.add(("acme", "rating-1"))
    for _ in range(3):
        one.turn()
        one._thread.submit(int).result()
    assert (consumer.commits[1:], one.open) == ([([0], [])], 0)


def test_one_that_ends_settles_what_is_done_and_leaves_what_waits_to_the_next(resolver):
    consumer = Consumer([SETTLED, replace(ranged(thumb()), partition=1, lo=7)])
    one = resolver(consumer)
    for _ in range(2):
        one.turn()
        one._thread.submit(int).result()
    one.finish()
    assert consumer.commits == [([], [0]), ([0], [7])]
    one = resolver(consumer := Consumer([SETTLED]))
    one.turn()
    one.finish()
    assert consumer.commits == [([], [0]), ([0], [])]


def test_one_that_the_group_has_given_up_goes_on_polling_and_forgets_what_it_had(resolver):
    consumer = Consumer([SETTLED], refuses=True)
    one = resolver(consumer)
    one.turn()
    polls = consumer.polls
    one.turn()
    assert (consumer.polls, one._waiting) == (polls + 1, {})
