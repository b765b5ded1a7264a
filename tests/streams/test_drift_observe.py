"""All series minute by minute: what changed, and which parts carry it."""

from dataclasses import replace

import numpy as np
import pytest

from tidegate.codec import decode, encode
from tidegate.records import DriftEvent
from tidegate.series import DIMENSIONS, ROLLED_UP, ROLLUPS
from tidegate_streams import rollups
from tidegate_streams.admission import unpack
from tidegate_streams.drift.observe import State, observe
from tidegate_streams.drift.policy import DAY_US, MINUTE_US, Policy
from tidegate_streams.drift.samples import Series, samples
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.statistics.exceedances import ZERO

QUICK = Policy(block_us=10 * MINUTE_US, blocks=36)
START = 400_000 * 60 * MINUTE_US
CHANGED = 400


def series(rollup, **values):
    known = {"tenant": "acme", "environment": "prod", "app": "chat", "traffic": "live"} | values
    kept = ROLLUPS[rollup]
    return Series(rollup, tuple(known.get(name, "") if name in kept else ROLLED_UP for name in DIMENSIONS))


APP = series("app")
TENANT = series("tenant")
GOOD, BAD = (series("model", provider="openai", request_model=name) for name in ("steady", "changing"))


def minutes(n, seed=1, changed=CHANGED, factor=1.0):
    """Two models of an app, of which one refuses more from some minute on."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        done = {}
        for one, rate in ((GOOD, 0.05), (BAD, 0.05 if i < changed else 0.25)):
            bad = int(rng.binomial(20, rate))
            done[one] = {ZERO: 20 - bad, 0: bad}
        both = {bucket: sum(each[bucket] for each in done.values()) for bucket in (ZERO, 0)}
        found = {
            one: {"refusal_rate": sample} for one, sample in (*done.items(), (APP, both), (TENANT, both))
        }
        yield START + i * MINUTE_US, found


def run(state, every):
    return [one for minute_us, found in every for one in observe(state, minute_us, found)]


@pytest.fixture(scope="module")
def told():
    return run(State(QUICK), minutes(CHANGED + 60))


def test_a_change_of_one_model_is_told_of_it_and_of_what_it_is_part_of_and_of_nothing_else(told):
    started = {one.rollup: one for one in told if one.phase == "started"}
    assert set(started) == {"model", "app", "tenant"}
    assert started["model"].request_model == "changing"
    assert (started["model"].kind, started["app"].kind) == ("model", "quality")
    assert started["app"].carriers[0].series == "model:openai/changing"
    assert started["app"].carriers[0].share > 0.8
    assert started["tenant"].carriers[0].series == "app:prod/chat"


def test_an_event_says_from_what_to_what_since_when_and_how_sure(told):
    one = next(one for one in told if one.rollup == "model")
    assert one.reference_value == pytest.approx(0.05, abs=0.02)
    assert one.current_value > 0.12
    assert one.effect == pytest.approx(one.current_value - one.reference_value)
    moment = START + CHANGED * MINUTE_US
    assert one.changed_low <= moment <= one.changed_high <= one.ts
    assert one.log_e >= np.log(one.average_run_length)
    assert one.average_run_length == 4 * 30 * 1_440
    assert (one.reference_kind, one.metric, one.unit) == ("rolling", "refusal_rate", "1")


def test_events_are_records_of_the_contract_and_are_numbered_within_their_identity(told):
    for one in told:
        assert decode(encode(one), expect=DriftEvent) == one
    versions = {}
    for one in told:
        versions.setdefault(one.drift_id, []).append(one.version)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in versions.values())


def test_the_same_minutes_tell_the_same_after_the_state_was_kept_and_taken_up(told):
    every = list(minutes(CHANGED + 60))
    state = State(QUICK)
    before = run(state, every[: CHANGED + 8])
    assert before + run(thaw(freeze(state).pack()), every[CHANGED + 8 :]) == told


def test_what_is_no_longer_seen_is_forgotten_and_its_change_is_over(told):
    state = State(QUICK)
    run(state, minutes(CHANGED + 60))
    later = START + 8 * DAY_US
    ended = observe(state, later, {})
    assert {(one.rollup, one.phase) for one in ended} == {
        (name, "ended") for name in ("model", "app", "tenant")
    }
    assert all(one.ended_at == later for one in ended)
    assert not state.watches
    assert not state.live["acme"]


def test_above_the_cap_metrics_are_counted_and_not_watched():
    state = State(replace(QUICK, most_watches=3))
    run(state, minutes(10))
    assert sum(map(len, state.watches.values())) == 3
    assert state.unwatched["acme"] == 10


def test_a_release_is_watched_beside_another_of_its_deployment_only():
    policy = replace(QUICK, reference="release", release="stable")
    state, rng, told = State(policy), np.random.default_rng(2), []
    for i in range(CHANGED):
        found = {}
        for name, rate in (("stable", 0.05), ("june", 0.25)):
            bad = int(rng.binomial(20, rate))
            one = series("release", deployment="bot", variant=name)
            found[one] = {"refusal_rate": {ZERO: 20 - bad, 0: bad}}
        told += observe(state, START + i * MINUTE_US, found | {APP: {"refusal_rate": {ZERO: 20}}})
    assert {(one.rollup, one.variant, one.reference_kind) for one in told} == {("release", "june", "release")}
    assert told[0].phase == "started"


def test_rows_of_minutes_become_samples_of_each_roll_up(journal):
    calls = [
        journal.Call(
            ts_us=START + i * 1_000_000,
            latency_us=1_000 * (i + 1),
            cost_nano=None,
            status="error" if i < 3 else "ok",
            user=None,
            dimensions={"variant": "v1", "traffic": "live" if i < 20 else "shadow"},
        )
        for i in range(30)
    ]
    frames = rollups.concat([unpack(batch) for batch in journal().calls(calls)])
    rows = rollups.merge(rollups.coarsen(rollups.roll_up(frames), MINUTE_US))
    ((minute_us, found),) = samples(rows).items()
    assert minute_us == START
    assert {one.rollup for one in found} == set(ROLLUPS)
    for metrics in found.values():
        assert metrics["error_rate"] == {ZERO: 17, 0: 3}
        assert sum(metrics["latency_us"].values()) == 20


def mixed(n, shares, seed=3, start=0):
    """Minutes of an app whose calls fall to two models by shares that may change."""
    rng = np.random.default_rng(seed)
    for i in range(start, start + n):
        steady = int(rng.binomial(60, shares(i)))
        parts = {GOOD: steady, BAD: 60 - steady}
        yield (
            START + i * MINUTE_US,
            {one: {"error_rate": {ZERO: count}} for one, count in parts.items() if count},
        )


def test_another_mix_of_models_is_told_once_with_what_moved_and_ends_when_it_is_as_it_was():
    policy = replace(QUICK, blocks=60)
    told = run(State(policy), mixed(620, lambda i: 0.5 if i < 450 or i >= 540 else 0.8))
    assert [(one.rollup, one.metric, one.kind, one.phase) for one in told] == [
        ("app", "model_mix", "input", "started"),
        ("app", "model_mix", "input", "ended"),
    ]
    first, last = told
    assert first.changed_at == START + 450 * MINUTE_US
    assert first.effect > policy.least_psi
    assert {one.series for one in first.carriers} == {"openai/steady", "openai/changing"}
    assert first.drift_id == last.drift_id
    assert last.effect < policy.least_psi / 2
    assert decode(encode(last), expect=DriftEvent) == last


def test_a_mix_that_is_a_little_another_is_none_however_many_calls_say_so():
    assert not run(State(QUICK), mixed(600, lambda i: 0.50 if i < 450 else 0.54))


def test_a_mix_that_lasts_becomes_the_usual_one():
    told = run(State(QUICK), mixed(900, lambda i: 0.5 if i < 450 else 0.8))
    assert [one.phase for one in told] == ["started", "ended"]
    assert told[1].ts >= START + (450 + 360) * MINUTE_US
