"""What people may ask for, and when."""

from dataclasses import replace

import pytest
from tests.streams.drive import SECOND, START, Drive, action, reached, rollout

from tidegate.records import DeploymentCommand, DeploymentStatus, Step
from tidegate_streams.frozen import freeze
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import machine
from tidegate_streams.rollouts.machine import Position
from tidegate_streams.rollouts.transitions import ACTIONS, FINISHED, STATES, TRANSITIONS


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
    assert drive.command.reason == "june rolled back to march by grace: I say so"
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
    assert freeze(drive.state).pack() == freeze(before).pack()


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


def test_every_event_and_action_in_every_state_is_in_the_table_or_does_nothing():
    assert {state for state, _ in TRANSITIONS} <= {*STATES, ""}
    assert {transition.state for transition in TRANSITIONS.values()} == set(STATES)
    assert {event for _, event in TRANSITIONS} >= set(ACTIONS)
    for state, event in TRANSITIONS:
        if state in FINISHED:
            assert (state, event) == ("succeeded", "rollback")


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
