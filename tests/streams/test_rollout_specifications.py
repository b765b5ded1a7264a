"""What a specification does, and which are refused."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.streams.drive import HOUR, START, Drive, latency, rate, rollout

from tidegate import codec
from tidegate.records import DeploymentCommand, DeploymentStatus, Filter, RolloutProgress, Step, Variant
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import Stratum, VariantPane

ROLES = ("baseline", "candidate")


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
        ({"strategy": "big_bang"}, "strategy big_bang is not there yet: use canary or"),
        (
            {"variants": [Variant(name="june", role="candidate")]},
            "one candidate or more, here are candidate",
        ),
        ({"steps": []}, "there are no steps"),
        ({"metrics": [rate(muted=True)]}, "no metric has effect"),
        ({"metrics": [rate(kind="mean")]}, "only rates and quantiles decide"),
        ({"metrics": [rate(), rate()]}, "error_rate is listed twice"),
        ({"metrics": [rate("eror_rate")]}, "no such metric, did you mean error_rate?"),
        ({"metrics": [latency(quantiles=[])]}, "no quantiles are named"),
        ({"metrics": [latency(quantiles=[1.0])]}, "quantiles lie above 0 and below 1"),
        ({"metrics": [rate(kind="quantile")]}, "it is a rate, not a quantile"),
        ({"metrics": [rate(rollback_margin=0.9)]}, "must rise from 1"),
        ({"metrics": [rate(rollback_margin=math.nan)]}, "must rise from 1"),
        ({"metrics": [rate(promotion_margin=1.05)]}, "must rise from 1"),
        ({"metrics": [rate(margin_kind="absolute", rollback_margin=-0.1)]}, "must rise from 0"),
        ({"metrics": [rate(margin_kind="absolute", rollback_margin=0)]}, "200 points tolerates everything"),
        ({"metrics": [rate(margin_kind="sigmas")]}, "margins cannot be 'sigmas'"),
        ({"metrics": [rate(weight=0)]}, "its weight is 0"),
        ({"alpha_rollback": 0.0}, "alpha_rollback is 0.0"),
        ({"alpha_promotion": math.nan}, "alpha_promotion is nan"),
        ({"alpha_srm": 0.5}, "alpha_srm is 0.5"),
        ({"steps": [Step(weight_bp=500), Step(weight_bp=500)]}, "5 % does not increase on 5 %"),
        ({"steps": [Step(weight_bp=10_000)]}, "step 1 sends 100 %"),
        ({"steps": [Step(weight_bp=500, mirror_bp=1)]}, "step 1 both serves and mirrors"),
        ({"filters": [Filter(dimension="app", op="in")]}, "the filter of app names no value"),
        ({"variants": [Variant(name="june", role=r) for r in ROLES]}, "called june"),
        (
            {"variants": [Variant(name=r, role=r, provider="x") for r in ROLES]},
            "a rollout onto itself decides",
        ),
        ({"max_duration_us": 0}, "leaves no time"),
        ({"on_inconclusive": "pray"}, "cannot mean 'pray'"),
        ({"assignment_unit": "planet"}, "assigned by 'planet'"),
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


NUMBERS = st.sampled_from([0.0, -1.0, 0.05, 0.3, 1.0, 1.1, 3.0, 1e300, math.inf, math.nan])
COUNTS = st.sampled_from([0, -1, 1, 50, 10**6, 2**62])
NONSENSE = {
    "metric": {
        "name": st.sampled_from(["error_rate", "latency_us", "nonsense", ""]),
        "kind": st.sampled_from(["rate", "quantile", "mean"]),
        "quantiles": st.lists(NUMBERS, max_size=2),
        "increase_is": st.sampled_from(["bad", "good", "both", ""]),
        "margin_kind": st.sampled_from(["odds", "relative", "absolute", ""]),
        "rollback_margin": NUMBERS,
        "promotion_margin": NUMBERS,
        "weight": NUMBERS,
        "critical": st.booleans(),
        "muted": st.booleans(),
        "min_n": COUNTS,
        "design_effect": NUMBERS,
    },
    "step": {
        "weight_bp": st.sampled_from([-1, 0, 500, 9_999, 10_000]),
        "min_calls": COUNTS,
        "min_units": COUNTS,
        "warmup_us": COUNTS,
        "max_duration_us": COUNTS,
    },
    "rollout": {
        "alpha_rollback": NUMBERS,
        "alpha_promotion": NUMBERS,
        "alpha_srm": NUMBERS,
        "max_duration_us": COUNTS,
        "min_calls": COUNTS,
        "on_inconclusive": st.sampled_from(["hold", "rollback", "promote", ""]),
    },
}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([rate(), latency()]))
def test_whatever_is_applied_it_is_refused_or_runs(data, metric):
    parts = {"metric": metric, "step": Step(weight_bp=1_000), "rollout": rollout()}
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(list(NONSENSE)))
        name = data.draw(st.sampled_from(list(NONSENSE[part])))
        parts[part] = replace(parts[part], **{name: data.draw(NONSENSE[part][name])})
    drive = Drive(replace(parts["rollout"], metrics=[parts["metric"]], steps=[parts["step"]]))
    if drive.of(DeploymentStatus):
        assert drive.of(DeploymentStatus)[0].detail
        assert drive.actions == []
    else:
        drive.serve(6, calls=60, histograms={"latency_us": {700: 20, 760: 2}})
        assert drive.progress.evidence
        for record in drive.outputs:
            codec.encode(record)
