import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from tidegate import codec
from tidegate.errors import InvariantBroken
from tidegate.records import (
    Alert,
    DecisionMetric,
    DeploymentCommand,
    DeploymentStatus,
    Rollout,
    RolloutAction,
    RolloutProgress,
    Step,
    Variant,
)
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import machine
from tidegate_streams.rollouts.machine import Position
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import Stratum, VariantPane
from tidegate_streams.rollouts.transitions import ACTIONS, FINISHED, STATES, TRANSITIONS

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
HOUR = 3_600 * SECOND


def rate(name="error_rate", **changes):
    defaults = {
        "kind": "rate",
        "margin_kind": "odds",
        "rollback_margin": 1.10,
        "promotion_margin": 2.0,
    }
    return DecisionMetric(name=name, **(defaults | changes))


def rollout(**changes):
    defaults = {
        "name": "june-snapshot",
        "tenant": "acme",
        "environment": "prod",
        "deployment": "answers",
        "generation": 1,
        "spec_hash": f"hash-{changes.get('generation', 1)}",
        "source_yaml": "",
        "actor": "ada",
        "ts": START,
        "strategy": "canary",
        "assignment_unit": "user",
        "salt": "june-snapshot",
        "max_duration_us": 6 * HOUR,
        "variants": [Variant(name="march", role="baseline"), Variant(name="june", role="candidate")],
        "steps": [
            Step(weight_bp=1_000, min_calls=100),
            Step(weight_bp=2_500, min_calls=100),
            Step(weight_bp=5_000, min_calls=100),
        ],
        "metrics": [rate()],
    }
    return Rollout(**(defaults | changes))


def action(kind, **changes):
    defaults = {
        "action_id": f"{kind}-1",
        "key": "acme/prod/answers",
        "generation": 1,
        "actor": "grace",
        "reason": "I say so",
        "ts": START,
    }
    return RolloutAction(action=kind, **(defaults | changes))


class Drive:
    """A deployment with traffic: an app obeys the last command and its calls come back pane by pane."""

    def __init__(self, spec=None, *, watermark_us=START, seed=1):
        self.state, self.outputs, self.offset = None, [], 0
        self.pane_us = START
        self.watermark_us = watermark_us
        self.rng = np.random.default_rng(seed)
        if spec is not None:
            self.spec(spec)

    @property
    def at(self):
        self.offset += 1
        return Position(partition=0, offset=self.offset, watermark_us=self.watermark_us)

    def _keep(self, result):
        self.state, new = result
        self.outputs += new
        return new

    def spec(self, spec):
        return self._keep(machine.on_spec(self.state, spec, self.at))

    def delete(self):
        return self._keep(machine.on_deleted(self.state, self.at))

    def act(self, kind, **changes):
        changes.setdefault("action_id", f"{kind}-{self.offset}")
        return self._keep(machine.on_action(self.state, action(kind, **changes), self.at))

    def look(self, strata=None):
        self.pane_us += PANE_US
        self.watermark_us = self.pane_us
        return self._keep(machine.on_look(self.state, self.pane_us, strata or {}, self.at))

    def serve(self, panes=1, calls=400, bad=0.02, worse=1.0, **measured):
        """Serve panes; `worse` multiplies the candidate's share of bad events."""
        for _ in range(panes):
            share = self.weight("june") / 10_000
            n_c = round(calls * share)
            arms = {"march": (calls - n_c, bad), "june": (n_c, bad * worse)}
            panes_of = {
                variant: VariantPane(
                    calls=n, rates={"error_rate": (n, int(self.rng.binomial(n, min(p, 1.0))))}, **measured
                )
                for variant, (n, p) in arms.items()
                if n
            }
            self.look({Stratum(self.state.revision, self.pane_us, False): panes_of})
        return self

    def serve_until(self, *states, limit=2_000, **how):
        for _ in range(limit):
            if self.state.state in states:
                return self
            self.serve(**how)
        raise AssertionError(f"still {self.state.state} after {limit} panes: {self.state.reason}")

    def weight(self, variant):
        commands = self.of(DeploymentCommand)
        return next(w.weight_bp for w in commands[-1].weights if w.variant == variant)

    def of(self, kind):
        return [record for record in self.outputs if isinstance(record, kind)]

    @property
    def actions(self):
        return [command.action for command in self.of(DeploymentCommand)]

    @property
    def command(self):
        return self.of(DeploymentCommand)[-1]

    @property
    def progress(self):
        return self.of(RolloutProgress)[-1]


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
    assert drive.progress.reason == "june serves all traffic."


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
    assert drive.progress.reason == "march serves all traffic."


