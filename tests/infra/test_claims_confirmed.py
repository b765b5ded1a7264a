"""Claims that are committed once more, so that the group itself says whose they are."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.infra.claiming import Between, Consume, committed, produce, wait_for

from tidegate.topics import ALERTS
from tidegate_infra.kafka.claims import ClaimLost
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")


def test_a_confirmed_claim_stays_as_it_was_and_one_that_the_group_refuses_is_redone(
    settings: Settings, consume: Consume
) -> None:
    produce(settings, 30)
    consumer = consume()
    ranges = wait_for(consumer)
    consumer.claim(ranges, prices="a")
    before = committed(settings, ALERTS)

    def refuse(**_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID))

    between = Between(consumer, commit=refuse)
    with pytest.raises(ClaimLost, match="refused"):
        consumer.confirm(ranges)
    between.undo()
    [redone] = wait_for(consumer)
    consumer.claim([redone])
    consumer.confirm([redone])
    assert committed(settings, ALERTS) == before
    # What an empty group takes says nothing of a process that it has given up.
    member = [between.real.memberid()]

    def given_up(**arguments: Any) -> Any:
        member[0] = ""
        return between.real.commit(**arguments)

    Between(consumer, commit=given_up, memberid=lambda: member[0])
    with pytest.raises(ClaimLost, match="given this process up"):
        consumer.confirm([redone])
