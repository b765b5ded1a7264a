"""What a specification does, and which are refused."""

import pytest
from tests.streams.drive import HOUR, START, Drive, rate, rollout

from tidegate.records import DeploymentCommand, DeploymentStatus, RolloutProgress, Variant
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import Stratum, VariantPane


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