def test_the_first_thirty_seconds_after_a_change_of_weights_do_not_count():
    drive = Drive(rollout())
    drive.serve(3, bad=0.02, worse=40)
    assert drive.progress.exposure[1].calls == 0
    assert drive.state.state == "initialising"
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


def test_calls_of_other_revisions_or_of_none_decide_nothing():
    drive = Drive(rollout())
    for revision in itertools.chain([None, 7, 99] * 20):
        drive.look(
            {
                Stratum(revision, drive.pane_us, False): {
                    "march": VariantPane(calls=300, rates={"error_rate": (300, 3)}),
                    "june": VariantPane(calls=300, rates={"error_rate": (300, 290)}),
                }
            }
        )
    assert drive.actions == ["start"]
    assert [exposure.calls for exposure in drive.progress.exposure] == [0, 0]


def test_late_calls_count_for_the_step_that_assigned_them_as_a_stratum_of_their_own():
    drive = Drive(rollout()).serve_until("progressing")
    while drive.state.step == 0:
        drive.serve()
    first, late_pane = 1, START + 4 * PANE_US
    drive.serve(3)
    calls, step_calls = (drive.progress.exposure[1].calls, drive.progress.exposure[1].calls_step)
    late = {
        "march": VariantPane(calls=20, rates={"error_rate": (20, 0)}),
        "june": VariantPane(calls=9, rates={"error_rate": (9, 9)}),
    }
    drive.look({Stratum(first, late_pane, True): late})
    assert drive.progress.exposure[1].calls == calls + 9
    assert drive.progress.exposure[1].calls_step == step_calls
    assert drive.progress.evidence[0].events_candidate >= 9


def test_a_second_look_at_a_pane_is_refused():
    drive = Drive(rollout()).serve(2)
    with pytest.raises(InvariantBroken, match="after one that ended at"):
        machine.on_look(drive.state, drive.pane_us, {}, drive.at)


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


def test_an_approval_expires_by_event_time():
    gated = rollout(steps=[Step(weight_bp=1_000, min_calls=400, approval=True), Step(weight_bp=5_000)])
    drive = Drive(gated).serve(2)
    drive.act("approve", expires_at=drive.pane_us + 40 * SECOND)
    drive.serve_until("holding")
    assert drive.actions == ["start", "hold"]


def test_promotion_needs_every_step_and_every_metric_that_has_effect():
    spec = rollout(metrics=[rate(), rate("abstain_rate"), rate("refusal_rate", muted=True)])
    drive = Drive(spec).serve(400)
    verdicts = {row.metric: row.verdict for row in drive.progress.evidence}
    assert verdicts == {"error_rate": "pass", "abstain_rate": "skipped", "refusal_rate": "skipped"}
    assert drive.state.state == "progressing"
    assert drive.state.step == 2
    assert drive.progress.reason.endswith("abstain_rate is skipped.")


def test_a_muted_metric_is_recorded_and_has_no_effect():
    drive = Drive(rollout(metrics=[rate(muted=True), rate("timeout_rate")])).serve(60, worse=20)
    assert drive.actions == ["start", "advance", "advance"]
    assert drive.progress.evidence[0].verdict == "fail"
    assert drive.progress.evidence[0].sentence.endswith("(muted: no effect).")


def test_a_metric_below_its_least_number_of_observations_has_no_effect():
    drive = Drive(rollout(metrics=[rate(min_n=10**6)])).serve(40, worse=20)
    assert drive.actions == ["start", "advance", "advance"]
    assert drive.progress.evidence[0].verdict == "skipped"
    assert "of 1,000,000 calls of june" in drive.progress.evidence[0].sentence


