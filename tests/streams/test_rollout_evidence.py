"""What counts as evidence, and what it may lead to."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.streams.drive import HOUR, START, Drive, latencies, latency, rate, rollout

from tidegate.errors import InvariantBroken
from tidegate.records import Step
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import machine, words
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


def test_of_calls_that_margins_do_not_count_yet_it_is_said_what_they_wait_for():
    points = rate(margin_kind="absolute", rollback_margin=0.01, promotion_margin=0.03)
    metrics = [points, rate("timeout_rate"), latency(quantiles=[0.99])]
    drive = Drive(rollout(metrics=metrics, steps=[Step(weight_bp=5_000, warmup_us=0)])).serve(1, calls=68)
    nothing = "no calls of march and no calls of june to compare so far"
    usual = "what is usual for march is known after 100 calls, and"
    assert [row.sentence for row in drive.progress.evidence] == [
        f"error_rate: {nothing}; {usual} 34 are seen.",
        f"timeout_rate: {nothing}.",
        f"latency_us: {nothing}; {usual} 0 are seen.",
    ]


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
    assert drive.progress.evidence[0].sentence.endswith("(muted: it would have rolled back).")


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


def test_of_a_quantile_without_any_event_no_margin_in_points_is_advised():
    metric = latency()
    assert "points" not in words.eventless(metric)
    assert "points" in words.eventless(replace(metric, name="error_rate", kind="rate"))


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


BOTH = [rate(), rate("evaluation.faithful")]


def judged(drive, panes, share=1.0, calls=200, failing=0.02, arms=("march", "june")):
    """Serve calls of which a share is evaluated."""
    for _ in range(panes):
        made = {}
        for name in arms:
            n = round(calls * share)
            rates = {"error_rate": (calls, round(calls * failing))}
            rates |= {"evaluation.faithful": (n, n // 50)} if n else {}
            made[name] = VariantPane(calls=calls, rates=rates)
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): made})
    return drive


def test_a_metric_that_stops_is_an_error_that_promotes_nobody_until_it_comes_back():
    drive = Drive(rollout(metrics=BOTH, steps=[Step(weight_bp=5_000, min_calls=20_000)]))
    judged(drive, 40)
    assert {row.verdict for row in drive.progress.evidence} == {"pass"}
    judged(drive, 100, share=0.0)
    assert drive.actions == ["start"]
    assert drive.progress.evidence[1].verdict == "error"
    sentence = "not one good among the evaluations of march for its last 20,000 calls: what measures it"
    assert sentence in drive.progress.evidence[1].sentence
    judged(drive, 1)
    assert drive.actions == ["start", "promote"]


def test_a_metric_that_is_seldom_measured_has_not_stopped():
    drive = Drive(rollout(metrics=BOTH, steps=[Step(weight_bp=5_000, min_calls=10**6)]))
    for _ in range(8):
        judged(drive, 20, share=0.0)
        judged(drive, 1, share=0.5)
    assert "error" not in {row.verdict for row in drive.progress.evidence}


def test_an_outage_of_both_variants_promotes_nobody_while_it_lasts():
    points = rate(margin_kind="absolute", rollback_margin=0.005, promotion_margin=0.02)
    drive = Drive(rollout(metrics=[points], steps=[Step(weight_bp=5_000, min_calls=20_000)]))
    judged(drive, 40)
    judged(drive, 200, failing=1.0)
    assert drive.actions == ["start"]
    assert drive.progress.evidence[0].verdict == "error"
    judged(drive, 1)
    assert drive.actions == ["start", "promote"]


@pytest.mark.parametrize("policy", ["hold", "promote"])
@pytest.mark.parametrize(
    "traffic",
    [
        {"calls": 0},
        {"arms": ("june",)},
        {"arms": ("march",)},
        {"failing": 1.0},
        {"share": 0.0},
    ],
    ids=["no traffic", "only the candidate", "only the baseline", "all calls fail", "a metric without data"],
)
def test_what_does_not_tell_the_variants_apart_promotes_nobody_by_itself(traffic, policy):
    metrics = [rate(), rate("evaluation.faithful")]
    drive = Drive(rollout(metrics=metrics, max_duration_us=HOUR // 4, on_inconclusive=policy))
    judged(drive, 100, **traffic)
    assert drive.actions == ["start", "hold"] or drive.actions == ["start", "advance", "advance", "hold"]
    assert drive.state.state == "holding"
