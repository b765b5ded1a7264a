"""What counts as evidence, and what it may lead to."""

import itertools

import numpy as np
import pytest
from tests.streams.drive import START, Drive, latencies, latency, rate, rollout

from tidegate.errors import InvariantBroken
from tidegate.records import Step
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import machine
from tidegate_streams.rollouts.strata import Stratum, VariantPane


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