def test_failed_measurements_are_an_error_and_neither_pass_nor_fail():
    spec = rollout(metrics=[rate("evaluation.faithful")])
    drive = Drive(spec).serve(200, failures={"evaluation.faithful": 10})
    assert drive.progress.evidence[0].verdict == "error"
    assert "measurements failed" in drive.progress.evidence[0].sentence
    assert drive.state.state == "progressing"


def test_a_suspicious_candidate_is_not_given_more_traffic():
    spec = rollout(
        steps=[Step(weight_bp=1_000, min_calls=200), Step(weight_bp=5_000)],
        metrics=[rate(), *(rate(f"guardrail.{i}") for i in range(40))],
    )
    drive = Drive(spec).serve(3)
    for _ in range(6):
        worse = {
            "march": VariantPane(calls=360, rates={"error_rate": (360, 7)}),
            "june": VariantPane(calls=40, rates={"error_rate": (40, 3)}),
        }
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): worse})
    assert drive.progress.exposure[1].calls_step == 240
    assert 20 < np.exp(drive.progress.evidence[0].log_e_rollback) < 41 * 100
    assert drive.state.step == 0
    assert "It stays while error_rate looks harmful." in drive.progress.reason


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


def test_a_new_generation_starts_afresh_and_revisions_continue():
    drive = Drive(rollout()).serve(8)
    assert drive.state.step == 1
    new = drive.spec(rollout(generation=2))
    assert [r.state for r in new if isinstance(r, RolloutProgress)] == ["superseded", "initialising"]
    assert drive.state.step == 0
    assert drive.progress.exposure[1].calls == 0
    assert drive.command.revision == 3
    assert drive.command.generation == 2
    drive.serve_until("succeeded")


def test_an_older_generation_or_a_changed_one_of_the_same_number_is_refused_and_a_repeated_one_ignored():
    drive = Drive(rollout(generation=3)).serve(5)
    before = drive.state
    assert drive.spec(rollout(generation=3)) == []
    (changed,) = drive.spec(rollout(generation=3, spec_hash="other"))
    (older,) = drive.spec(rollout(generation=2))
    for refused in (changed, older):
        assert isinstance(refused, DeploymentStatus)
        assert refused.status == "rejected"
        assert "generation 3 is in force" in refused.detail
    assert drive.state is before


def test_a_withdrawn_specification_is_aborted_and_a_finished_one_left_as_it_is():
    live = Drive(rollout()).serve(8)
    live.delete()
    assert live.command.action == "abort"
    assert live.weight("june") == 0
    assert live.state.state == "aborted"
    live.spec(rollout(generation=1))
    assert live.command.action == "start"
    assert live.command.revision == 4
    done = Drive(rollout()).serve_until("succeeded")
    assert done.delete() == []
    assert done.weight("june") == 10_000


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"strategy": "blue_green"}, "strategy blue_green is not there yet: use canary"),
        ({"variants": [Variant(name="june", role="candidate")]}, "one baseline with one candidate"),
        ({"steps": []}, "there are no steps"),
        ({"metrics": [rate(muted=True)]}, "no metric has effect"),
        ({"metrics": [rate(kind="mean")]}, "only rates and quantiles decide"),
    ],
)
def test_a_specification_that_cannot_run_is_refused_and_changes_nothing(changes, problem):
    drive = Drive()
    (refused,) = drive.spec(rollout(**changes))
    assert refused.status == "rejected"
    assert problem in refused.detail
    assert drive.state == State("acme/prod/answers")


def test_a_paused_specification_waits_with_all_traffic_on_the_baseline():
    drive = Drive(rollout(paused=True)).serve(20)
    assert drive.actions == ["pause"]
    assert drive.weight("june") == 0
    assert drive.progress.paused
    (refused,) = drive.act("advance")
    assert refused.detail == "it has not started: resume starts its first step"
    drive.act("resume")
    assert drive.command.action == "start"
    assert drive.weight("june") == 1_000
    drive.serve_until("succeeded")


