"""Blue-green, rolling and A/B: other steps and another end, through the same machine."""

import pytest
from tests.streams.drive import HOUR, SECOND, START, Drive, rate, rollout

from tidegate.records import DeploymentStatus, Step
from tidegate_streams.rollouts.strata import Stratum, VariantPane

MINUTE = 60 * SECOND
SWITCH = {
    "strategy": "blue_green",
    "steps": [Step(weight_bp=9_500, min_calls=100, min_duration_us=30 * MINUTE)],
}
ROLLING = {
    "strategy": "rolling",
    "steps": [Step(weight_bp=bp, min_calls=50, min_duration_us=5 * MINUTE) for bp in (2_500, 5_000, 7_500)],
}
UNSURE = [rate(promotion_margin=1.11)]


def test_blue_green_switches_at_once_bakes_and_then_takes_the_rest():
    drive = Drive(rollout(**SWITCH))
    assert drive.weight("june") == 9_500
    drive.serve_until("promoting")
    assert drive.actions == ["start", "promote"]
    assert drive.command.ts - START == 30 * MINUTE
    assert "harm is excluded" in drive.command.reason


def test_blue_green_switches_back_while_it_bakes():
    drive = Drive(rollout(**SWITCH)).serve(30).serve_until("rolled_back", worse=20)
    assert drive.command.ts - START < 30 * MINUTE
    assert drive.weight("march") == 10_000


def test_blue_green_does_not_take_the_rest_while_harm_is_not_excluded():
    drive = Drive(rollout(**SWITCH, metrics=UNSURE, max_duration_us=HOUR)).serve(370)
    assert drive.actions == ["start", "hold"]


def test_the_reason_tells_how_long_a_step_has_lasted():
    drive = Drive(rollout(**SWITCH)).serve(60)
    assert "10 min of 30 min so far" in drive.progress.reason


def test_rolling_rises_by_the_clock_and_ends_without_proof_when_nothing_looks_harmful():
    drive = Drive(rollout(**ROLLING, metrics=UNSURE)).serve_until("succeeded")
    assert drive.actions == ["start", "advance", "advance", "promote"]
    assert drive.command.ts - START == 15 * MINUTE
    assert (
        "every metric is observed and none looks harmful. error_rate is inconclusive." in drive.command.reason
    )


def test_rolling_rolls_back_harm_and_stays_where_something_looks_harmful():
    assert Drive(rollout(**ROLLING)).serve_until("rolled_back", worse=20).weight("june") == 0


@pytest.mark.parametrize("metrics", [[rate(), rate("abstain_rate")], [rate(), rate("evaluation.faithful")]])
def test_rolling_does_not_end_on_a_metric_that_nobody_observes(metrics):
    drive = Drive(rollout(**ROLLING, metrics=metrics, max_duration_us=HOUR)).serve(400)
    assert drive.actions == ["start", "advance", "advance", "hold"]


def test_a_step_of_a_canary_may_have_to_last():
    steps = [
        Step(weight_bp=1_000, min_calls=10, min_duration_us=10 * MINUTE),
        Step(weight_bp=5_000, min_calls=10),
    ]
    drive = Drive(rollout(steps=steps)).serve_until("promoting")
    assert drive.of(type(drive.command))[1].ts - START == 10 * MINUTE


AB = {
    "strategy": "ab",
    "steps": [Step(weight_bp=5_000, min_calls=100)],
    "metrics": [rate(), rate("abstain_rate")],
    "max_duration_us": HOUR,
}


def compared(drive, better, panes=370):
    """As many failures in both; the candidate abstains less often by a factor."""
    for _ in range(panes):
        if drive.state.state in ("progressing", "initialising"):
            arms = {"march": 0.2, "june": 0.2 * better}
            made = {
                name: VariantPane(
                    calls=200,
                    rates={
                        "error_rate": (200, int(drive.rng.binomial(200, 0.02))),
                        "abstain_rate": (200, int(drive.rng.binomial(200, bad))),
                    },
                )
                for name, bad in arms.items()
            }
            drive.look({Stratum(drive.state.revision, drive.pane_us, False): made})
    return drive


def test_an_ab_test_promotes_what_is_better_beyond_doubt():
    drive = compared(Drive(rollout(**AB)), 0.7)
    assert drive.actions == ["start", "promote"]
    assert "june is promoted: it is better than march in abstain_rate beyond doubt" in drive.command.reason


@pytest.mark.parametrize("seed", range(2))
def test_an_ab_test_of_the_same_thing_ends_inconclusive(seed):
    drive = compared(Drive(rollout(**AB), seed=seed), 1.0)
    assert drive.actions == ["start", "hold"]
    assert "Harm is excluded, and in no metric is either better beyond doubt." in drive.command.reason


def test_an_ab_test_rolls_back_what_is_harmful():
    assert compared(Drive(rollout(**AB)), 1.8).actions == ["start", "rollback"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (SWITCH | {"steps": [Step(weight_bp=4_000, min_duration_us=1)]}, "blue_green sends at least 50 %"),
        (
            SWITCH | {"steps": [Step(weight_bp=6_000), Step(weight_bp=7_000)]},
            "blue_green takes 1 step, here are 2",
        ),
        (
            {"steps": [Step(weight_bp=500, min_duration_us=9, max_duration_us=9)]},
            "must last longer than it may",
        ),
        ({"steps": [Step(weight_bp=500, min_duration_us=7 * HOUR)]}, "its steps last at least 7 h"),
        (
            {"strategy": "ab", "steps": [Step(weight_bp=10), Step(weight_bp=20)]},
            "ab takes 1 step, here are 2",
        ),
    ],
)
def test_steps_that_the_strategy_cannot_take_are_refused(changes, problem):
    (refused,) = Drive(rollout(**changes)).of(DeploymentStatus)
    assert problem in refused.detail
