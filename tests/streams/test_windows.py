"""Which rows go out, and that they are what the calls say."""

import collections
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests.streams.folding import (
    BOUNDED,
    DAY,
    HOUR,
    LATENESS,
    MINUTE,
    RULES,
    SECOND,
    START,
    arriving,
    at,
    fold_all,
    numbered,
    traffic,
)

from tidegate.series import DIMENSIONS, ROLLED_UP, ROLLUPS
from tidegate_streams import closing, fold
from tidegate_streams.replay import newest, replay, windows

LENGTHS = {"10s": 10 * SECOND, "1m": MINUTE, "5m": 5 * MINUTE, "1h": HOUR, "1d": DAY}
SAME = ["version", "watermark"]
"""Columns that tell when a row was published, not what it says."""


def recomputed(calls, rollup, window, slide_us):
    """Windows of a roll-up straight from the calls: (start, series) -> calls."""
    held = collections.defaultdict(list)
    for call in calls:
        series = tuple(call.series[name] if name in ROLLUPS[rollup] else ROLLED_UP for name in DIMENSIONS)
        first_end = call.ts_us // slide_us * slide_us + slide_us
        for end in range(first_end, first_end + LENGTHS[window], slide_us):
            held[end - LENGTHS[window], series].append(call)
    return held