def test_people_can_pause_resume_advance_promote_roll_back_and_abort():
    drive = Drive(rollout()).serve_until("progressing")
    drive.act("pause")
    assert drive.progress.paused
    drive.serve(100)
    assert drive.state.step == 0
    drive.act("resume")
    drive.act("advance")
    assert (drive.state.state, drive.state.step, drive.weight("june")) == ("progressing", 1, 2_500)
    drive.act("promote")
    assert (drive.state.state, drive.weight("june")) == ("promoting", 10_000)
    drive.serve_until("succeeded")
    drive.act("rollback")
    assert (drive.state.state, drive.weight("june")) == ("rolling_back", 0)
    drive.serve_until("rolled_back")
    assert [command.actor_kind for command in drive.of(DeploymentCommand)] == ["human"] * 6
    assert drive.command.reason == "June rolled back to march by grace: I say so"
    other = Drive(rollout()).serve(3)
    other.act("abort")
    assert (other.state.state, other.weight("june")) == ("aborted", 0)


def test_a_pause_keeps_counting_without_a_new_warm_up():
    drive = Drive(rollout()).serve(5)
    assert drive.progress.exposure[1].calls == 80
    drive.act("pause")
    drive.serve(1)
    assert drive.progress.exposure[1].calls == 120


def test_an_action_is_carried_out_once():
    drive = Drive(rollout()).serve(5)
    assert drive.act("pause", action_id="p1")
    drive.act("resume")
    assert drive.act("pause", action_id="p1") == []
    assert drive.state.state == "progressing"


@pytest.mark.parametrize(
    ("kind", "changes", "detail"),
    [
        ("pause", {"generation": 0}, "it was meant for generation 0, and generation 1 is in force"),
        ("pause", {"expected_revision": 9}, "it expected revision 9, and revision 1 is in force"),
        ("resume", {}, "resume is not possible while the rollout is progressing"),
        ("explode", {}, "'explode' is no action: use one of pause, resume"),
        ("pause", {"target": "june"}, "pause takes no target, and 'june' was given"),
    ],
)
def test_an_action_that_cannot_be_carried_out_is_answered_with_the_reason(kind, changes, detail):
    drive = Drive(rollout()).serve(4)
    before = replace(drive.state, acted=frozenset({"a"}))
    (refused,) = drive.act(kind, action_id="a", **changes)
    assert (refused.command_id, refused.status, refused.revision) == ("a", "rejected", 0)
    assert detail in refused.detail
    assert drive.state.to_dict() == before.to_dict()


def test_the_last_step_has_no_next_one():
    drive = Drive(rollout(steps=[Step(weight_bp=1_000)])).serve(4)
    (refused,) = drive.act("advance")
    assert refused.detail == "this is the last step: promote sends all traffic to the candidate"


def test_an_action_waits_for_its_generation_or_expires():
    drive = Drive()
    assert drive.act("pause", action_id="early") == []
    drive.spec(rollout())
    assert drive.actions == ["start", "pause"]
    assert drive.state.held_for == "person"
    drive.act("abort", action_id="later", generation=2, expires_at=drive.pane_us + 30 * SECOND)
    (status, _) = [record for record in drive.serve(4).outputs if record in drive.of(DeploymentStatus)] + [0]
    assert (status.command_id, status.status) == ("later", "expired")
    drive.spec(rollout(generation=2))
    assert drive.state.state == "initialising"


def test_an_action_with_a_malformed_key_and_no_rollout_only_waits():
    state, published = machine.on_action(None, action("pause", key="nonsense", expires_at=START), Drive().at)
    assert published == []
    state, published = machine.on_look(state, START + PANE_US, {}, Position(0, 1, START + PANE_US))
    assert [record.status for record in published] == ["expired"]


def test_every_alert_that_fires_resolves_and_a_pause_of_a_person_is_none():
    drive = Drive(rollout(max_duration_us=HOUR, metrics=[rate(promotion_margin=1.11)])).serve_until("holding")
    drive.act("resume")
    drive.act("pause")
    drive.serve_until("rolled_back", worse=30)
    changes = [(alert.rule, alert.status, alert.severity) for alert in drive.of(Alert)]
    assert changes == [
        ("rollout_held", "firing", "warning"),
        ("rollout_held", "resolved", "warning"),
        ("rollout_rolled_back", "firing", "critical"),
        ("rollout_rolled_back", "resolved", "critical"),
    ]
    rolled_back = drive.of(Alert)[2]
    assert rolled_back.cause_id == drive.command.command_id
    assert rolled_back.value >= rolled_back.threshold == 100
    assert {pair.key: pair.value for pair in rolled_back.annotations}["summary"] == drive.command.reason


