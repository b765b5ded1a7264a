"""What the fold keeps, and what it refuses."""

import itertools
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.streams.folding import (
    BOUNDED,
    DAY,
    LATENESS,
    MINUTE,
    RULES,
    SECOND,
    START,
    arriving,
    at,
    fold_all,
    numbered,
    rollout,
    traffic,
)

from tidegate import codec
from tidegate.errors import ContractError, InvariantBroken
from tidegate.records import Alert, Frame
from tidegate.series import OVERFLOW
from tidegate_streams import closing, fold
from tidegate_streams.replay import newest, replay, windows


@BOUNDED
@given(data=st.data())
def test_a_replay_that_leaves_out_published_windows_goes_on_exactly_like_the_first_run(data, journal):
    calls, delays = data.draw(traffic(journal))
    spec = codec.encode(rollout())
    made = journal()
    messages = [made.rollout(spec), *arriving(lambda: made, calls, delays, every_us=17 * SECOND, size=3)]
    first = [records for _, records in replay(numbered(messages), 0, RULES)]
    cut = data.draw(st.integers(0, len(messages)))
    state = fold.State(0, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "PUT_OFF_ROWS", data.draw(st.sampled_from([0, 8, 10_000])))
        for offset, message in enumerate(messages):
            records = fold.apply(state, offset, message, windows=offset >= cut)
            expected = first[offset]
            if offset < cut:
                expected = [record for record in expected if type(record).__name__ != "WindowMetricsBatch"]
            assert records == expected


def test_series_over_the_cap_are_counted_in_one_series_and_somebody_is_told_once(journal):
    made = journal()
    calls = [made.Call(ts_us=START + SECOND, dimensions={"variant": f"v{i:02}"}) for i in range(8)]
    messages = [
        *made.calls(calls[:5]),
        *made.calls(calls[3:]),
        *made.calls(calls),
        made.beat(START + 10 * SECOND),
        *made.calls([made.Call(ts_us=START + 11 * SECOND)]),
        made.beat(START + 30 * SECOND),
        made.beat(START + 2 * DAY),
    ]
    records = fold_all(messages, rules=fold.Rules(allowed_lateness_us=LATENESS, series_cap=6))
    rows = newest(windows(records)).filter(pl.col("window") == "10s")
    first = rows.filter(pl.col("window_start").cast(pl.Int64) == START)
    counted = dict(first.select("variant", "calls").rows())
    assert counted == {"v00": 2, "v01": 2, "v02": 2, "v03": 3, "v04": 3, "v05": 2, OVERFLOW: 4}
    assert at(first, "release", "10s", START, variant=OVERFLOW)["tenant"] == "acme"
    alerts = [record for record in records if isinstance(record, Alert)]
    assert [(alert.rule, alert.status, alert.sequence) for alert in alerts] == [
        ("series_overflow", "firing", 1),
        ("series_overflow", "resolved", 2),
    ]


def test_what_is_kept_is_bounded_by_the_windows_that_are_not_final(journal):
    made = journal()
    state = fold.State(0, RULES)
    heights = []
    offset = itertools.count()
    for minute in range(12):
        now_us = START + minute * MINUTE
        for message in (*made.calls([made.Call(ts_us=now_us)]), made.beat(now_us + MINUTE)):
            fold.apply(state, next(offset), message)
        heights.append(state.history.tables[10 * SECOND]["calls"].height)
    assert heights[-1] == heights[-3] < 12
    fold.apply(state, next(offset), made.beat(START + 3 * DAY))
    assert [table["calls"].height for table in state.history.tables.values()] == [0, 0, 0]
    assert state.panes == {}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Frame(kind="calls", rows=b"no arrow"), "undecodable"),
        (Frame(kind="spans", rows=b""), "invalid_field"),
    ],
)
def test_a_batch_that_cannot_be_read_is_refused_and_leaves_no_trace(frame, reason, journal):
    made = journal()
    good = made.calls([made.Call(ts_us=START)])[0]
    bad = replace(good, frames=[frame])
    state = fold.State(0, RULES)
    with pytest.raises(ContractError) as refused:
        fold.apply(state, 0, bad)
    assert refused.value.reason == reason
    fold.apply(state, 1, good)
    assert windows(fold.apply(state, 2, made.beat(START + 10 * SECOND))).height > 0


def test_an_overlapping_range_stops_the_fold(journal):
    one, other = journal(), journal()
    call = one.Call(ts_us=START)
    with pytest.raises(InvariantBroken):
        fold_all([*one.calls([call] * 3), *(b for b in other.calls([call] * 2)), *other.calls([call] * 5)])
