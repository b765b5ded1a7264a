"""What becomes of ratings without a series: the same, whatever the order, the splits and the deaths."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from clickhouse_connect.driver.binding import str_query_value
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from tidegate import codec
from tidegate.records import Evaluation, Feedback, Series
from tidegate.topics import CLAMP_US, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka.ranges import Range
from tidegate_streams.resolve.calls import days, questions
from tidegate_streams.resolve.ratings import Answer, Lonely, decide, lonely

APPENDED_MS = 1_760_000_010_000
DAY_US = 86_400_000_000
SERIES = Series(
    app="support",
    environment="prod",
    deployment="chat",
    variant="base",
    operation="chat",
    provider="openai",
    request_model="gpt-4o",
    traffic="live",
    comparable=True,
)


def thumb(**changes: Any) -> Feedback:
    plain = Feedback(
        event_id="rating-1",
        ts=1_760_000_005_000_000,
        tenant="acme",
        name="helpful",
        target_event_id="call-1",
        kind="thumbs",
        value=1.0,
        positive=True,
        given_by="user",
    )
    return replace(plain, **changes)


def ranged(*records: Any, topic: str = FEEDBACK, redo: bool = False) -> Range:
    messages = [
        Message(
            topic=topic,
            partition=0,
            offset=offset,
            key=b"key",
            value=record if isinstance(record, bytes) else codec.encode(record),
            timestamp=(2, APPENDED_MS),
        )
        for offset, record in enumerate(records)
    ]
    hi = len(messages) - 1
    return Range(topic=topic, topic_id="id", partition=0, lo=0, hi=hi, messages=messages, redo=redo, epoch=1)


def rating(**changes: Any) -> Lonely:
    [found], _ = lonely(ranged(thumb(**changes)))
    return found


@pytest.mark.parametrize("redo", [False, True])
def test_only_what_names_a_call_and_lacks_its_series_is_looked_up(redo: bool) -> None:
    about_a_session = thumb(target_event_id=None, target_session_id="s-1")
    found, elsewhere = lonely(
        ranged(thumb(series=SERIES), thumb(), about_a_session, b"poison", thumb(value=7.0), redo=redo)
    )
    assert [(one.message.offset(), one.record) for one in found] == [(1, thumb())]
    assert elsewhere == 1


def test_a_rating_that_could_not_be_written_again_is_left_to_the_sink() -> None:
    text = codec.as_json(thumb()).replace('"seq": null', f'"seq": {10**30}')
    assert str(10**30) in text
    assert lonely(ranged(text.encode(), thumb()))[0][0].message.offset() == 1


def test_a_rating_whose_comment_is_no_utf_8_is_looked_up_as_the_sink_stores_it() -> None:
    found, _ = lonely(ranged(codec.encode(thumb(comment="snow")).replace(b"snow", b"sn\xffw")))
    assert [one.record for one in found] == [thumb(comment="sn\ufffdw")]


def test_evaluations_are_looked_up_but_those_of_a_dataset() -> None:
    judged = Evaluation(
        event_id="e",
        ts=1,
        tenant="acme",
        name="correct",
        kind="judge",
        evaluator="j",
        target_event_id="call-1",
    )
    of_dataset = replace(judged, target_event_id=None, dataset_item_id="item")
    found, elsewhere = lonely(ranged(judged, of_dataset, topic=EVALUATIONS))
    assert [one.record for one in found] == [judged]
    assert elsewhere == 1


def test_a_completed_rating_is_the_same_but_for_its_series() -> None:
    open_rating = rating(comment="why", tags=["x"])
    outcome = decide([open_rating], Answer({("acme", "call-1"): SERIES}, ()), final=False)
    assert outcome.complete == [(open_rating, replace(open_rating.record, series=SERIES))]
    assert outcome.open == outcome.unknown == []


def test_a_rating_from_the_future_keeps_the_time_that_it_was_counted_at() -> None:
    late_clock = rating(ts=(APPENDED_MS + 3_600_000) * 1_000)
    outcome = decide([late_clock], Answer({("acme", "call-1"): SERIES}, ()), final=False)
    assert outcome.complete[0][1].ts == APPENDED_MS * 1_000 + CLAMP_US


def test_the_call_of_another_tenant_is_not_the_one() -> None:
    outcome = decide([rating()], Answer({("other", "call-1"): SERIES}, ()), final=True)
    assert [one.identity for one in outcome.unknown] == [("acme", "rating-1")]


def test_a_name_that_no_call_can_have_is_not_waited_for() -> None:
    outcome = decide([rating(target_event_id="x" * 257)], Answer({}, ()), final=False)
    assert len(outcome.unknown) == 1


def test_a_call_is_looked_for_about_the_time_in_its_id_and_before_its_rating() -> None:
    at_ms = 1_759_000_000_000  # 2025-09-27
    uuid7 = str(UUID(int=at_ms << 80 | 7 << 76 | 2 << 62))
    rated = 1_760_000_005_000_000  # 2025-10-09
    assert set(days(rating(target_event_id=uuid7, ts=rated))) == {
        20250926, 20250927, 20250928, 20251008, 20251009,
    }  # fmt: skip
    for id_ in ("call-1", str(UUID(int=4 << 76)), "ffffffff-ffff-7fff-bfff-ffffffffffff", "x" * 14 + "7"):
        assert set(days(rating(target_event_id=id_, ts=rated))) == {20251008, 20251009}
    assert len(set(days(rating(ts=0)))) == 2


@pytest.mark.parametrize("mark", ["a", "'", "\\"])
def test_no_question_is_longer_than_a_statement_may_be_whatever_has_to_be_escaped(mark: str) -> None:
    [plain] = lonely(ranged(thumb()))[0]
    long: dict[str, Any] = dict.fromkeys(("name", "event_id", "target_event_id"), mark * 256)
    longest = replace(plain, record=replace(plain.record, **long))
    ratings = [plain] * 401 + [longest] * 401
    asked = list(questions(ratings))
    assert list(itertools.chain(*asked)) == ratings
    assert max(map(len, asked)) == 400
    for some in asked:
        identities = [[one.record.tenant, one.record.name, one.record.event_id] for one in some]
        assert len(str_query_value(identities)) < 250_000


class World:
    """A partition of ratings and a store, and a resolver that may die between any two of its effects."""

    def __init__(self, records: list[Feedback], calls: set[str]) -> None:
        self.open = lonely(ranged(*records))[0]
        self.calls = calls
        self.stored: set[str] = set()
        self.published: list[tuple[str, str]] = []
        self.letters: set[int] = set()

    def look(self, ratings: list[Lonely], dies_after: int | None, *, final: bool) -> list[Lonely] | None:
        """Resolve what can be, and return what waits; None when the process died."""
        series = {("acme", one): SERIES for one in self.stored}
        # The store is asked only when it holds whatever was published before.
        outcome = decide(ratings, Answer(series, set(self.published)), final=final)
        effects: list[Callable[[], Any]] = [
            lambda one=one: self.published.append(one.identity)  # type: ignore[misc]
            for one, _ in outcome.complete
        ]
        effects += [
            lambda one=one: self.letters.add(one.message.offset() or 0)  # type: ignore[misc]
            for one in outcome.unknown
        ]
        for effect in effects[:dies_after]:
            effect()
        return None if dies_after is not None else outcome.open


@given(
    made=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=12),
    come=st.lists(st.integers(0, 4), max_size=5, unique=True),
    cuts=st.sets(st.integers(1, 11)),
    deaths=st.lists(st.none() | st.integers(0, 3), max_size=8),
)
def test_every_rating_is_published_once_or_dead_lettered_whatever_splits_and_dies(
    made: list[tuple[int, int]], come: list[int], cuts: set[int], deaths: list[int | None]
) -> None:
    # A rating's call follows from its id: copies are copies.
    records = [thumb(event_id=f"r{number}", target_event_id=f"c{number % 5}") for number, _ in made]
    world = World(records, {f"c{number}" for number in come})
    arriving = iter([f"c{number}" for number in come])
    dying = itertools.chain(deaths, itertools.repeat(None))
    edges = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    for lo, hi in itertools.pairwise(edges):
        waiting: list[Lonely] = world.open[lo:hi]
        while waiting:
            call = next(arriving, None)
            world.stored |= {call} if call else set()
            left = world.look(waiting, next(dying), final=call is None)
            waiting = world.open[lo:hi] if left is None else left
    has_come = {one.identity for one in world.open if one.call[1] in world.calls}
    assert sorted(world.published) == sorted(has_come)
    assert world.letters == {
        offset for offset, record in enumerate(records) if record.target_event_id not in world.calls
    }
