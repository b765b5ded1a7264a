"""A rollout that cannot decide in its time at the present traffic is refused with the figures."""

import re

import pytest
from tests.streams.drive import HOUR, SECOND, Drive, latency, rate, rollout

from tidegate.records import DeploymentStatus, Step
from tidegate_streams.rollouts.strata import Stratum, VariantPane

USUAL = dict(zip(range(650, 750), [1, 2, 4, 8] * 25, strict=True))


def watched(calls=40, bad=0.02, panes=360, histogram=USUAL):
    """A deployment whose first rollout has been withdrawn after some traffic of the baseline."""
    drive = Drive(rollout(paused=True))
    for i in range(panes):
        failed = round((i + 1) * calls * bad) - round(i * calls * bad)
        pane = VariantPane(
            calls=calls, rates={"error_rate": (calls, failed)}, histograms={"latency_us": histogram}
        )
        drive.look({Stratum(None, drive.pane_us, False): {"march": pane}})
    drive.act("abort")
    return drive


def answer(drive, **changes):
    """Apply a rollout; return why it is refused, or None."""
    new = drive.spec(rollout(generation=drive.state.spec.generation + 1, **changes))
    return next((record.detail for record in new if isinstance(record, DeploymentStatus)), None)


ONE = {"steps": [Step(weight_bp=1_000, min_calls=100)]}


def test_too_little_time_is_refused_with_the_figures_and_changes_nothing():
    drive = watched()
    before = drive.state
    detail = answer(drive, **ONE, max_duration_us=HOUR, metrics=[rate(promotion_margin=1.5)])
    words = r"error_rate needs about (\S+) calls, and 1 h bring (\S+) at the present (\S+) calls an hour"
    needs, brings, hourly = re.search(words, detail).groups()
    assert brings == hourly == "14,400"
    assert 15_000 < int(needs.replace(",", "")) < 60_000
    assert "apply it with --force" in detail
    assert drive.state is before


def test_with_force_it_is_taken_and_that_is_said():
    drive = watched()
    assert (
        answer(drive, **ONE, max_duration_us=HOUR, metrics=[rate(promotion_margin=1.5)], force=True) is None
    )
    assert drive.command.action == "start"
    assert "It is taken by force: error_rate needs about" in drive.command.reason


def test_the_forecast_is_what_happens():
    """A candidate like the baseline takes as many calls as foretold, within a factor of two."""
    spec = ONE | {"metrics": [rate(promotion_margin=2.0)]}
    detail = answer(watched(calls=400), **spec, max_duration_us=60 * SECOND)
    foretold = int(re.search(r"needs about ([\d,]+) calls", detail)[1].replace(",", ""))
    taken = []
    for seed in range(4):
        drive = Drive(rollout(**spec), seed=seed).serve_until("promoting", calls=400)
        taken.append(sum(exposure.calls for exposure in drive.progress.exposure))
    assert 0.5 < sum(taken) / len(taken) / foretold < 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {
                "steps": [Step(weight_bp=100, min_calls=5)],
                "metrics": [latency()],
                "max_duration_us": HOUR // 10,
            },
            "latency_us needs about",
        ),
        ({"metrics": [latency(promotion_margin=0.05)]}, "latency_us never excludes harm beyond +5 %"),
        (
            {"steps": [Step(weight_bp=100, min_calls=1_000)], "max_duration_us": HOUR},
            "steps alone take 100,000 calls",
        ),
        ({"metrics": [rate(promotion_margin=1.101)], "max_duration_us": 24 * HOUR}, "error_rate needs about"),
    ],
)
def test_each_reason_is_named(changes, problem):
    assert problem in answer(watched(), **(ONE | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_duration_us": 300 * HOUR},
        {"metrics": [rate(promotion_margin=1.5, muted=True), rate("abstain_rate")], "max_duration_us": HOUR},
        {"metrics": [rate("timeout_rate")], "max_duration_us": HOUR},
        {"strategy": "rolling", "max_duration_us": HOUR},
    ],
    ids=["enough time", "nobody knows the rate", "never observed", "rolling asks for no proof"],
)
def test_what_can_decide_or_what_nobody_can_foretell_is_taken(changes):
    assert answer(watched(), **(ONE | changes)) is None


@pytest.mark.parametrize(
    "drive", [Drive(), watched(panes=100), watched(calls=0)], ids=["new", "short", "silent"]
)
def test_without_half_an_hour_of_traffic_everything_is_taken(drive):
    drive.spec(rollout(generation=9, **ONE, max_duration_us=60 * SECOND))
    assert drive.state.spec.generation == 9
