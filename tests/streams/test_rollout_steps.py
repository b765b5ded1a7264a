"""How a rollout goes through its steps, and how it ends."""

from dataclasses import replace

import numpy as np
import pytest
from tests.streams.drive import HOUR, SECOND, START, Drive, rate, rollout

from tidegate.records import DeploymentCommand, Step


def test_a_healthy_candidate_goes_through_its_steps_and_is_promoted():
    drive = Drive(rollout()).serve_until("succeeded")
    assert drive.actions == ["start", "advance", "advance", "promote"]
    assert [w.weight_bp for c in drive.of(DeploymentCommand) for w in c.weights if w.variant == "june"] == [
        1_000,
        2_500,
        5_000,
        10_000,
    ]
    assert [command.revision for command in drive.of(DeploymentCommand)] == [1, 2, 3, 4]
    assert [command.previous_revision for command in drive.of(DeploymentCommand)] == [None, 1, 2, 3]
    assert drive.command.evidence[0].verdict == "pass"
    assert "harm is excluded for error_rate beyond odds of 2" in drive.command.reason
    assert drive.progress.reason == f"june serves all traffic. {drive.command.reason}"


def test_a_harmful_candidate_is_rolled_back_with_its_evidence_in_a_sentence():
    drive = Drive(rollout()).serve_until("rolled_back", bad=0.05, worse=8)
    assert drive.actions == ["start", "rollback"]
    assert drive.weight("june") == 0
    evidence = drive.command.evidence[0]
    assert evidence.verdict == "fail"
    assert evidence.log_e_rollback >= np.log(100)
    assert evidence.ci_low > 1.10
    assert drive.command.reason.startswith("june is rolled back to march: error_rate: ")
    assert (
        "worse than the tolerated odds of 1.1: chance alone shows this at most once in" in evidence.sentence
    )
    assert drive.state.state == "rolled_back"
    assert drive.progress.reason == f"march serves all traffic. {drive.command.reason}"


def test_the_first_thirty_seconds_after_a_change_of_weights_do_not_count():
    drive = Drive(rollout())
    assert drive.progress.reason == "june starts at 10 % beside march."
    drive.serve(3, bad=0.02, worse=40)
    assert drive.progress.exposure[1].calls == 0
    assert drive.state.state == "initialising"
    warming = "Step 1 of 3 (10 % june): warming up for 10 s more; calls right after the change do not count."
    assert drive.progress.reason == warming
    drive.serve(1)
    assert drive.state.state == "progressing"
    assert drive.progress.exposure[1].calls == 40


def test_the_warm_up_follows_the_slowest_calls_of_the_baseline_and_is_fixed_at_the_command():
    slow = {"histograms": {"latency_us": {900: 400}}}
    drive = Drive(rollout()).serve(4, **slow)
    before = drive.state
    while drive.state.step == 0:
        drive.serve(**slow)
    warmup_us = drive.state.settled_us - drive.command.ts
    assert warmup_us == pytest.approx(2 * 1.02**900)
    assert before.settled_us == START + 30 * SECOND
    assert drive.serve(1, histograms={"latency_us": {1_000: 400}}).state.settled_us == drive.state.settled_us


def test_own_warm_up_of_a_step_is_kept():
    drive = Drive(rollout(steps=[Step(weight_bp=1_000, warmup_us=0, min_calls=40)]))
    drive.serve(1)
    assert drive.progress.exposure[1].calls == 40


def test_an_inconclusive_end_holds_by_default():
    unsure = rollout(max_duration_us=HOUR, metrics=[rate(promotion_margin=1.11)])
    drive = Drive(unsure).serve_until("holding")
    assert drive.command.action == "hold"
    assert drive.weight("june") == 5_000
    assert "is not decided after 1 h: it is held there for a person to decide" in drive.command.reason
    assert "error_rate is inconclusive" in drive.command.reason
    assert drive.serve(50).state.state == "holding"


@pytest.mark.parametrize(("policy", "end"), [("rollback", "rolled_back"), ("promote", "succeeded")])
def test_an_inconclusive_end_does_what_was_asked_for(policy, end):
    spec = rollout(max_duration_us=HOUR, on_inconclusive=policy, metrics=[rate(promotion_margin=1.11)])
    drive = Drive(spec).serve_until(end)
    assert f"an inconclusive end means {policy.replace('promote', 'promotion')} here" in drive.command.reason


def test_promotion_by_the_clock_still_needs_data():
    drive = Drive(rollout(max_duration_us=HOUR, on_inconclusive="promote"))
    for _ in range(400):
        drive.look({})
    assert drive.state.state == "holding"
    assert drive.weight("june") < 10_000


