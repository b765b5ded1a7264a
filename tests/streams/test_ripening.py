"""Ratings are compared once each, with those of calls of the same time, whenever they come."""

import copy
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts.ripening import Batch, Unripe
from tidegate_streams.rollouts.strata import Rating, Stratum, VariantPane
from tidegate_streams.waits import WAITS, call_time, wait_of

HOUR_US = 3_600_000_000
START_US = 472_222 * HOUR_US
METRIC = "feedback.thumbs"
CALLS_US = st.integers(0, 60 * HOUR_US)
DAYS = START_US + 100 * 24 * HOUR_US


def rating(variant, call_us, n=1, bad=0, revision=1, metric=METRIC):
    return Rating(revision, metric, variant, START_US + call_us, n, bad)


@st.composite
def arrivals(draw):
    """Ratings by the look that finds them: pane of their call, and how many panes later they come."""
    found = {}
    for _ in range(draw(st.integers(1, 25))):
        call, delay = draw(st.integers(0, 40)), draw(st.sampled_from([0, 0, 1, 2, 3, 5, 9, 30, 200, 20_000]))
        one = rating(
            draw(st.sampled_from(["v1", "v2"])),
            call * PANE_US,
            n=draw(st.integers(1, 5)),
            revision=draw(st.sampled_from([1, 2])),
            metric=draw(st.sampled_from([METRIC, "evaluation.faithful"])),
        )
        found.setdefault(call + delay, []).append(one._replace(bad=draw(st.integers(0, one.n))))
    return found


def looked(unripe, found, until=None):
    """What each look compares, and once all waits are over what is left."""
    looks = sorted({*found, *range(60), *(60 * one for one in range(1, 10))})
    for look in looks[:until]:
        end_us = START_US + (look + 1) * PANE_US
        yield end_us, unripe.look(end_us, found.get(look, []))
    if until is None:
        yield DAYS, unripe.look(DAYS, [])


@settings(deadline=None)
@given(call_us=CALLS_US, age_us=st.integers(0, 60 * HOUR_US), later_us=st.integers(0, 60 * HOUR_US))
def test_the_time_of_a_call_is_told_as_exactly_as_any_later_look_asks(call_us, age_us, later_us):
    rated_us = call_us + age_us
    times = pl.DataFrame({"call": [call_us], "rated": [rated_us]})
    (told,) = times.select(call_time(pl.col("call"), pl.col("rated"))).to_series()
    look_us = (rated_us + later_us) // PANE_US * PANE_US + PANE_US
    wait = wait_of(call_us, look_us)
    if wait is None:
        assert told is None or wait_of(told, look_us) is None
    else:
        assert wait_of(told, look_us) == wait
        assert WAITS[wait].block_of(told) == WAITS[wait].block_of(call_us)


@given(arrivals())
@settings(deadline=None)
def test_each_rating_is_compared_once_after_its_call_in_its_block_and_no_stratum_twice(found):
    came = Counter()
    for look, ratings in found.items():
        for one in ratings:
            if wait_of(one.call_us, START_US + (look + 1) * PANE_US) is not None:
                came[one.revision, one.metric, one.variant] += one.n
                came[one.revision, one.metric, one.variant, "bad"] += one.bad
    compared, strata = Counter(), Counter()
    for end_us, ripe in looked(Unripe(), found):
        for batch, counts in ripe.items():
            strata[batch] += 1
            wait = WAITS[batch.wait]
            assert batch.block_us == wait.block_of(batch.block_us)
            assert wait.due_us(batch.block_us) <= end_us
            for variant, (n, bad) in counts.items():
                compared[batch.revision, batch.metric, variant] += n
                compared[batch.revision, batch.metric, variant, "bad"] += bad
    assert compared == came
    assert set(strata.values()) <= {1}


@given(arrivals(), st.data())
@settings(deadline=None)
def test_what_waits_survives_a_snapshot(found, data):
    whole = list(looked(Unripe(), found))
    cut = data.draw(st.integers(0, len(whole) - 1))
    begun = Unripe()
    assert list(looked(begun, found, until=cut)) == whole[:cut]
    again = thaw(freeze(copy.deepcopy(begun)).pack())
    assert again == begun
    rest = [
        (end_us, again.look(end_us, found.get((end_us - START_US) // PANE_US - 1, [])))
        for end_us, _ in whole[cut:]
    ]
    assert rest == whole[cut:]


@given(arrivals())
@settings(deadline=None)
def test_when_something_is_compared_depends_on_how_many_ratings_came_and_not_on_what_they_say(found):
    def sizes(bad):
        answers = {look: [one._replace(bad=one.n * bad) for one in some] for look, some in found.items()}
        return [
            {batch: {variant: n for variant, (n, _) in counts.items()} for batch, counts in ripe.items()}
            for _, ripe in looked(Unripe(), answers)
        ]

    assert sizes(0) == sizes(1)


def test_ratings_of_the_same_calls_meet_though_those_of_one_variant_come_ten_minutes_later():
    unripe, met = Unripe(), 0
    for look in range(200):
        ratings = [rating("v2", look * PANE_US)]
        if look >= 60:
            ratings.append(rating("v1", (look - 60) * PANE_US, n=9))
        for batch, counts in unripe.look(START_US + (look + 1) * PANE_US, ratings).items():
            if look > 140 and {"v1", "v2"} <= counts.keys():
                met += 1
                assert WAITS[batch.wait].age_us == 600_000_000
                assert counts == {"v1": (54, 0), "v2": (6, 0)}
    assert met == 10


def test_a_variant_that_is_alone_is_not_waited_for():
    unripe = Unripe()
    for look in range(5):
        end_us = START_US + (look + 1) * PANE_US
        ripe = unripe.look(end_us, [rating("v1", look * PANE_US)])
        assert ripe == {Batch(0, 1, METRIC, end_us - PANE_US): {"v1": (1, 0)}}


def test_ratings_of_calls_that_are_too_old_decide_nothing_and_nothing_is_kept_of_what_ended():
    unripe = Unripe()
    late_us = START_US + 3_100 * 60_000_000
    assert unripe.look(late_us, [rating("v1", 0)]) == {}
    assert unripe.is_empty
    unripe.look(late_us, [rating("v1", 3_000 * 60_000_000)])
    assert not unripe.is_empty
    unripe.look(DAYS, [])
    assert unripe.is_empty


@pytest.mark.parametrize("is_judged", [True, False])
def test_only_ratings_that_decide_wait(is_judged):
    pane = START_US + 6 * PANE_US
    arrived = VariantPane(calls=7, rates={"error_rate": (7, 0), METRIC: (3, 1)})
    strata = Unripe().compared(
        pane + PANE_US,
        {Stratum(1, pane, is_late=False): {"v1": arrived}},
        [rating("v1", 0, n=3, bad=1)],
        lambda *_: is_judged,
    )
    (shown,) = (variants["v1"] for variants in strata.values())
    assert shown.rates == {"error_rate": (7, 0)} | ({} if is_judged else {METRIC: (3, 1)})
    assert shown.rated == ({METRIC: (3, 1)} if is_judged else {})
