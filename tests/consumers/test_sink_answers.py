"""Whatever the store answers, and whatever it does not: every row stands once."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from tests.consumers.between import FAULTS, Ask, Between, Fault, Reply, honest

from tidegate.errors import DependencyUnavailable
from tidegate_consumers.sink import store as sink_store
from tidegate_consumers.sink.facts import Frames, Reading, facts
from tidegate_consumers.sink.store import Store
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings

pytestmark = pytest.mark.long


@pytest.fixture
def between(migrated: None, settings: Settings) -> Iterator[Between]:
    with closing(Between(settings.clickhouse)) as proxy:
        yield proxy


@pytest.fixture
def rows(between: Between, settings: Settings) -> Iterator[Store]:
    with closing(Store(settings.model_copy(update={"clickhouse": between.address}))) as store:
        yield store


def standing(settings: Settings) -> list[Any]:
    with closing(clickhouse.connect(settings)) as connection:
        found = connection.query("SELECT _offset FROM calls ORDER BY _offset").result_columns
        return list(found[0]) if found else []


def frames_of(range_: Range) -> Frames:
    return facts(range_, Reading([False] * len(range_.messages), PriceBook.load()))


def once(fault: Fault, number: int) -> Fault:
    """Let one request go wrong, by its number."""
    asked = itertools.count(1)
    return lambda ask: (fault if next(asked) == number else honest)(ask)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_wrong_answer_to_any_request_is_found_out_and_every_row_stands_once(
    between: Between, rows: Store, settings: Settings, call: Any, ranged: Any, fault: Fault
) -> None:
    lo = 0
    # One request goes wrong, then the next: of an insert, and of a redo that finds half of its rows.
    for wrong in range(1, 8):
        range_ = ranged([call() for _ in range(4)], lo=lo)
        frames = frames_of(range_)
        between.fault = honest
        if wrong > 1:
            rows._insert("calls", frames["calls"].head(2), range_.name)
        between.fault = once(fault, wrong)
        try:
            rows.put(range_, frames, doubtful=wrong > 1)
        except DependencyUnavailable:
            rows.put(range_, frames, doubtful=True)
        lo += 4
        assert standing(settings) == list(range(lo)), wrong


def test_how_far_rows_go_is_never_a_guess(between: Between, rows: Store, call: Any, ranged: Any) -> None:
    range_ = ranged([call() for _ in range(4)])
    rows.put(range_, frames_of(range_), doubtful=False)
    for fault in FAULTS:
        between.fault = once(fault, 1)
        with suppress(DependencyUnavailable):
            assert rows.end(range_) == 4, fault


def test_an_answer_that_comes_after_the_client_gave_up_changes_nothing(
    between: Between,
    settings: Settings,
    call: Any,
    ranged: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sink_store, "ANSWER_S", 1)
    range_ = ranged([call() for _ in range(50)])
    frames, given_up = frames_of(range_), threading.Event()

    def late(ask: Ask) -> Reply:
        if ask.inserts and not given_up.is_set():
            given_up.wait(20)
        return ask.forward()

    with closing(Store(settings.model_copy(update={"clickhouse": between.address}))) as store:
        between.fault = late
        with pytest.raises(DependencyUnavailable, match="not stored yet"):
            store.put(range_, frames, doubtful=False)
        # Both go on at once: the insert that nobody waits for, and the redo.
        given_up.set()
        store.put(range_, frames, doubtful=True)
    assert standing(settings) == list(range(50))