def test_a_dry_run_decides_on_what_others_assigned_and_marks_every_command():
    drive = Drive(rollout(dry_run=True))
    for _ in range(60):
        n_c, n_b = 40, 360
        drive.look(
            {
                Stratum(4_711, drive.pane_us, False): {
                    "march": VariantPane(calls=n_b, rates={"error_rate": (n_b, 7)}),
                    "june": VariantPane(calls=n_c, rates={"error_rate": (n_c, 20)}),
                }
            }
        )
    assert drive.actions == ["start", "rollback"]
    assert all(command.dry_run for command in drive.of(DeploymentCommand))


def test_a_replay_of_last_year_is_judged_in_last_years_time():
    spec = rollout(ts=START + 400 * 24 * HOUR)
    drive = Drive(spec, watermark_us=None)
    assert drive.command.ts == spec.ts
    assert drive.command.watermark is None
    drive.serve_until("succeeded", limit=200)
    assert drive.progress.started_at == START


def test_a_rollout_that_no_call_ever_obeys_ends_inconclusive():
    drive = Drive(rollout(max_duration_us=HOUR), watermark_us=None)
    while drive.state.state == "initialising":
        drive.look()
    assert drive.command.action == "hold"
    assert drive.command.ts - START == HOUR


def test_a_level_with_too_little_history_does_not_stand_for_the_metric():
    drive = latencies(Drive(rollout(metrics=[latency(quantiles=[0.5, 0.9999])])), 1.0, 5)
    (row,) = drive.progress.evidence
    assert row.verdict == "inconclusive"
    assert row.n_candidate == 80
    assert "above the usual p50 of march" in row.sentence


def test_without_any_bad_event_odds_stay_open_and_the_reason_says_what_to_do():
    drive = Drive(rollout(steps=[Step(weight_bp=5_000)])).serve(40, bad=0.0)
    assert drive.state.state == "progressing"
    assert drive.progress.evidence[0].verdict == "inconclusive"
    hint = "no bad event in either, which odds cannot compare: margins in points can pass"
    assert drive.progress.evidence[0].sentence.endswith(f"{hint}.")
    assert hint in drive.progress.reason


def test_ties_go_back_to_the_baseline():
    """Harm and safety together cannot be had from one curve; evidence that claims both is rolled back."""
    drive = Drive(rollout(steps=[Step(weight_bp=5_000)], metrics=[rate(promotion_margin=1.11)])).serve(5)
    torn = drive.state.evidence["error_rate"]
    curves = torn.curves.copy()
    curves[:, 1:13] += 50
    curves[:, 14:26] += 50
    drive.state = replace(drive.state, evidence={"error_rate": replace(torn, curves=curves)})
    drive.look()
    assert drive.command.action == "rollback"
    assert drive.command.evidence[0].log_e_promotion > np.log(20)


def test_every_event_and_action_in_every_state_is_in_the_table_or_does_nothing():
    assert {state for state, _ in TRANSITIONS} <= {*STATES, ""}
    assert {transition.state for transition in TRANSITIONS.values()} == set(STATES)
    assert {event for _, event in TRANSITIONS} >= set(ACTIONS)
    for state, event in TRANSITIONS:
        if state in FINISHED:
            assert (state, event) == ("succeeded", "rollback")


def reached():
    """A drive in each state that a specification can be in."""
    gated = rollout(steps=[Step(weight_bp=1_000, min_calls=50, approval=True), Step(weight_bp=5_000)])
    yield "initialising", Drive(gated)
    yield "progressing", Drive(gated).serve_until("progressing")
    yield "holding", Drive(gated).serve_until("holding")
    for asked, state in (("promote", "promoting"), ("rollback", "rolling_back"), ("abort", "aborted")):
        drive = Drive(gated).serve(4)
        drive.act(asked)
        yield state, drive
    yield "succeeded", Drive(rollout()).serve_until("succeeded")
    yield "rolled_back", Drive(rollout()).serve_until("rolled_back", worse=30)


