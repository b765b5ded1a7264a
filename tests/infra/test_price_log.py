"""A range that is done again is priced as it was claimed, whatever release does it."""

from dataclasses import replace
from typing import Any

import pytest

from tidegate.errors import InvariantBroken
from tidegate_infra import price_log
from tidegate_infra.price_log import PriceLog
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is written to a log that holds a tombstone only."""
    outgoing: list[Any] = []
    monkeypatch.setattr(price_log.scan, "records", lambda *_: [(None, None)])
    monkeypatch.setattr(price_log, "send", lambda _, messages: outgoing.extend(messages))
    return outgoing


def test_the_prices_of_this_release_are_written_once(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    book = PriceLog(Settings()).present()
    assert [one.key for one in sent] == [book.hash]
    monkeypatch.setattr(price_log.scan, "records", lambda *_: [(None, book.record(ts_us=1))])
    assert PriceLog(Settings()).present().hash == book.hash
    assert len(sent) == 1


def test_a_table_of_another_release_is_found_by_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    book = PriceBook.load()
    before = replace(book.record(ts_us=1), hash="before")
    monkeypatch.setattr(
        price_log.scan, "records", lambda *_: [(None, None), (None, before), (None, book.record(ts_us=2))]
    )
    made: list[Any] = []
    monkeypatch.setattr(price_log.PriceBook, "of", lambda record: made.append(record.hash) or record)
    prices = PriceLog(Settings())
    assert prices.find("before") is before
    assert prices.find("before") is before
    assert made == ["before"]


@pytest.mark.usefixtures("sent")
def test_a_table_that_nobody_has_stops_the_process_in_words() -> None:
    with pytest.raises(InvariantBroken, match=r"price table gone, which is not in llm\.prices"):
        PriceLog(Settings()).find("gone")
