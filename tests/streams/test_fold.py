import collections
import itertools
import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import codec
from tidegate.errors import ContractError, InvariantBroken
from tidegate.records import (
    Alert,
    DecisionMetric,
    DeploymentCommand,
    Frame,
    Rollout,
    RolloutAction,
    RolloutProgress,
    Step,
    Variant,
)
from tidegate.series import DIMENSIONS, OVERFLOW, ROLLED_UP, ROLLUPS
from tidegate_streams import fold
from tidegate_streams.replay import newest, replay, windows

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 472_222 * HOUR

LENGTHS = {"10s": 10 * SECOND, "1m": MINUTE, "5m": 5 * MINUTE, "1h": HOUR, "1d": DAY}
LATENESS = MINUTE
RULES = fold.Rules(allowed_lateness_us=LATENESS)
SAME = ["version", "watermark"]
"""Columns that tell when a row was published, not what it says."""


def numbered(messages):
    return list(enumerate(messages))


def fold_all(messages, rules=RULES, partition=0):
    return [record for _, records in replay(numbered(messages), partition, rules) for record in records]


def at(table, rollup, window, start_us, **dimensions):
    chosen = table.filter(
        pl.col("rollup") == rollup,
        pl.col("window") == window,
        pl.col("window_start").cast(pl.Int64) == start_us,
        *(pl.col(name) == value for name, value in dimensions.items()),
    )
    assert chosen.height == 1, chosen
    return chosen.row(0, named=True)


def recomputed(calls, rollup, window, slide_us):
    """Windows of a roll-up straight from the calls: (start, series) -> calls."""
    held = collections.defaultdict(list)
    for call in calls:
        series = tuple(call.series[name] if name in ROLLUPS[rollup] else ROLLED_UP for name in DIMENSIONS)
        first_end = call.ts_us // slide_us * slide_us + slide_us
        for end in range(first_end, first_end + LENGTHS[window], slide_us):
            held[end - LENGTHS[window], series].append(call)
    return held


@st.composite
def traffic(draw, journal):
    """Calls of two minutes in two series, with how late each arrives."""
    n = draw(st.integers(1, 25))
    calls = [
        journal.Call(
            ts_us=START + draw(st.integers(0, 120)) * SECOND + draw(st.sampled_from([0, 1, 999_999])),
            latency_us=draw(st.integers(0, 10_000_000)),
            cost_nano=draw(st.none() | st.integers(0, 10**9)),
            status=draw(st.sampled_from(["ok", "ok", "error"])),
            user=draw(st.none() | st.sampled_from(["ada", "grace"])),
            dimensions={
                "variant": draw(st.sampled_from(["v1", "v2"])),
                "traffic": draw(st.sampled_from(["live", "shadow"])),
            },
        )
        for _ in range(n)
    ]
    delays = [draw(st.integers(0, 50)) * SECOND for _ in range(n)]
    return calls, delays


def arriving(journal_class, calls, delays, every_us, size, repeat=False, parts=1):
    """The journal when each call arrives so much after its time, and the clock moves the watermark."""
    journal = journal_class()
    order = sorted(range(len(calls)), key=lambda i: (calls[i].ts_us + delays[i], i))
    messages = []
    clock_us = START
    for batch in chunks(order, size):
        arrival_us = min(calls[i].ts_us + delays[i] for i in batch)
        while clock_us + every_us < arrival_us:
            clock_us += every_us
            messages.append(journal.beat(clock_us - 2 * SECOND))
        made = journal.calls([calls[i] for i in batch], parts=parts)
        messages += made + (made if repeat else [])
    # Slowly past the end of the longest sliding windows, so that what they need no more is forgotten.
    slow = [journal.beat(START + seconds * SECOND) for seconds in range(180, 480, 75)]
    return [*messages, *slow, journal.beat(START + 2 * DAY)]


