"""What explain says: why this state, what each metric shows, and what a promotion would take."""

from dataclasses import replace

import numpy as np
import pytest
from tests.streams.drive import SECOND, START, Drive, latency, rate, reached, rollout

from tidegate.records import Freeze, Step
from tidegate_infra.cli import rollout_view
from tidegate_infra.cli.rollout_view import odds
from tidegate_streams.rollouts.explanation import conditions, explained, lines
from tidegate_streams.statistics import emix

POINTS = {"margin_kind": "absolute", "rollback_margin": 0.01, "promotion_margin": 0.03}


def listed(drive: Drive) -> dict[str, bool]:
    return {one.text: one.met for one in conditions(drive.state.plan, drive.progress, "june")}


def test_it_says_the_stream_s_own_sentences_and_the_figures() -> None:
    drive = Drive(rollout(metrics=[rate(**POINTS), latency()])).serve(6)
    said = lines(drive.state.plan, drive.progress)
    assert f"state       progressing: {drive.progress.reason}" in said
    for row in drive.progress.evidence:
        assert f"  {row.sentence}" in said
    header = next(line for line in said if line.strip().startswith("METRIC"))
    assert header.split() == [
        "METRIC", "VERDICT", "ESTIMATE", "INTERVAL", "E_ROLLBACK", "E_PROMOTION", "ALPHA_SPENT",
    ]  # fmt: skip
    assert any("march when the weighted mean of e_rollback reaches 100." in line for line in said)


def test_that_it_was_forced_is_said_as_long_as_it_runs() -> None:
    for force, times in ((True, 1), (False, 0)):
        drive = Drive(rollout(force=force))
        for _ in range(2):
            said = lines(drive.state.plan, drive.progress)
            told = "taken whether or not it can decide in 6 h; its start says why it might not"
            assert sum(told in line for line in said) == times
            assert explained(drive.state.plan, drive.progress)["forced"] is force
            drive.serve(6)


def test_odds_beyond_the_grid_are_told_as_beyond_it_and_the_figures_are_named() -> None:
    shown = {"over 20": {"bad": 0.01, "worse": 90}, "under 0.05": {"bad": 0.9, "worse": 0.001}}
    for end, how in shown.items():
        drive = Drive(rollout(steps=[Step(weight_bp=5_000, min_calls=10**6)])).serve(8, **how)
        view = explained(drive.state.plan, drive.progress)
        assert odds(view["metrics"][0])["estimate"] == end
        assert end in (odds(view["metrics"][0])["interval"] or "")
        for said in (rollout_view.lines(view), lines(drive.state.plan, drive.progress)):
            assert any(end in line for line in said)
            assert any("odds of a bad event with june, divided by those with march" in line for line in said)
        assert "n, events           march / june" in rollout_view.lines(view)
    assert odds({"estimate": None, "interval": [None, None]}) == {"estimate": None, "interval": None}
    assert odds({"estimate": 1.5, "interval": [0.5, None]}) == {
        "estimate": "1.5",
        "interval": "0.5 … over 20",
    }
    ends = np.exp(emix.GRID_LOG_PSI[[0, -1]])
    assert ends == pytest.approx([rollout_view.LEAST_ODDS, rollout_view.MOST_ODDS])


def test_each_condition_of_a_promotion_is_there_with_its_figure() -> None:
    steps = [Step(weight_bp=1_000, min_calls=200), Step(weight_bp=5_000, min_calls=900, approval=True)]
    drive = Drive(rollout(steps=steps, min_calls=500, metrics=[rate(**POINTS), rate("timeout_rate")]))
    drive.serve(5)
    found = listed(drive)
    calls = drive.progress.exposure[1].calls
    assert 0 < calls < 200
    e_value = next(text for text in found if text.startswith("harm of error_rate beyond 3 points"))
    assert e_value.endswith("of 20 that it takes")
    unseen = next(text for text in found if text.startswith("harm of timeout_rate beyond odds of 2 is"))
    assert "the e-value against it is 1, of 20" in unseen
    assert found == {
        "somebody approves the end of step 2": False,
        f"step 1 has served {calls} of 200 calls of june": False,
        f"all steps have served {calls} of 500 calls of june": False,
        "step 2 of 2 is done: 50 % with 900 calls of june": False,
        e_value: False,
        unseen: False,
    }