def test_in_every_state_every_action_is_either_carried_out_or_refused_with_a_reason():
    for expected, drive in reached():
        assert drive.state.state == expected
        for kind in ACTIONS:
            before = drive.state
            after, published = machine.on_action(before, action(kind), drive.at)
            if (expected, kind) in TRANSITIONS and not (expected == "initialising" and kind == "resume"):
                assert not any(isinstance(record, DeploymentStatus) for record in published)
                assert after.state == TRANSITIONS[expected, kind].state or kind == "approve"
            else:
                (refused,) = published
                assert refused.detail
                assert after.state == expected


def test_every_command_is_complete_and_can_be_written():
    for _, drive in reached():
        for command in drive.of(DeploymentCommand):
            assert sum(w.weight_bp for w in command.weights) == 10_000
            assert command.reason.endswith((".", "so"))
            assert [row.metric for row in command.evidence] == ["error_rate"]
        ids = [command.command_id for command in drive.of(DeploymentCommand)]
        assert len(set(ids)) == len(ids)
        for record in drive.outputs:
            assert codec.decode(codec.encode(record)) == record


def test_the_same_journal_gives_the_same_commands_through_any_number_of_restarts():
    def play(restart):
        drive = Drive(rollout(metrics=[rate(), latency()]), seed=5)
        for i in range(60):
            drive.serve(1, histograms={"latency_us": {700 + i % 7: 300, 760: 20}}, users={i: 2})
            if i == 20:
                drive.act("pause")
                drive.act("abort", generation=2)
            if i == 24:
                drive.act("resume")
            if restart:
                drive.state = State.from_dict(json.loads(json.dumps(drive.state.to_dict())))
        return drive

    straight, restarted = play(False), play(True)
    assert restarted.state.to_dict() == straight.state.to_dict()
    assert restarted.outputs == straight.outputs


def latency(**changes):
    defaults = {
        "kind": "quantile",
        "quantiles": [0.5, 0.9],
        "margin_kind": "relative",
        "rollback_margin": 0.05,
        "promotion_margin": 0.20,
    }
    return DecisionMetric(name="latency_us", **(defaults | changes))


def latencies(drive, slower, panes):
    """Serve latencies around 1.2 s; the candidate's are `slower` times as long."""
    from tidegate_streams.histogram import bucket

    for _ in range(panes):
        share = drive.weight("june") / 10_000
        measured = {}
        for variant, n, factor in (
            ("march", 400 - round(400 * share), 1.0),
            ("june", round(400 * share), slower),
        ):
            values = np.exp(drive.rng.normal(np.log(1.2e6 * factor), 0.6, size=n)).astype(np.int64)
            index, counts = np.unique(bucket(values), return_counts=True)
            measured[variant] = VariantPane(
                calls=n,
                histograms={"latency_us": dict(zip(index.tolist(), counts.tolist(), strict=True))},
            )
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): measured})
    return drive


def test_a_slower_candidate_is_rolled_back_and_the_sentence_names_the_quantile():
    drive = latencies(Drive(rollout(metrics=[latency()])), 1.6, 60)
    assert drive.actions[-1] == "rollback"
    sentence = drive.command.evidence[0].sentence
    assert "above the usual p" in sentence
    assert "of march" in sentence
    assert "worse than the tolerated +5 %" in sentence
    evidence = drive.command.evidence[0]
    assert evidence.value_candidate / evidence.value_baseline == pytest.approx(1.6, rel=0.3)


def test_an_equally_fast_candidate_is_promoted_on_latency():
    drive = latencies(Drive(rollout(metrics=[latency()])), 1.0, 400)
    assert drive.state.state == "succeeded"


def test_fewer_tokens_can_be_harm_too():
    both = latency(increase_is="both")
    assert latencies(Drive(rollout(metrics=[both])), 1.6, 90).actions[-1] == "rollback"
    drive = latencies(Drive(rollout(metrics=[both])), 0.6, 90)
    assert drive.actions[-1] == "rollback"
    assert "below the usual p" in drive.command.evidence[0].sentence
    assert latencies(Drive(rollout(metrics=[latency()])), 0.6, 90).actions[-1] != "rollback"