def test_a_step_has_its_own_time_limit():
    spec = rollout(steps=[Step(weight_bp=500, min_calls=10**6, max_duration_us=600 * SECOND)])
    drive = Drive(spec).serve_until("holding")
    assert drive.command.ts - START == 600 * SECOND
    assert "Step 1 of 1 (5 % june) is not decided after 10 min" in drive.command.reason


def test_resume_after_a_time_limit_starts_the_time_again():
    unsure = rollout(max_duration_us=HOUR, metrics=[rate(promotion_margin=1.11)])
    drive = Drive(unsure).serve_until("holding", calls=40)
    drive.act("resume")
    assert drive.state.state == "progressing"
    resumed_at = drive.command.ts
    drive.serve_until("holding", calls=40)
    assert drive.command.ts - resumed_at == HOUR


def test_harm_still_rolls_back_while_held_or_paused_or_waiting_for_an_approval():
    gated = rollout(steps=[Step(weight_bp=1_000, min_calls=50, approval=True), Step(weight_bp=5_000)])
    waiting = Drive(gated).serve_until("holding")
    assert waiting.command.reason.endswith("it waits for an approval to go on.")
    paused = Drive(rollout()).serve_until("progressing")
    paused.act("pause")
    for drive in (waiting, paused):
        assert drive.state.state == "holding"
        drive.serve_until("rolled_back", worse=30)


def test_no_step_ends_without_its_approval_and_an_approval_given_early_counts():
    gated = rollout(
        steps=[Step(weight_bp=1_000, min_calls=50, approval=True), Step(weight_bp=5_000, approval=True)]
    )
    drive = Drive(gated).serve_until("holding")
    drive.act("approve")
    assert drive.command.action == "advance"
    assert drive.command.actor == "grace"
    assert "Approved by grace: I say so" in drive.command.reason
    drive.act("approve")
    assert drive.state.state == "progressing"
    drive.serve_until("succeeded")
    assert drive.actions == ["start", "hold", "advance", "promote"]


@pytest.mark.parametrize("waiting", [False, True])
def test_an_approval_of_what_is_paused_says_that_it_still_is(waiting):
    drive = Drive(rollout(paused=waiting))
    if not waiting:
        drive.serve_until("progressing")
        drive.act("pause")
    drive.act("approve")
    assert drive.progress.paused
    assert drive.progress.reason.endswith("(it is still paused: resume starts it again)")
    drive.act("resume")
    drive.act("approve")
    assert not drive.progress.paused
    assert "still paused" not in drive.progress.reason


def test_an_approval_expires_by_event_time():
    gated = rollout(steps=[Step(weight_bp=1_000, min_calls=400, approval=True), Step(weight_bp=5_000)])
    drive = Drive(gated).serve(2)
    drive.act("approve", expires_at=drive.pane_us + 40 * SECOND)
    drive.serve_until("holding")
    assert drive.actions == ["start", "hold"]


def test_users_are_asked_for_only_where_they_are_reported():
    spec = rollout(steps=[Step(weight_bp=1_000, min_calls=10, min_units=5), Step(weight_bp=5_000)])
    without = Drive(spec).serve(6)
    assert without.state.step == 1
    few = Drive(spec).serve(20, users={1: 3, 2: 4})
    assert few.state.step == 0
    assert "2 of 5 users so far" in few.progress.reason
    many = Drive(spec).serve(6, users=dict.fromkeys(range(50), 1))
    assert many.state.step == 1
    assert many.progress.exposure[1].units == 50


def test_a_rollout_that_no_call_ever_obeys_ends_inconclusive():
    drive = Drive(rollout(max_duration_us=HOUR), watermark_us=None)
    while drive.state.state == "initialising":
        drive.look()
    assert drive.command.action == "hold"
    assert drive.command.ts - START == HOUR


def test_ties_go_back_to_the_baseline():
    """Harm and safety together cannot be had from one curve; evidence that claims both is rolled back."""
    drive = Drive(rollout(steps=[Step(weight_bp=5_000)], metrics=[rate(promotion_margin=1.11)])).serve(5)
    torn = drive.state.evidence["june"]["error_rate"]
    curves = torn.curves.copy()
    curves[:, 1:13] += 50
    curves[:, 14:26] += 50
    drive.state = replace(drive.state, evidence={"june": {"error_rate": replace(torn, curves=curves)}})
    drive.look()
    assert drive.command.action == "rollback"
    assert drive.command.evidence[0].log_e_promotion > np.log(20)
