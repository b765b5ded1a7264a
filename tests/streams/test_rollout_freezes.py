"""Times in which nothing advances: what they stop, what they leave alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.streams.drive import HOUR, SECOND, START, Drive, rate, rollout

from tidegate.records import DeploymentStatus, Freeze, Step
from tidegate_streams.rollouts import freezes
from tidegate_streams.rollouts.split import Split
from tidegate_streams.rollouts.strata import Stratum, VariantPane

MINUTE = 60 * SECOND


def frozen(begin, end, **changes):
    return rollout(freezes=[Freeze(starts_at=START + begin, ends_at=START + end)], **changes)


def test_nothing_advances_in_a_freeze_and_it_goes_on_after_it():
    drive = Drive(frozen(MINUTE, HOUR)).serve(30)
    assert drive.actions == ["start"]
    assert drive.progress.exposure[1].calls_step > 100
    assert "A freeze holds it until 2023-11-14 23:13 UTC; harm still rolls back." in drive.progress.reason
    while drive.pane_us < START + HOUR:
        drive.serve()
    assert drive.serve_until("succeeded").command.ts > START + HOUR


def test_harm_rolls_back_in_a_freeze():
    drive = Drive(frozen(MINUTE, HOUR)).serve(6)
    assert drive.serve_until("rolled_back", worse=30).command.ts < START + HOUR


def test_promotion_waits_for_the_end_of_a_freeze():
    spec = frozen(30 * SECOND, HOUR, steps=[Step(weight_bp=5_000, min_calls=100)])
    drive = Drive(spec).serve(300)
    assert {row.verdict for row in drive.progress.evidence} == {"pass"}
    assert drive.actions == ["start"]
    assert drive.serve_until("succeeded").actions == ["start", "promote"]


def test_a_rollout_that_is_applied_in_a_freeze_starts_at_its_end():
    drive = Drive(frozen(-HOUR, MINUTE))
    assert (drive.actions, drive.weight("june")) == (["hold"], 0)
    assert drive.progress.reason.endswith("a freeze holds it until 2023-11-14 22:14 UTC.")
    assert not drive.progress.paused
    drive.serve(5)
    assert drive.actions == ["hold"]
    drive.serve(1)
    assert (drive.actions, drive.weight("june")) == (["hold", "start"], 1_000)
    assert drive.state.clock_us == START + MINUTE
    drive.serve_until("succeeded")


def test_people_cannot_advance_in_a_freeze_but_roll_back_pause_and_approve():
    gated = frozen(
        30 * SECOND, HOUR, steps=[Step(weight_bp=1_000, min_calls=50, approval=True), Step(weight_bp=5_000)]
    )
    drive = Drive(gated).serve(8)
    for kind in ("advance", "promote"):
        (refused,) = drive.act(kind)
        assert f"{kind} is not possible in a freeze, which ends 2023-11-14 23:13 UTC" in refused.detail
    drive.act("approve")
    drive.act("pause")
    drive.act("resume")
    drive.act("rollback")
    assert not drive.of(DeploymentStatus)[2:]
    assert drive.actions == ["start", "hold", "pause", "resume", "rollback"]


@pytest.mark.parametrize("paused", [True, False])
def test_nobody_starts_a_rollout_in_a_freeze(paused):
    drive = Drive(frozen(-HOUR, MINUTE, paused=paused))
    for kind in ("resume", "advance", "promote", "pause"):
        assert all(isinstance(record, DeploymentStatus) for record in drive.act(kind)), kind
    drive.serve(10)
    assert drive.weight("june") == (0 if paused else 1_000)
    assert drive.act("abort")[0].action == "abort"


def test_a_time_limit_does_not_count_the_time_of_a_freeze():
    spec = frozen(5 * MINUTE, 20 * MINUTE, max_duration_us=10 * MINUTE, metrics=[rate(promotion_margin=1.11)])
    drive = Drive(spec).serve_until("holding", calls=40)
    assert drive.command.ts == START + 25 * MINUTE


@pytest.mark.parametrize("limit", [5 * MINUTE, 10 * MINUTE])
def test_an_inconclusive_end_promotes_nobody_in_a_freeze(limit):
    spec = frozen(
        5 * MINUTE,
        HOUR,
        max_duration_us=limit,
        on_inconclusive="promote",
        metrics=[rate(promotion_margin=1.11)],
        steps=[Step(weight_bp=5_000, min_calls=100)],
    )
    drive = Drive(spec).serve_until("succeeded", calls=40)
    assert drive.command.ts == START + HOUR + limit - 5 * MINUTE


spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 9)).map(
        lambda s: Freeze(starts_at=s[0], ends_at=s[0] + s[1])
    ),
    max_size=5,
)


@given(spans, st.integers(0, 40), st.integers(0, 40))
def test_what_is_frozen_is_the_union_of_all_freezes(some, one, other):
    def covered(at):
        return any(freeze.starts_at <= at < freeze.ends_at for freeze in some)

    start, end = sorted((one, other))
    assert freezes.unfrozen_us(some, start, end) == sum(not covered(at) for at in range(start, end))
    until = freezes.until(some, start)
    expected = next(at for at in range(start, 99) if not covered(at))
    assert until == (expected if expected > start else None)


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_called_before_the_start_counts_for_nothing(dry_run):
    drive = Drive(frozen(-HOUR, HOUR, dry_run=dry_run))
    both = {
        "march": VariantPane(calls=100, users={1: 1}, rates={"error_rate": (100, 2)}),
        "june": VariantPane(calls=100, users={2: 1}, rates={"error_rate": (100, 30)}),
    }
    for _ in range(300):
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): both})
    waiting = drive.state
    assert waiting.started_us is None
    assert (waiting.totals, waiting.step_calls, waiting.split) == ({}, {}, Split())
    assert all(row.n_candidate == 0 for row in drive.progress.evidence)
    while drive.state.started_us is None:
        drive.look()
    assert drive.serve_until("succeeded").command.action == "promote"
