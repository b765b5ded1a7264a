"""What counts as settled from outside, against a real broker."""

import time
from contextlib import closing

import pytest

from tidegate.topics import CALLS
from tidegate_infra.kafka import client
from tidegate_infra.kafka.settled import Settled
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")


def test_what_stands_behind_an_open_transaction_is_not_settled_and_the_mark_of_one_that_is_over_is(
    settings: Settings,
) -> None:
    topic = settings.topic_prefix + CALLS
    transaction, other = client.producer(settings, transactional_id=topic), client.producer(settings)
    with closing(Settled(settings, "sink", [CALLS])) as settled:
        transaction.init_transactions(30)
        transaction.begin_transaction()
        transaction.produce(topic, b"undone", b"k", partition=0)
        assert transaction.flush(20) == 0
        end = settled.ends([(CALLS, 0)])
        assert not settled.reach(end)
        transaction.abort_transaction(30)
        # The mark comes a moment after the answer.
        until_s = time.monotonic() + 20
        while not settled.reach(end):
            assert time.monotonic() < until_s

        transaction.begin_transaction()
        transaction.produce(topic, b"undone", b"k", partition=1)
        assert transaction.flush(20) == 0
        other.produce(topic, b"call", b"k", partition=1)
        assert other.flush(20) == 0
        ends = settled.ends([(CALLS, 1)])
        assert not settled.reach(ends)
        transaction.abort_transaction(30)
        assert not settled.reach(ends)
