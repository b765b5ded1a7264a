"""Users that fall to the variants otherwise than asked for: held, told, released by a person."""

import re

import numpy as np
import pytest
from tests.streams.drive import Drive, rate, rollout

from tidegate.records import Alert, Step
from tidegate_streams import users
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.rollouts.findings import is_uneven
from tidegate_streams.rollouts.strata import Stratum, VariantPane

LONG = [Step(weight_bp=5_000, min_calls=10**6)]


def sketch(some):
    register, rank = users.registers(users.hash_users([f"acme\0{user}".encode() for user in some]))
    found = {}
    for one, height in zip(register.tolist(), rank.tolist(), strict=True):
        found[one] = max(height, found.get(one, 0))
    return found


class Users:
    """Traffic of new users, of which some calls of the candidate are never counted."""

    def __init__(self, drive, lost=0.0, seed=3, known=True):
        self.drive, self.lost, self.known = drive, lost, known
        self.rng = np.random.default_rng(seed)
        self.n = 0

    def serve(self, panes, calls=100, bad=0.02, worse=1.0):
        drive = self.drive
        for _ in range(panes):
            share = drive.weight("june") / 10_000
            mine = self.rng.random(calls) < share
            lost = mine & (self.rng.random(calls) < self.lost)
            names = np.arange(self.n, self.n + calls)
            self.n += calls
            arms = {"march": names[~mine], "june": names[mine & ~lost]}
            made = {
                name: VariantPane(
                    calls=len(arm),
                    users=sketch(arm) if self.known else {},
                    rates={"error_rate": (len(arm), int(self.rng.binomial(len(arm), rate)))},
                )
                for (name, arm), rate in zip(arms.items(), (bad, min(1.0, bad * worse)), strict=True)
                if len(arm)
            }
            drive.look({Stratum(drive.state.revision, drive.pane_us, False): made})
        return drive


def test_a_variant_that_loses_users_is_held_with_the_figures_and_never_promoted():
    drive = Drive(rollout(metrics=[rate()], steps=LONG))
    Users(drive, lost=0.3).serve(60)
    assert drive.actions == ["start", "hold"]
    assert drive.state.held_for == "split"
    assert drive.weight("june") == 5_000
    words = r"of (\d+) users seen for the first time (\d+) fell to june, where the shares ask for (\d+)"
    seen, got, asked = map(int, re.search(words, drive.command.reason).groups())
    assert got < asked == pytest.approx(seen / 2, abs=1)
    assert "chance alone shows this at most once in" in drive.command.reason
    (alert,) = drive.of(Alert)
    assert (alert.rule, alert.severity, alert.status) == ("rollout_split_uneven", "error", "firing")


@pytest.mark.parametrize("share_bp", [500, 5_000])
def test_users_that_fall_as_asked_hold_nothing(share_bp):
    drive = Drive(rollout(steps=[Step(weight_bp=share_bp, min_calls=10**6)]))
    Users(drive).serve(300)
    assert drive.actions == ["start"]
    assert sum(drive.state.split.users.values()) > 4_000


def test_shares_that_ramp_hold_nothing_and_each_user_is_counted_once():
    drive = Drive(rollout())
    Users(drive).serve(60, calls=400)
    assert drive.actions == ["start", "advance", "advance", "promote"]
    drive = Drive(rollout(steps=LONG))
    for _ in range(50):
        Users(drive).serve(1)
    assert sum(drive.state.split.users.values()) < 110


def test_harm_rolls_back_while_the_split_is_uneven():
    drive = Drive(rollout(steps=LONG))
    Users(drive, lost=0.3).serve(60)
    Users(drive, lost=0.3, seed=4).serve(30, worse=20)
    assert drive.actions == ["start", "hold", "rollback"]
    assert [(alert.rule, alert.status) for alert in drive.of(Alert)][1] == (
        "rollout_split_uneven",
        "resolved",
    )


def test_harm_that_is_found_by_the_look_that_finds_the_split_uneven_rolls_back():
    drive = Drive(rollout(metrics=[rate()], steps=LONG))
    traffic = Users(drive)
    traffic.serve(5)
    traffic.lost = 0.8
    traffic.serve(1, calls=4_000, worse=20)
    assert is_uneven(drive.state)
    assert drive.actions == ["start", "rollback"]


def test_a_person_lets_it_go_on_and_it_is_held_again_only_if_the_cause_is_still_there():
    drive = Drive(rollout(steps=LONG))
    traffic = Users(drive, lost=0.3)
    traffic.serve(60)
    drive.act("resume")
    assert "although users fell to the variants otherwise than asked for" in drive.command.reason
    traffic.serve(60)
    assert drive.actions == ["start", "hold", "resume", "hold"]
    drive.act("resume")
    traffic.lost = 0.0
    traffic.serve(60)
    assert drive.state.state == "progressing"


def test_a_pause_does_not_release_it_and_an_approval_does_not_pass_it():
    gated = rollout(steps=[Step(weight_bp=5_000, min_calls=100, approval=True), Step(weight_bp=6_000)])
    drive = Drive(gated)
    traffic = Users(drive, lost=0.5)
    traffic.serve(60)
    assert drive.actions == ["start", "hold", "hold"]
    drive.act("approve")
    assert drive.state.held_for == "split"
    drive.act("pause")
    drive.act("resume")
    traffic.serve(1)
    assert (drive.state.state, drive.state.held_for) == ("holding", "split")


@pytest.mark.parametrize("changes", [{"dry_run": True}, {"assignment_unit": "tenant"}])
def test_it_is_not_checked_where_nobody_knows_how_users_should_fall(changes):
    drive = Drive(rollout(steps=LONG, **changes))
    Users(drive, lost=0.5).serve(60)
    assert drive.actions == ["start"]


def test_a_variant_that_reports_no_users_has_lost_none():
    drive = Drive(rollout(steps=LONG))
    Users(drive, lost=0.5, known=False).serve(60)
    for _ in range(30):
        panes = {"march": VariantPane(calls=9, users=sketch(range(9))), "june": VariantPane(calls=9)}
        drive.look({Stratum(1, drive.pane_us, False): panes})
    assert drive.actions == ["start"]


def test_a_candidate_that_vanishes_altogether_is_held():
    drive = Drive(rollout(steps=LONG))
    Users(drive, lost=1.0).serve(10)
    assert drive.state.held_for == "split"


def test_the_check_goes_on_through_a_snapshot():
    straight, restarted = Drive(rollout(steps=LONG)), Drive(rollout(steps=LONG))
    one, other = Users(straight, lost=0.1), Users(restarted, lost=0.1)
    for _ in range(40):
        one.serve(1)
        other.serve(1)
        restarted.state = thaw(freeze(restarted.state).pack())
    assert restarted.outputs == straight.outputs
    assert freeze(restarted.state).pack() == freeze(straight.state).pack()
