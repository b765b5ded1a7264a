"""A sink that was silent for longer than its session: its rows are stored, and it may not settle them."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate_consumers.sink import process as sinks
from tidegate_consumers.sink.store import Stored
from tidegate_infra.kafka.claims import ClaimLost
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings


class GivenUp:
    """A group that refuses all commits of a worker until it has asked, and so heard of its new assignment."""

    def __init__(self, first: Range) -> None:
        self.epoch = first.epoch
        self.settled = 0
        self._first = [first]

    def poll(self, timeout: float) -> list[Range]:
        ranges, self._first = self._first, []
        return ranges

    def idle(self, timeout: float) -> None:
        self.epoch += 1

    def claim(self, ranges: Sequence[Range], prices: str = "") -> None:
        return

    def settle_and_claim(self, ranges: Sequence[Range], prices: str = "") -> list[Range]:
        if any(range_.epoch != self.epoch or self.epoch == 0 for range_ in ranges):
            raise ClaimLost("the group has given this process up")
        self.settled += 1
        return []

    def positions(self) -> dict[tuple[str, int], int]:
        return {}

    def held_bytes(self) -> int:
        return 0

    def close(self) -> None:
        return


def test_a_sink_that_the_group_has_given_up_hears_so_and_goes_on(
    ranged: Callable[..., Range], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    range_ = ranged([call()])
    range_.epoch = 0
    group = GivenUp(range_)
    monkeypatch.setattr(sinks, "RangeConsumer", lambda *_, **__: group)
    monkeypatch.setattr(
        sinks, "PriceLog", lambda *_: SimpleNamespace(present=lambda: BOOK, find=lambda _: BOOK)
    )
    monkeypatch.setattr(sinks, "Duplicates", lambda *_: SimpleNamespace(mark=lambda ranges: {}))
    store: Any = SimpleNamespace(put=lambda *_, **__: Stored(), end=lambda _: 0, next_offset=None)
    sink = sinks.Sink(Process("sink", Settings()), store)
    monkeypatch.setattr(sinks, "facts", lambda *_: {})
    sink.turn()
    [effect] = sink._effects.values()
    assert effect.future is not None
    effect.future.result(10)
    sink.turn()
    assert not sink._effects
    assert effect.dropped.is_set()
    assert group.settled == 0
    sink.close()


BOOK: Any = SimpleNamespace(hash="")
