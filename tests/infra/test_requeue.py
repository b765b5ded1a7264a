"""Dead letters that go back, against a real broker: each once, whatever happens in between."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tidegate.errors import DependencyUnavailable, Refused
from tidegate.topics import CALLS, DLQ, FEEDBACK, ROLLOUTS
from tidegate_infra import checkup
from tidegate_infra.kafka import client, dead_letters, scan
from tidegate_infra.kafka import requeue as back
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER, DeadLetter
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")


def bury(
    settings: Settings,
    offset: int,
    topic: str = CALLS,
    partition: int = 2,
    stands_in: int = -1,
    **stands: Any,
) -> None:
    letter = DeadLetter(
        topic=topic,
        topic_id=client.topic_id(client.admin(settings), settings.topic_prefix + topic),
        partition=partition,
        offset=offset,
        stage="aggregate",
        reason="unknown_schema",
        error="broken",
    )
    stands = {"key": b"k%d" % offset, "value": b"value of %d" % offset} | stands
    send(settings, [Outgoing(topic=DLQ, partition=stands_in, headers=tuple(letter.headers()), **stands)])


def returned(settings: Settings, topic: str = CALLS) -> list[tuple[Any, ...]]:
    found = [
        (one.partition(), one.key(), one.value(), one.headers()) for one in scan.messages(settings, topic)
    ]
    return sorted(found, key=lambda one: str(one[1]))


def test_a_dead_letter_goes_back_once_into_the_partition_it_came_from_however_often_it_is_asked_for(
    settings: Settings, cli: Any
) -> None:
    bury(settings, 5)
    bury(settings, 6)
    assert checkup._dead_letters(settings).words == "2 were not put back"
    (first, second) = sorted(back.standing(settings), key=lambda one: one.letter.offset)
    misspelt = cli("dlq", "requeue", "--reason", "unknown_shcema", "--yes")
    assert (misspelt.code, misspelt.out) == (3, "")
    assert "'unknown_shcema': did you mean unknown_schema?" in misspelt.err
    assert cli("dlq", "requeue", "--topic", "llm.cals", "--yes").err.endswith("did you mean llm.calls?\n")
    assert cli("dlq", "requeue", "--reason", "oversized_field", "--yes").err.startswith("put back 0 ")
    assert cli("dlq", "requeue", first.id, "--yes").err.startswith("put back 1 dead letters")
    assert cli("dlq", "requeue", "--all", "--yes").err.startswith("1 were put back before")
    # Even when it was read before the other put it back.
    assert back.requeue(settings, [first, second]) == []
    sources = [[(REQUEUED_HEADER, one.letter.coordinates.encode())] for one in (first, second)]
    assert returned(settings) == [
        (2, b"k5", b"value of 5", sources[0]),
        (2, b"k6", b"value of 6", sources[1]),
    ]
    assert [(row["offset"], row["requeued"]) for row in cli("dlq", "list", "--json").rows] == [
        (5, True),
        (6, True),
    ]
    assert checkup._dead_letters(settings).verdict == "ok"


@pytest.mark.long
def test_killed_before_the_commit_nothing_went_back_and_the_next_one_puts_it_back(
    settings: Settings, cli: Any, start_cli: Callable[..., Any]
) -> None:
    bury(settings, 5)
    killed = start_cli("dlq", "requeue", "--all", "--yes", TIDEGATE_CRASH_AT="requeue.before_commit")
    assert killed.wait(60) == -9
    killed.communicate()
    assert cli("dlq", "requeue", "--all", "--yes").code == 0
    assert [value for _, _, value, _ in returned(settings)] == [b"value of 5"]


def test_when_the_answer_to_the_commit_is_lost_it_does_not_go_back_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(settings, 5)
    chosen, make = back.standing(settings), client.producer

    class Unanswered:
        def __init__(self, *where: Any, **conf: Any) -> None:
            self.real = make(*where, **conf)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def commit_transaction(self, seconds: float) -> None:
            self.real.commit_transaction(seconds)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(client, "producer", Unanswered)
    with pytest.raises(DependencyUnavailable, match="Run it again"):
        back.requeue(settings, chosen)
    monkeypatch.undo()
    assert back.requeue(settings, chosen) == []
    assert len(returned(settings)) == 1


@pytest.mark.long
def test_too_many_go_back_in_parts_and_those_that_are_too_large_stay_and_are_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With the header of a copy it is larger than the topic takes; the other one was when it came.
    bury(settings, 0, value=random.Random(1).randbytes(1_048_500), partition=0)
    bury(settings, 1, key=None, value=b"")
    for offset in range(2, 6):
        bury(settings, offset)
    chosen, make, told = back.standing(settings), client.producer, list[str]()
    monkeypatch.setattr(client, "producer", lambda *a, **kw: make(*a, queue_buffering_max_messages=5, **kw))
    assert {one.letter.offset for one in back.requeue(settings, chosen, told.append)} == {2, 3, 4, 5}
    assert [key for _, key, _, _ in returned(settings)] == [b"k2", b"k3", b"k4", b"k5"]
    stay = {one.letter.offset: one.id for one in chosen}
    assert told == [
        f"{stay[1]} stays: it has no bytes",
        f"{stay[0]} stays: with the header of a copy it is too large for llm.calls",
    ]


@pytest.mark.long
def test_a_mark_stands_in_the_partition_of_its_letter_which_may_have_no_key(settings: Settings) -> None:
    for partition in range(3):
        bury(settings, partition, FEEDBACK, key=None, stands_in=partition)
    back.requeue(settings, back.standing(settings))
    found = [
        (one.partition(), dead_letters.read(one.headers()).offset) for one in scan.messages(settings, DLQ)
    ]
    assert sorted(found) == [(0, 0), (0, 0), (1, 1), (1, 1), (2, 2), (2, 2)]


def test_into_a_topic_that_keeps_the_last_of_a_key_nothing_older_goes_back(
    settings: Settings, cli: Any
) -> None:
    bury(settings, 0, ROLLOUTS, 0)
    with pytest.raises(Refused, match=r"nothing can be put back into llm\.rollouts"):
        back.requeue(settings, back.standing(settings))
    (row,) = cli("dlq", "list", "--json").rows
    assert cli("dlq", "requeue", row["id"], "--yes").code == 5
    assert cli("dlq", "requeue", "--all", "--yes").code == 0
    assert returned(settings, ROLLOUTS) == []
