"""The serving variant compared with itself: what noise there is, and what rollouts make of it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from scipy.stats import binom
from tests.streams.drive import START, Drive, latency, rate, rollout
from tests.streams.folding import rollout as chat

from tidegate import codec
from tidegate.records import DeploymentCommand, DeploymentStatus, Frame, RolloutProgress, Step
from tidegate_streams import fold, frozen, partials
from tidegate_streams.meters import Meters
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import machine
from tidegate_streams.rollouts.halves import BLOCK_US, Halves, serving
from tidegate_streams.rollouts.past import Past
from tidegate_streams.rollouts.strata import Stratum, VariantPane
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.dependence import Excess, HalfSums

DAY = 48 * BLOCK_US
PANES_A_BLOCK = BLOCK_US // PANE_US


def errors(pane_us, *halves, revision=None):
    """One stratum: (calls, errors) of each half."""
    names = ("first", "second")
    did = {
        name: VariantPane(rates={"error_rate": one}) for name, one in zip(names, halves, strict=False) if one
    }
    return {Stratum(revision, pane_us, False): did}


def blocks(rng, n, copies=1, calls=600, bad=0.05, halves=None, spec=None):
    """Look at blocks; each unit makes `copies` calls that all end alike."""
    halves, spec = halves or Halves(), spec or rollout()
    for block in range(n):
        pane_us = START // DAY * DAY + block * BLOCK_US
        units = rng.binomial(calls // copies, 0.5)
        both = [(m * copies, int(rng.binomial(m, bad)) * copies) for m in (units, calls // copies - units)]
        halves = halves.after(errors(pane_us, *both), spec, VariantPane(), pane_us + PANE_US)
    return halves


def known(effect, levels=(("error_rate", None),)):
    """Halves that have seen enough to say this."""
    wanted = HalfSums.of(Excess(1.0, 1.0))
    sums = sum([wanted] * 500, HalfSums())
    return Halves(sums={level: replace(sums, squares=effect * 500) for level in levels})


@pytest.mark.parametrize("copies", [1, 4])
def test_calls_that_end_alike_are_known_after_a_day_for_how_many_they_count(copies):
    halves = blocks(np.random.default_rng(61), 240, copies)
    [effect] = halves.effects([rate()])["error_rate"]
    assert copies <= effect < 1.6 * copies


def test_nothing_is_said_of_dependence_before_fifteen_hours_of_traffic():
    rng = np.random.default_rng(62)
    assert blocks(rng, 30).effects([rate()]) == {}
    assert "error_rate" in blocks(rng, 48).effects([rate()])


def test_what_is_long_ago_fades_and_what_it_said_stays():
    rng = np.random.default_rng(63)
    halves = blocks(rng, 96, copies=4)
    late = START // DAY * DAY + 40 * DAY
    later = halves.after(errors(late, (300, 15), (300, 15)), rollout(), VariantPane(), late + PANE_US)
    before, after = halves.sums["error_rate", None], later.sums["error_rate", None]
    assert after.variance < before.variance / 16
    [one], [other] = (found.effects([rate()])["error_rate"] for found in (halves, later))
    assert other == pytest.approx(one, rel=0.05)


def test_a_specification_that_states_a_design_effect_is_believed_before_the_traffic():
    assert known(3.0).effects([rate(design_effect=1.5)]) == {"error_rate": (1.5,)}
    assert Halves().effects([latency(design_effect=2.0)]) == {"latency_us": (2.0, 2.0)}


def test_a_quantile_too_rare_to_be_known_takes_the_largest_of_the_others():
    seen = known(3.0, levels=(("latency_us", 0.5),))
    assert len(set(seen.effects([latency()])["latency_us"])) == 1


def test_each_quantile_is_counted_beyond_the_usual_one():
    usual = VariantPane(histograms={"latency_us": {700: 50, 750: 40, 800: 10}})
    did = [VariantPane(histograms={"latency_us": one}) for one in ({700: 5, 750: 5}, {750: 6, 800: 4})]
    strata = {Stratum(None, START, False): dict(zip(("first", "second"), did, strict=True))}
    halves = Halves().after(strata, rollout(metrics=[latency()]), usual, START + PANE_US)
    found = {quantile: excess.excess for (_, quantile), excess in halves.excesses.items()}
    assert found == {0.5: pytest.approx(10 - 7.5), 0.9: pytest.approx(4 - 2)}


def test_the_test_of_one_day_ends_with_it_and_one_that_alarms_begins_anew():
    halves, spec = Halves(), rollout(alpha_rollback=0.01)
    for pane in range(3):
        pane_us = START // DAY * DAY + pane * PANE_US
        halves = halves.after(errors(pane_us, (200, 0), (200, 60)), spec, VariantPane(), pane_us + PANE_US)
    assert (halves.alarms, halves.tests) == ({"error_rate": 3}, {"error_rate": 3})
    for day in (1, 2):
        pane_us = START // DAY * DAY + day * DAY
        halves = halves.after(errors(pane_us, (200, 9), (200, 9)), spec, VariantPane(), pane_us + PANE_US)
    assert (halves.alarms["error_rate"], halves.tests["error_rate"]) == (3, 5)


@pytest.mark.parametrize("worse", ["first", "second"])
def test_either_half_may_come_out_worse(worse):
    two = [(200, 60), (200, 0)] if worse == "first" else [(200, 0), (200, 60)]
    assert Halves().after(errors(START, *two), rollout(), VariantPane(), START + PANE_US).alarms


def test_a_half_without_calls_compares_nothing():
    halves = Halves().after(errors(START, (200, 60)), rollout(), VariantPane(), START + PANE_US)
    assert (halves.tests, halves.excesses) == ({}, {})


def test_alarms_are_as_rare_as_alpha_says_once_dependence_is_known_and_not_before():
    """A month of units that make four calls each, all of one fate."""
    rng, days, alpha = np.random.default_rng(64), 30, 0.05
    spec = rollout(alpha_rollback=alpha)
    untold = blocks(rng, 48 * days, copies=4, calls=200, spec=replace(spec, metrics=[rate(design_effect=1)]))
    told = blocks(rng, 48 * days, copies=4, calls=200, spec=spec)
    allowed = binom.ppf(0.999, days, alpha)
    assert untold.alarms["error_rate"] > allowed
    assert told.alarms.get("error_rate", 0) <= allowed


def test_the_variant_that_serves_is_the_one_that_is_halved():
    spec = rollout()
    for state in ("", "progressing", "rolled_back", "aborted"):
        assert serving(spec, state, "") == "march"
    assert [serving(spec, state, "june") for state in ("promoting", "succeeded")] == ["june"] * 2


def begun(halves, **changes):
    """A rollout that begins after such a history."""
    drive = Drive()
    drive.state = machine.State("acme/prod/answers", halves=halves)
    drive.spec(rollout(**changes))
    return drive


def test_evidence_is_as_much_less_as_calls_resemble_each_other():
    one_step = [Step(weight_bp=5_000, min_calls=10**6)]
    plain, told = begun(Halves(), steps=one_step), begun(known(3.0), steps=one_step)
    for drive in (plain, told):
        drive.serve(panes=8, bad=0.1)
    [effect] = told.progress.evidence[0].design_effects
    assert 3 < effect < 3.3
    one, other = (drive.state.evidence["june"]["error_rate"].curves for drive in (plain, told))
    assert all(one[0, part].any() for part in (emix.HARM, emix.SAFE, emix.GRID))
    np.testing.assert_allclose(other * effect, one)
    assert plain.progress.evidence[0].design_effects == []


def test_a_generation_keeps_the_design_effect_that_it_began_with():
    drive = begun(known(3.0))
    first = drive.command.evidence[0].design_effects
    drive.state = replace(drive.state, halves=known(9.0))
    drive.serve(panes=4)
    assert {tuple(row.evidence[0].design_effects) for row in drive.of(RolloutProgress)} == {tuple(first)}
    drive.spec(rollout(generation=2))
    assert drive.command.evidence[0].design_effects[0] > 9


def test_a_harmful_candidate_is_still_rolled_back_and_with_more_calls():
    calls = [
        begun(halves).serve_until("rolled_back", worse=6).state.totals["june"].calls
        for halves in (Halves(), known(4.0))
    ]
    assert calls[0] < calls[1] <= 8 * calls[0]


def test_a_rollout_published_before_takes_the_design_effects_that_it_was_published_with():
    drive = begun(known(3.0))
    told = Past(commands={1: codec.decode(codec.encode(drive.command), expect=DeploymentCommand)})
    again = Drive()
    again._keep(machine.on_spec(None, rollout(), again.at, told.effects_of(1)))
    assert again.command.evidence[0].design_effects == drive.command.evidence[0].design_effects
    again = Drive()
    again.state = machine.State("acme/prod/answers", halves=known(3.0))
    again._keep(machine.on_spec(again.state, rollout(), again.at, {}))
    assert again.command.evidence[0].design_effects == []


def test_a_rollout_that_dependence_leaves_no_time_for_is_refused():
    def asked(halves):
        drive = Drive(rollout(max_duration_us=1)).serve(panes=190, calls=100)
        drive.state = replace(drive.state, halves=halves)
        drive.spec(rollout(generation=2, max_duration_us=1_800 * 10**6))
        return [one.detail for one in drive.of(DeploymentStatus)]

    assert asked(Halves()) == []
    [why] = asked(known(6.0))
    assert "error_rate needs about" in why


@st.composite
def calls_of_halves(draw, journal):
    """Calls in three panes of two variants, some assigned by a command, each in a half or in none."""
    return [
        (
            journal.Call(
                ts_us=chat().ts + draw(st.integers(0, 29)) * 1_000_000,
                status=draw(st.sampled_from(["ok", "error"])),
                revision=draw(st.sampled_from([None, 1])),
                dimensions={"variant": draw(st.sampled_from(["v1", "v1", "v2"]))},
            ),
            draw(st.sampled_from([True, False, None])),
        )
        for _ in range(draw(st.integers(1, 24)))
    ]


def folded(journal, calls, size):
    """Messages of so many calls, then the end of their panes, and the state that this comes to."""
    made = journal()
    messages = [made.beat(chat().ts), made.rollout(codec.encode(chat()))]
    for i in range(0, len(calls), size):
        for half in (True, False, None):
            share = [call for call, its in calls[i : i + size] if its is half]
            for message in made.calls(share) if share else []:
                [rows] = [partials.unpack(frame.rows) for frame in message.frames]
                rows = rows.with_columns(pl.lit(half, pl.Boolean).alias("aa"))
                messages.append(replace(message, frames=[Frame(kind="calls", rows=partials.pack(rows))]))
    return [*messages, made.beat(chat().ts + 40_000_000)]


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_halves_are_the_same_however_calls_are_split_and_in_whatever_order_they_come(journal, data):
    calls = data.draw(calls_of_halves(journal))
    shuffled = data.draw(st.permutations(calls))
    found = [
        state_after(folded(journal, order, size)).rollouts["acme/prod/chat"].halves
        for order, size in ((calls, 24), (shuffled, data.draw(st.integers(1, 5))))
    ]
    assert frozen.freeze(found[0]).tree == frozen.freeze(found[1]).tree
    one, other = (
        {(call.revision, call.ts_us // PANE_US) for call, its in calls if its is half and is_v1(call)}
        for half in (True, False)
    )
    assert bool(found[0].tests) == bool(one & other)


def is_v1(call):
    return call.series["variant"] == "v1"


def state_after(messages, state=None, begins=0):
    state = state or fold.State(0)
    for offset, message in enumerate(messages, begins):
        fold.apply(state, offset, codec.decode(codec.encode(message), expect=fold.JOURNAL))
    return state


def test_a_restart_from_a_snapshot_goes_on_with_the_same_halves(journal):
    calls = [
        (
            journal.Call(ts_us=chat().ts + i * 1_000_000, status="ok" if i % 5 else "error", revision=1),
            i % 2 == 0,
        )
        for i in range(30)
    ]
    messages = folded(journal, calls, 6)
    whole = state_after(messages)
    first = state_after(messages[:7])
    first.gather()
    again = state_after(messages[7:], frozen.thaw(frozen.freeze(first).pack()), begins=7)
    assert whole.rollouts["acme/prod/chat"].halves.tests == {"error_rate": 1}
    assert frozen.freeze(whole.rollouts).tree == frozen.freeze(again.rollouts).tree


def test_metrics_show_tests_alarms_and_the_largest_design_effect_by_family():
    state, registry = fold.State(3, closed_us=START), CollectorRegistry()
    spec = rollout(metrics=[rate(), rate("evaluation.one"), rate("evaluation.two")])
    for key, effect in (("a/b/c", 2.0), ("a/b/d", 4.0)):
        seen = known(effect, levels=((("evaluation.one"), None),))
        tests = {"evaluation.one": 5, "evaluation.two": 6}
        halves = replace(seen, tests=tests, alarms={"evaluation.two": 1})
        state.rollouts[key] = machine.State(key, spec, halves=halves)
    Meters(registry).show(3, state)

    def shown(name, **labels):
        return registry.get_sample_value(f"tidegate_stream_{name}", {"partition": "3", **labels})

    assert shown("self_tests", metric="evaluation.", what="tests") == 22
    assert shown("self_tests", metric="evaluation.", what="alarms") == 2
    assert 4 < shown("design_effect", metric="evaluation.") < 5
    assert shown("design_effect", metric="error_rate") is None


def test_a_replay_of_a_shortened_journal_takes_the_design_effects_that_were_published(journal):
    made = journal()
    message = made.rollout(codec.encode(chat()))
    [command] = [one for one in fold.apply(fold.State(0), 5, message) if isinstance(one, DeploymentCommand)]
    told = replace(command, evidence=[replace(row, design_effects=[3.0]) for row in command.evidence])
    for past, expected in ((command, []), (told, [3.0])):
        state = fold.State(0, pasts={"acme/prod/chat": Past(commands={1: past})})
        [again] = [one for one in fold.apply(state, 5, message) if isinstance(one, DeploymentCommand)]
        assert again.evidence[0].design_effects == expected
    assert again.command_id == command.command_id
