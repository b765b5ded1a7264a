"""The records that the rollout machine writes."""

import math

import pytest
from tests.streams.drive import HOUR, START, Drive, latency, rate, reached, rollout

from tidegate import codec
from tidegate.records import Alert, DeploymentCommand, Freeze, Step
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.rollouts import words


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


def test_the_reason_of_a_rollback_ends_with_how_rare_the_alert_s_evidence_is():
    metrics = [rate(), rate("timeout_rate"), rate("empty_rate", muted=True)]
    for several in (metrics, metrics[::2]):
        drive = Drive(rollout(metrics=several)).serve_until("rolling_back", worse=8)
        (alert,) = drive.of(Alert)
        assert drive.command.reason.endswith(f"at most {words.rarity(math.log(alert.value))} rollouts.")


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


PLANS = {
    "canary": {},
    "gates": {
        "steps": [
            Step(weight_bp=1_000, min_calls=50, approval=True),
            Step(weight_bp=5_000, min_duration_us=10**8),
        ],
        "freezes": [Freeze(starts_at=START + 10**8, ends_at=START + 2 * 10**8)],
    },
    "blue_green": {"strategy": "blue_green", "steps": [Step(weight_bp=9_000, min_duration_us=10**8)]},
    "rolling": {"strategy": "rolling", "steps": [Step(weight_bp=bp, min_calls=50) for bp in (3_000, 6_000)]},
    "ab": {"strategy": "ab", "steps": [Step(weight_bp=5_000, min_calls=50)]},
}


@pytest.mark.parametrize("plan", PLANS)
def test_the_same_journal_gives_the_same_commands_through_any_number_of_restarts(plan):
    def play(restart):
        drive = Drive(rollout(metrics=[rate(), latency()], **PLANS[plan]), seed=5)
        for i in range(60):
            drive.serve(1, histograms={"latency_us": {700 + i % 7: 300, 760: 20}}, users={i: 2})
            if i == 12:
                drive.act("approve")
            if i == 20:
                drive.act("pause")
                drive.act("abort", generation=2)
            if i == 24:
                drive.act("resume")
            if i == 50:
                drive.act("rollback")
            if restart:
                drive.state = thaw(freeze(drive.state).pack())
        drive.spec(rollout(generation=3, name="once-more"))
        return drive

    straight, restarted = play(False), play(True)
    assert freeze(restarted.state).pack() == freeze(straight.state).pack()
    assert restarted.outputs == straight.outputs
    assert len(straight.actions) > 3