def test_all_conditions_are_met_by_the_look_before_a_promotion() -> None:
    drive = Drive(rollout(steps=[Step(weight_bp=5_000, min_calls=100)], metrics=[rate(**POINTS)]))
    before: dict[str, bool] = {}
    while drive.progress.state not in ("promoting", "succeeded"):
        before = listed(drive)
        drive.serve(1)
    assert sum(not met for met in before.values()) <= 1
    assert conditions(drive.state.plan, drive.progress, "june") == []
    assert lines(drive.state.plan, drive.progress)[-1].startswith("It has ended: ")


def test_a_freeze_a_lasting_step_and_something_better_are_conditions_where_they_are_asked_for() -> None:
    minute = 60 * SECOND
    steps = [Step(weight_bp=1_000, min_calls=50), Step(weight_bp=5_000, min_duration_us=30 * minute)]
    drive = Drive(rollout(steps=steps, freezes=[Freeze(starts_at=START, ends_at=START + minute)])).serve(2)
    assert "the freeze is over: 2023-11-14 22:14 UTC" in listed(drive)
    assert "step 2 of 2 is done: 50 %, at least 30 min" in listed(drive)
    drive = Drive(rollout(strategy="ab", steps=[Step(weight_bp=5_000, min_calls=10**6)])).serve(4)
    better = "june is better beyond doubt in something: a whole interval below 1, at 5.0 %"
    assert listed(drive)[better] is False
    assert listed(drive.serve(60, bad=0.3, worse=0.2))[better] is True


def test_a_metric_that_looks_harmful_is_a_condition_of_its_own() -> None:
    drive = Drive(rollout(steps=[Step(weight_bp=5_000, min_calls=10**6)], metrics=[rate(**POINTS)]))
    seen = []
    while drive.progress.state in ("initialising", "progressing"):
        drive.serve(1, calls=60, worse=3)
        seen += [text for text in listed(drive) if "no longer looks harmful: its e-value" in text]
    assert seen


@pytest.mark.parametrize("name", ["holding", "progressing", "initialising", "rolled_back", "aborted"])
def test_every_state_can_be_explained(name: str) -> None:
    drive = dict(reached())[name]
    view = explained(drive.state.plan, drive.progress)
    assert view["state"] == drive.progress.state
    assert lines(drive.state.plan, drive.progress)
    held = [one for one in view["to_promote"] if one["text"].startswith("it is no longer held")]
    assert bool(held) == (name == "holding")


def test_a_specification_that_was_not_taken_up_is_pending() -> None:
    view = explained(rollout(), None)
    assert (view["state"], view["to_promote"]) == ("pending", [])
    assert len(lines(rollout(), None)) == 3


def test_it_says_how_much_evidence_counts_and_how_often_nothing_was_taken_for_something() -> None:
    drive = Drive(rollout(metrics=[rate(), latency(design_effect=1.8)])).serve()
    progress = replace(drive.progress, self_tests=310, self_alarms=2)
    said = "\n".join(lines(drive.state.plan, progress))
    assert "Evidence is divided by 1.8 (latency_us), as the rollout states." in said
    assert "because calls of one user" not in said
    assert "is not known for error_rate yet: they count as independent." in said
    assert "Of 310 tests of the serving variant against itself 2 found a difference" in said
    assert "alpha 0.01 lets 3.1 do so." in said
    progress.evidence[0].design_effects = [1.234, 2.5]
    said = "\n".join(lines(drive.state.plan, progress))
    assert "divided by 1.2 to 2.5 (error_rate), because calls of one user resemble each other." in said


def test_odds_are_told_in_points_at_the_rate_of_the_baseline() -> None:
    metrics = [rate(), rate("evaluation.kind", increase_is="good"), latency()]
    slow = {700: 300, 760: 100}
    drive = Drive(rollout(metrics=metrics)).serve(panes=40, histograms={"latency_us": slow})
    assert drive.progress.evidence[2].value_baseline > 1
    [row] = [one for one in drive.progress.evidence if one.metric == "error_rate"]
    p = row.value_baseline
    low, high = (100 * (p * odds / (1 - p + p * odds) - p) for odds in (row.ci_low, row.ci_high))
    said = lines(drive.state.plan, drive.progress)
    assert [line for line in said if "points more" in line] == [
        f"  error_rate, where march has {100 * p:.1f} %: june has {low:+.2g} to {high:+.2g} points more"
    ]
    assert low < 0 < high
