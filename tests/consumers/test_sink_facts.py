"""Messages to rows where they are not as expected: what breaks a rule, what another release wrote."""

import io
from typing import Any

import polars as pl
import pytest

from tidegate import codec
from tidegate.records import WindowMetricsBatch
from tidegate.topics import CALLS, FEEDBACK, METRICS
from tidegate_consumers.sink.facts import Reading, facts
from tidegate_infra.kafka import blocks
from tidegate_infra.prices import PriceBook

BOOK = PriceBook.load()


def batch(frame: pl.DataFrame) -> WindowMetricsBatch:
    rows = io.BytesIO()
    frame.write_ipc_stream(rows)
    return WindowMetricsBatch(partition=0, offset=1, watermark=None, rows=rows.getvalue())


def test_a_copy_that_breaks_a_rule_still_says_whose_it_is(call: Any, ranged: Any) -> None:
    bad = call(input_tokens=-1, producer_id="p", seq=5)
    rows = facts(ranged([bad]), Reading([True], BOOK))
    assert rows["duplicates"].select("event_id", "producer_id", "seq").rows() == [(bad.event_id, "p", 5)]


def test_a_copy_that_nobody_can_read_has_its_place_alone(ranged: Any) -> None:
    rows = facts(ranged([b"\xc3\x01garbage"]), Reading([True], BOOK))
    assert rows["duplicates"].select("producer_id", "seq", "_offset").rows() == [(None, None, 0)]


def test_a_refused_call_says_whose_it_is_though_its_text_is_no_utf_8(call: Any, ranged: Any) -> None:
    value = codec.encode(call(producer_id="p", seq=5, app="snow")).replace(b"snow", b"sn\xffw")
    rows = facts(ranged([value]), Reading([False], BOOK))
    assert rows["dead_letters"].select("reason", "producer_id", "seq").rows() == [("undecodable", "p", 5)]


def test_windows_of_two_releases_are_stored_side_by_side(ranged: Any) -> None:
    old, new = pl.DataFrame({"rollup": ["app"]}), pl.DataFrame({"rollup": ["app"], "novelty": [1]})
    rows = facts(ranged([batch(old), batch(new)], METRICS), Reading())
    assert rows["window_metrics"].get_column("rollup").to_list() == ["app", "app"]


def test_windows_that_are_no_arrow_stream_are_refused_alone(ranged: Any) -> None:
    broken = WindowMetricsBatch(
        partition=0, offset=1, watermark=None, rows=b"\xff\xff\xff\xff\x10\x00\x00\x00junk"
    )
    rows = facts(ranged([batch(pl.DataFrame({"rollup": ["app"]})), broken], METRICS), Reading())
    assert rows["window_metrics"].height == 1
    assert rows["dead_letters"].get_column("source_offset").to_list() == [1]


def test_a_redo_never_takes_the_decoder_that_a_record_may_have_killed(
    call: Any, feedback: Any, ranged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise SystemExit("killed by a record")

    monkeypatch.setattr(blocks, "read_block", die)
    reading = Reading([False, True], BOOK)
    for topic, records in [(CALLS, [call(), call()]), (FEEDBACK, [feedback(), feedback()])]:
        with pytest.raises(SystemExit):
            facts(ranged(records, topic), reading)
        stored = facts(ranged(records, topic, redo=True), reading)
        assert [frame.height for frame in stored.values()] == [1, 1], topic
