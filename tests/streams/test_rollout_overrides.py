"""Steps that tolerate more or less than the others: each stratum is judged by the margin of its own step."""

import numpy as np
import pytest
from tests.streams.drive import Drive, latency, rate, rollout

from tidegate.records import DeploymentStatus, Step, StepOverride
from tidegate_streams.rollouts.explanation import lines
from tidegate_streams.rollouts.tolerance import in_step, tolerated

LOOSE = StepOverride(metric="error_rate", rollback_margin=4.0)
STEPS = [Step(weight_bp=1_000, min_calls=4_000, overrides=[LOOSE]), Step(weight_bp=5_000, min_calls=4_000)]
METRICS = [rate(promotion_margin=5.0)]


def test_a_step_that_tolerates_more_lets_pass_what_the_next_rolls_back():
    drive = Drive(rollout(steps=STEPS, metrics=METRICS)).serve_until("rolled_back", worse=2.5, bad=0.05)
    assert drive.actions == ["start", "advance", "rollback"]
    assert "worse than the tolerated odds of 4, then odds of 1.1:" in drive.command.reason
    assert {row.rollback_margin for row in drive.command.evidence} == {1.1}


def test_the_same_harm_without_its_own_margin_is_rolled_back_in_the_first_step():
    plain = [Step(weight_bp=step.weight_bp, min_calls=step.min_calls) for step in STEPS]
    drive = Drive(rollout(steps=plain, metrics=METRICS)).serve_until("rolled_back", worse=2.5, bad=0.05)
    assert drive.actions == ["start", "rollback"]


def test_evidence_of_both_steps_adds_up_each_by_its_own_margin():
    drive = Drive(rollout(steps=STEPS, metrics=METRICS)).serve_until("rolled_back", worse=2.5, bad=0.05)
    (found,) = drive.state.evidence["june"].values()
    first = [one for one in drive.outputs if getattr(one, "step", None) == 0 and hasattr(one, "looks")][-1]
    assert first.evidence[0].rollback_margin == 4.0
    assert first.evidence[0].log_e_rollback < 0 < found.log_e_rollback


@pytest.mark.long
def test_a_candidate_at_the_margin_of_every_step_is_seldom_rolled_back():
    rolled_back = 0
    for seed in range(60):
        drive = Drive(rollout(steps=STEPS, metrics=METRICS, alpha_rollback=0.1), seed=seed)
        for _ in range(60):
            loose = drive.state.step == 0
            odds = (4.0 if loose else 1.1) * 0.05 / 0.95
            drive.serve(bad=0.05, worse=odds / (1 + odds) / 0.05)
            if drive.state.state == "rolling_back":
                rolled_back += 1
                break
    # At most 6 expected; more than 13 with probability below 0.3 %.
    assert rolled_back <= 13


def test_other_metrics_and_steps_keep_their_margins():
    step = STEPS[0]
    assert in_step(latency(), step) == latency()
    assert in_step(rate(), STEPS[1]) == rate()
    assert tolerated(rate(), STEPS) == "odds of 4, then odds of 1.1"
    assert tolerated(rate(), [*STEPS[1:], *STEPS[1:]]) == "odds of 1.1"


def test_a_muted_metric_with_a_margin_of_its_own_says_what_it_would_have_done_and_does_nothing():
    muted = [rate(), rate("abstain_rate", muted=True)]
    steps = [Step(weight_bp=5_000, overrides=[StepOverride(metric="abstain_rate", rollback_margin=1.5)])]
    drive = Drive(rollout(steps=steps, metrics=muted))
    from tidegate_streams.rollouts.strata import Stratum, VariantPane

    for _ in range(20):
        made = {
            name: VariantPane(calls=200, rates={"error_rate": (200, 4), "abstain_rate": (200, bad)})
            for name, bad in (("march", 10), ("june", 100))
        }
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): made})
    row = drive.progress.evidence[1]
    assert (row.verdict, row.rollback_margin) == ("fail", 1.5)
    assert "rollback" not in drive.actions
    assert row.sentence.endswith("(muted: it would have rolled back).")
    assert any(row.sentence in line for line in lines(drive.state.plan, drive.progress))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (StepOverride(metric="eror_rate", rollback_margin=2.0), "eror_rate, which is none of the metrics"),
        (StepOverride(metric="error_rate", promotion_margin=2.0), "promotion is asked once"),
        (StepOverride(metric="error_rate"), "step 1 tolerates None of error_rate"),
        (StepOverride(metric="error_rate", rollback_margin=0.9), "step 1 tolerates 0.9 of error_rate"),
        (StepOverride(metric="error_rate", rollback_margin=np.nan), "step 1 tolerates nan of error_rate"),
        (StepOverride(metric="error_rate", rollback_margin=6.0), "step 1 tolerates 6.0 of error_rate"),
    ],
)
def test_margins_of_a_step_that_make_no_sense_are_refused(override, problem):
    steps = [Step(weight_bp=1_000, overrides=[override])]
    (refused,) = Drive(rollout(steps=steps, metrics=METRICS)).of(DeploymentStatus)
    assert problem in refused.detail


def test_two_margins_of_one_metric_in_one_step_are_refused():
    steps = [Step(weight_bp=1_000, overrides=[LOOSE, LOOSE])]
    (refused,) = Drive(rollout(steps=steps, metrics=METRICS)).of(DeploymentStatus)
    assert "step 1 has two margins for error_rate" in refused.detail
