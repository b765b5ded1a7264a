"""Wherever the group's offsets are set, every row stands once; how far rows go is asked once."""

from collections import Counter
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.topics import CALLS
from tidegate_consumers.sink import process as sinks
from tidegate_consumers.sink.process import Effect, Sink
from tidegate_consumers.sink.store import Stored
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings

LAST = 40


class Rows:
    """A store that writes what it is told to, and audits when it is told to."""

    def __init__(self, silent: set[int]) -> None:
        self.silent = silent
        self.standing: Counter[int] = Counter()
        self.audited: list[bool] = []
        self.asked = 0
        self.next_offset = None

    def end(self, range_: Range) -> int:
        self.asked += 1
        return max([range_.lo, *(offset + 1 for offset in self.standing)])

    def put(self, range_: Range, frames: Any, *, doubtful: bool) -> Stored:
        offsets = set(range(range_.lo, range_.hi + 1)) - self.silent
        self.standing.update(offsets - self.standing.keys() if doubtful else offsets)
        self.audited.append(doubtful)
        return Stored(audited=doubtful)


def sink_of(store: Any) -> Sink:
    """A sink of which only the writing is looked at."""
    book = SimpleNamespace(hash="")
    prices = SimpleNamespace(present=lambda: book, find=lambda _: book)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks, "RangeConsumer", lambda *_, **__: None)
        patch.setattr(sinks, "PriceLog", lambda *_: prices)
        patch.setattr(sinks, "Duplicates", lambda *_: None)
        return Sink(Process("sink", Settings()), store)


def written(sink: Sink, epoch: int, cuts: list[int]) -> None:
    """Write the ranges between offsets, in one assignment."""
    for lo, end in pairwise(cuts):
        range_ = Range(
            topic=CALLS, topic_id="t", partition=0, lo=lo, hi=end - 1, messages=[], redo=False, epoch=epoch
        )
        sink._write(Effect(range_, None), None)


CUTS = st.sets(st.integers(0, LAST), min_size=2, max_size=6).map(sorted)


@pytest.fixture(autouse=True, scope="module")
def _no_rows_to_make() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks, "facts", lambda *_: {})
        yield


@given(assignments=st.lists(CUTS, min_size=1, max_size=5), silent=st.sets(st.integers(0, LAST)))
def test_wherever_an_assignment_begins_every_row_stands_once(
    assignments: list[list[int]], silent: set[int]
) -> None:
    store = Rows(silent)
    sink = sink_of(store)
    for epoch, cuts in enumerate(assignments):
        written(sink, epoch, cuts)
    assert set(store.standing.values()) <= {1}
    read = {offset for cuts in assignments for offset in range(cuts[0], cuts[-1])}
    assert store.standing.keys() == read - silent


def test_beyond_the_last_row_nothing_is_audited_and_each_assignment_asks_once() -> None:
    store = Rows(silent=set())
    sink = sink_of(store)
    written(sink, 1, [10, 20, 30, 40])
    assert (store.asked, store.audited) == (1, [False, False, False])
    # Set back: what was read stands, and the backlog behind it is written as fast as ever.
    written(sink, 2, [5, 15, 39, 50, 60, 70])
    assert (store.asked, store.audited[3:]) == (2, [True, True, True, False, False])