@BOUNDED
@given(data=st.data())
def test_final_rows_are_the_same_for_any_order_split_and_repetition_within_the_allowed_lateness(
    data, journal
):
    calls, delays = data.draw(traffic(journal))
    others = data.draw(st.permutations(delays))
    one = arriving(journal, calls, delays, every_us=31 * SECOND, size=4)
    other = arriving(journal, calls, others, every_us=17 * SECOND, size=7, repeat=True, parts=3)
    finals = []
    for messages in (one, other):
        rows = windows(fold_all(messages))
        window = ["rollup", "series_id", "window", "window_start"]
        assert not rows.select(*window, pl.col("version") // 4).is_duplicated().any()
        final = rows.filter(pl.col("phase") == "final")
        assert not final.select(window).is_duplicated().any()
        finals.append(final.sort(window).drop(SAME))
    assert finals[0].height > 0
    assert_frame_equal(*finals, check_exact=True)


@BOUNDED
@given(data=st.data())
def test_windows_equal_a_recomputation_from_the_calls(data, journal):
    calls, delays = data.draw(traffic(journal))
    rows = newest(windows(fold_all(arriving(journal, calls, delays, every_us=23 * SECOND, size=5))))
    assert rows.get_column("phase").unique().to_list() == ["final"]
    found = 0
    for rollup in ROLLUPS:
        short_us = 10 * SECOND if rollup == "release" else MINUTE
        slides = {"1m": short_us, "5m": short_us, "1h": MINUTE, "1d": HOUR}
        if rollup == "release":
            slides["10s"] = 10 * SECOND
        for window, slide_us in slides.items():
            expected = recomputed(calls, rollup, window, slide_us)
            part = rows.filter(pl.col("rollup") == rollup, pl.col("window") == window)
            assert part.height == len(expected)
            found += part.height
            for row in part.iter_rows(named=True):
                series = tuple(row[name] for name in DIMENSIONS)
                check(row, expected[int(row["window_start"].timestamp()) * SECOND, series])
    assert found == rows.height


def check(row, calls):
    assert row["calls"] == row["comparable"] == len(calls)
    assert row["weighted_calls"] == len(calls)
    assert row["status_error"] == sum(call.status == "error" for call in calls)
    assert row["late"] == 0
    priced = [call.cost_nano for call in calls if call.cost_nano is not None]
    assert (row["priced"], row["unpriced"]) == (len(priced), len(calls) - len(priced))
    assert row["cost_usd"] == (Decimal(sum(priced)).scaleb(-9) if priced else None)
    distributions = {entry["metric"]: entry for entry in row["distributions"]}
    check_distribution(distributions["latency_us"], [call.latency_us for call in calls], 1)
    if priced:
        check_distribution(distributions["cost_usd"], priced, 10**9)
    else:
        assert "cost_usd" not in distributions
    users = {call.user for call in calls if call.user is not None}
    counted = row["rollup"] in ("release", "app") and users
    assert row["users_estimate"] == (len(users) if counted else None)


def check_distribution(entry, values, scale):
    assert entry["n"] == len(values)
    assert entry["sum"] == Decimal(sum(values)) / scale
    assert entry["zeros"] == values.count(0)
    assert entry["sumsq"] == pytest.approx(sum(value * value for value in values) / scale**2)
    assert (entry["min"], entry["max"]) == pytest.approx((min(values) / scale, max(values) / scale))
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        exact = np.quantile(values, q, method="inverted_cdf") / scale
        assert entry[name] == pytest.approx(exact, rel=0.0101)


def test_a_window_goes_early_then_on_time_then_corrected_then_final_with_growing_versions(journal):
    made = journal()
    call = made.Call(ts_us=START + SECOND)
    messages = [
        made.beat(START),
        *made.calls([call]),
        made.beat(START + 2 * SECOND),
        made.beat(START + 10 * SECOND),
        *made.calls([call]),
        made.beat(START + 20 * SECOND),
        made.beat(START + 10 * SECOND + LATENESS),
    ]
    rows = windows(fold_all(messages)).filter(pl.col("rollup") == "release", pl.col("window") == "10s")
    phases = rows.select("phase", "calls", "version").rows()
    assert phases == [
        ("early", 1, 4 * 2 + 0),
        ("on_time", 1, 4 * 3 + 1),
        ("late", 2, 4 * 5 + 2),
        ("final", 2, 4 * 6 + 3),
    ]


def test_a_late_call_sends_its_own_series_again_and_no_other(journal):
    made = journal()
    both = [made.Call(ts_us=START + SECOND, dimensions={"variant": name}) for name in ("v1", "v2")]
    messages = [*made.calls(both), made.beat(START + 10 * SECOND), *made.calls([both[0]])]
    state = fold.State(0, RULES)
    for offset, message in enumerate(messages):
        fold.apply(state, offset, message)
    rows = windows(fold.apply(state, len(messages), made.beat(START + 20 * SECOND)))
    late = rows.filter(pl.col("phase") == "late")
    assert set(late.filter(pl.col("rollup") == "release").get_column("variant")) == {"v1"}
    assert late.height < 500


def test_when_many_series_change_each_is_shown_in_its_turn(journal, monkeypatch):
    monkeypatch.setattr(closing, "EARLY_SERIES", 3)
    made = journal()
    calls = [made.Call(ts_us=START + SECOND, dimensions={"variant": f"v{i}"}) for i in range(4)]
    messages = [made.beat(START), *made.calls(calls), *[made.beat(START + SECOND)] * 4]
    shown = [
        windows(records).select(pl.struct("rollup", "variant").n_unique()).item()
        for _, records in replay(numbered(messages), 0, RULES)
        if records
    ]
    assert shown == [3, 3, 2]


def test_calls_beyond_the_allowed_lateness_are_in_no_window_and_counted_where_they_arrive(journal):
    made = journal()
    soon, much_later = START + SECOND, START + 10 * MINUTE
    messages = [
        *made.calls([made.Call(ts_us=soon)]),
        made.beat(much_later),
        *made.calls([made.Call(ts_us=soon)] * 3),
        made.beat(START + DAY + HOUR),
    ]
    rows = newest(windows(fold_all(messages)))
    assert at(rows, "release", "10s", START)["calls"] == 1
    arrival = at(rows, "release", "10s", much_later)
    assert (arrival["calls"], arrival["late"]) == (0, 3)
    assert arrival["cost_usd"] is None
    hour = rows.filter(pl.col("rollup") == "tenant", pl.col("window") == "1d").sort("window_start")
    assert hour.select(pl.col("calls", "late").max()).row(0) == (1, 3)


def test_feedback_and_evaluations_count_in_the_window_of_their_own_time(journal):
    made = journal()
    call = made.Call(ts_us=START + SECOND)
    messages = [
        made.ratings("feedback", [(call, "thumbs", True), (call, "thumbs", False), (call, "thumbs", False)]),
        made.ratings("evaluations", [(call, "faithful", True)]),
        made.beat(START + MINUTE),
    ]
    row = at(newest(windows(fold_all(messages))), "prompt", "1m", START)
    assert row["calls"] == 0
    assert row["cost_usd"] is None
    assert row["users_estimate"] is None
    assert row["distributions"] == []
    assert [(f["name"], f["n"], f["positive"], f["negative"]) for f in row["feedback"]] == [
        ("thumbs", 3, 1, 2)
    ]
    assert [(e["name"], e["n"], e["passed"], e["failed"]) for e in row["evaluations"]] == [
        ("faithful", 1, 1, 0)
    ]


def test_a_partition_nobody_speaks_of_holds_every_window_back(journal):
    made = journal(partition_count=2)
    messages = [*made.calls([made.Call(ts_us=START)]), made.beat(START + HOUR)]
    assert set(windows(fold_all([*messages, made.beat(START + HOUR)]))["phase"]) == {"early"}
    told = fold_all([*messages, made.beat(START + MINUTE, worker="w2", partition=1)])
    assert "on_time" in set(windows(told)["phase"])


def test_a_window_is_final_once_and_nothing_of_it_is_sent_afterwards_however_late_a_call_comes(journal):
    made = journal()
    call = made.Call(ts_us=START + SECOND)
    final_us = START + 10 * SECOND + LATENESS
    messages = [
        *made.calls([call]),
        # Both ends pass at once: it goes out once, in the later phase.
        made.beat(final_us),
        *made.calls([call]),
        made.beat(final_us + 10 * SECOND),
        *made.calls([call]),
        made.beat(final_us + DAY),
        made.beat(final_us + DAY + HOUR),
    ]
    rows = windows(fold_all(messages)).filter(
        pl.col("window") == "10s", pl.col("window_start").cast(pl.Int64) == START
    )
    assert rows.select("phase", "calls").rows() == [("final", 1)]


def test_one_partition_that_runs_ahead_closes_nothing_and_one_that_falls_back_reopens_nothing(journal):
    made = journal(partition_count=2)
    call = made.Call(ts_us=START + SECOND)
    messages = [
        *made.calls([call]),
        made.beat(START + 9 * SECOND, partition=0),
        # An hour ahead of all others, as a producer with a wrong clock would have it.
        made.beat(START + HOUR, worker="w2", partition=1),
        made.beat(START + 10 * SECOND, partition=0),
        made.beat(START - HOUR, worker="w2", partition=1),
        made.beat(START + 20 * SECOND, partition=0),
    ]
    closed = [
        offset
        for offset, records in replay(numbered(messages), 0, RULES)
        if records and "on_time" in set(windows(records)["phase"])
    ]
    assert closed == [3, 5]
