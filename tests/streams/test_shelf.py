"""Snapshots on a real broker: what is kept, what is let go of, and what is found again."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from tests.streams.conftest import Journal
from tests.streams.folding import START

from tidegate.errors import DependencyUnavailable
from tidegate_infra.settings import Settings
from tidegate_streams import fold, shelf, snapshots
from tidegate_streams.frozen import Frozen, freeze
from tidegate_streams.shelf import Shelf

PARTITION = 4


def made(settings: Settings, journal_id: str = "journal", **rules: int) -> Shelf:
    process: Any = SimpleNamespace(settings=settings, log=structlog.get_logger(), stopping=threading.Event())
    return Shelf(process, journal_id, fold.Rules(**rules))


def state(beats: int) -> Frozen:
    state = fold.State(PARTITION)
    for offset in range(beats):
        fold.apply(state, offset, Journal().beat(START + offset))
    return freeze(state)


@pytest.mark.usefixtures("topics")
def test_the_last_two_snapshots_of_a_partition_are_kept_and_the_newest_that_fits_is_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots.cut, "__defaults__", (10_000,))
    mine = made(settings)
    for beats in (1, 2, 3):
        mine.write(PARTITION, beats, state(beats))
    kept = mine.read([PARTITION, 0])
    assert set(kept) == {PARTITION}
    assert len(kept[PARTITION]) > 2

    def found(by: Shelf, start: int, end: int) -> int | None:
        newest = by.newest(kept[PARTITION], PARTITION, start, end)
        if newest is None:
            return None
        next_offset, restored = newest
        assert freeze(restored).tree == state(next_offset).tree
        return next_offset

    assert [found(mine, 0, end) for end in (9, 2, 1)] == [3, 2, None]
    assert found(made(settings), 0, 9) == 3
    assert found(made(settings, "made anew"), 0, 9) is None
    assert found(made(settings, series_cap=7), 0, 9) is None


@pytest.mark.usefixtures("topics")
def test_a_snapshot_that_kafka_does_not_take_is_said(settings: Settings) -> None:
    with pytest.raises(DependencyUnavailable, match=r"did not take a snapshot to .*llm\.snapshots\[99\]"):
        made(settings).write(99, 1, state(1))


def test_an_orderly_stop_does_not_wait_for_a_snapshot(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    process: Any = SimpleNamespace(
        settings=settings.model_copy(update={"kafka": "127.0.0.1:1"}),
        log=structlog.get_logger(),
        stopping=threading.Event(),
    )
    monkeypatch.setattr(shelf, "_TURN_SECONDS", 0.01)
    process.stopping.set()
    Shelf(process, "journal", fold.Rules()).write(PARTITION, 1, state(1))