def chunks(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


@settings(max_examples=5, deadline=None)
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
    assert finals[0].equals(finals[1])


@settings(max_examples=5, deadline=None)
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


def rollout(**changes):
    usual = {
        "name": "new-model",
        "tenant": "acme",
        "environment": "prod",
        "deployment": "chat",
        "generation": 1,
        "spec_hash": "hash",
        "source_yaml": "",
        "actor": "ada",
        "ts": START,
        "strategy": "canary",
        "assignment_unit": "user",
        "salt": "new-model",
        "max_duration_us": HOUR,
        "variants": [Variant(name="v1", role="baseline"), Variant(name="v2", role="candidate")],
        "steps": [Step(weight_bp=5_000, min_calls=10, warmup_us=0)],
        "metrics": [
            DecisionMetric(
                name="error_rate", kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=2.0
            )
        ],
    }
    return Rollout(**(usual | changes))


def canary(journal, panes=8, size=40, parts=1, repeat=False):
    """Half of the calls go to a variant that always fails."""
    made = [journal.beat(START), journal.rollout(codec.encode(rollout()))]
    for pane in range(panes):
        pane_us = START + pane * 10 * SECOND
        calls = [
            journal.Call(
                ts_us=pane_us + SECOND,
                revision=1,
                status="error" if i % 2 else "ok",
                dimensions={"variant": "v2" if i % 2 else "v1"},
            )
            for i in range(size)
        ]
        for share in chunks(calls, 20 if parts > 1 else size):
            batches = journal.calls(share, parts=parts)
            made += batches + (batches if repeat else [])
        made.append(journal.beat(pane_us + 10 * SECOND))
    return made


def decisions(records):
    commands = [record for record in records if isinstance(record, DeploymentCommand)]
    for command in commands:
        command.offsets = []
        for evidence in command.evidence:
            assert not math.isnan(evidence.log_e_rollback or 0.0)
    return commands


def test_a_candidate_that_fails_is_rolled_back_and_somebody_is_told_once(journal):
    records = fold_all(canary(journal()))
    assert [command.action for command in decisions(records)] == ["start", "rollback"]
    alerts = [record for record in records if isinstance(record, Alert)]
    assert [(alert.rule, alert.status, alert.sequence) for alert in alerts][:1] == [
        ("rollout_rolled_back", "firing", 1)
    ]


def test_commands_do_not_depend_on_how_events_were_split_repeated_or_packed(journal):
    whole = decisions(fold_all(canary(journal())))
    split = decisions(fold_all(canary(journal(), parts=2, repeat=True)))
    assert len(whole) == 2
    assert split == whole


def test_each_pane_is_looked_at_once_in_order_however_many_close_at_once(journal):
    step_by_step = decisions(fold_all(canary(journal())))
    messages = canary(journal())
    beats = [message for message in messages[1:] if type(message).__name__ == "Heartbeat"]
    together = decisions(fold_all([m for m in messages if m not in beats[:-1] or m is messages[0]]))
    assert [c.action for c in together] == [c.action for c in step_by_step]
    assert [c.evidence for c in together] == [c.evidence for c in step_by_step]


@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_a_replay_that_leaves_out_published_windows_goes_on_exactly_like_the_first_run(data, journal):
    calls, delays = data.draw(traffic(journal))
    spec = codec.encode(rollout())
    made = journal()
    messages = [made.rollout(spec), *arriving(lambda: made, calls, delays, every_us=9 * SECOND, size=3)]
    first = [records for _, records in replay(numbered(messages), 0, RULES)]
    cut = data.draw(st.integers(0, len(messages)))
    state = fold.State(0, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "PUT_OFF_ROWS", data.draw(st.sampled_from([0, 8, 10_000])))
        for offset, message in enumerate(messages):
            records = fold.apply(state, offset, message, windows=offset >= cut)
            expected = first[offset]
            if offset < cut:
                expected = [record for record in expected if type(record).__name__ != "WindowMetricsBatch"]
            assert records == expected


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


def test_late_calls_are_a_stratum_of_their_own_in_the_next_look_and_in_no_other(journal, monkeypatch):
    seen = []

    def on_look(state, pane_end_us, strata, at):
        calls = {(key.pane_us, key.is_late): sum(v.calls for v in strata[key].values()) for key in strata}
        seen.append((pane_end_us - START, calls))
        return state, []

    monkeypatch.setattr(fold.machine, "on_look", on_look)
    made = journal()
    early, later = (made.Call(ts_us=START + seconds * SECOND) for seconds in (1, 21))
    messages = [
        made.rollout(codec.encode(rollout())),
        *made.calls([early] * 3),
        made.beat(START + 10 * SECOND),
        *made.calls([early, later, later]),
        made.beat(START + 40 * SECOND),
    ]
    fold_all(messages)
    pane = {seconds: START + (seconds - 10) * SECOND for seconds in (10, 20, 30, 40)}
    assert seen == [
        (10 * SECOND, {(pane[10], False): 3}),
        (20 * SECOND, {(pane[10], True): 1}),
        (30 * SECOND, {(pane[30], False): 2}),
        (40 * SECOND, {}),
    ]


def test_when_many_series_change_each_is_shown_in_its_turn(journal, monkeypatch):
    monkeypatch.setattr(fold, "EARLY_SERIES", 3)
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


def test_a_jump_of_the_watermark_over_years_takes_no_time(journal):
    made = journal()
    messages = [
        made.rollout(codec.encode(rollout())),
        *made.calls([made.Call(ts_us=SECOND)]),
        made.beat(10 * SECOND),
        made.beat(3 * 365 * DAY),
    ]
    progress = [record for record in fold_all(messages) if isinstance(record, RolloutProgress)]
    assert 3 * 365 < progress[-1].looks < 3 * 365 + 360 + 24 + 10


def test_actions_are_carried_out_and_refused_with_an_answer(journal):
    made = journal()
    pause = RolloutAction(
        action_id="a1",
        key="acme/prod/chat",
        generation=1,
        action="pause",
        actor="grace",
        reason="lunch",
        ts=START,
    )
    messages = [
        made.beat(START),
        made.rollout(codec.encode(rollout())),
        made.action(codec.encode(pause)),
        made.action(codec.encode(pause)),
    ]
    actions = [command.action for command in decisions(fold_all(messages))]
    assert actions == ["start", "pause"]


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
