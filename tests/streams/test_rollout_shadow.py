"""A shadow: copies of calls go to the candidate, and nobody is served by it."""

import numpy as np
import pytest
from tests.streams.drive import HOUR, Drive, rate, rollout
from tests.streams.folding import SECOND, START, chunks, decisions, fold_all
from tests.streams.folding import rollout as chat

from tidegate import codec
from tidegate.records import DeploymentCommand, DeploymentStatus, RolloutProgress, Step
from tidegate_streams.rollouts.strata import Stratum, VariantPane

STEPS = [Step(weight_bp=0, mirror_bp=bp, min_calls=100) for bp in (1_000, 5_000)]
SHADOW = {"strategy": "shadow", "steps": STEPS}


def serve(drive, panes, worse=1.0, calls=400, until=None):
    """The baseline serves everybody; copies of a share of the calls go to the candidate."""
    rng = np.random.default_rng(5)
    for _ in range(panes):
        if until == drive.state.state:
            break
        mirrored = next(weight.mirror_bp for weight in drive.command.weights if weight.variant == "june")
        arms = {"march": (calls, 0.02), "june": (calls * mirrored // 10_000, min(1.0, 0.02 * worse))}
        made = {
            name: VariantPane(calls=n, rates={"error_rate": (n, int(rng.binomial(n, bad)))})
            for name, (n, bad) in arms.items()
            if n
        }
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): made})
    return drive


def shares(drive):
    return [[(w.weight_bp, w.mirror_bp) for w in c.weights] for c in drive.of(DeploymentCommand)]


def test_a_shadow_passes_without_ever_serving_and_the_copies_end():
    drive = serve(Drive(rollout(**SHADOW)), 400, until="succeeded")
    assert drive.actions == ["start", "advance", "conclude"]
    assert shares(drive) == [
        [(10_000, 0), (0, 1_000)],
        [(10_000, 0), (0, 5_000)],
        [(10_000, 0), (0, 0)],
    ]
    assert drive.command.reason.startswith(
        "june has passed in the shadow: all steps are done, and harm is excl"
    )
    assert "Step 1 of 2 (10 % copied to june)" in drive.of(DeploymentCommand)[1].reason


def test_a_shadow_that_is_harmful_ends_and_the_baseline_served_all_along():
    drive = serve(Drive(rollout(**SHADOW)), 400, worse=20, until="rolled_back")
    assert drive.actions == ["start", "rollback"]
    assert drive.command.reason.startswith("june fails in the shadow: error_rate: ")
    assert shares(drive)[-1] == [(10_000, 0), (0, 0)]


def test_nobody_promotes_a_shadow():
    drive = serve(Drive(rollout(**SHADOW)), 3)
    (refused,) = drive.act("promote")
    assert refused.detail == "a shadow serves nobody: apply a canary to send traffic to june"
    drive.act("advance")
    assert shares(drive)[-1] == [(10_000, 0), (0, 5_000)]


def test_an_inconclusive_shadow_is_held_for_a_person():
    drive = Drive(rollout(**SHADOW, max_duration_us=HOUR, metrics=[rate(), rate("abstain_rate")]))
    assert serve(drive, 370).state.state == "holding"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": [Step(weight_bp=1_000)]}, "step 1 both serves and mirrors"),
        ({"metrics": [rate("feedback.helpful")]}, "nobody rates what nobody is served"),
        ({"on_inconclusive": "promote"}, "a shadow promotes nobody"),
    ],
)
def test_a_shadow_that_would_serve_or_be_rated_is_refused(changes, problem):
    (refused,) = Drive(rollout(**(SHADOW | changes))).of(DeploymentStatus)
    assert problem in refused.detail


@pytest.mark.parametrize("strategy", ["shadow", "canary"])
def test_copies_count_for_a_shadow_and_for_nothing_else(journal, strategy):
    made = journal()
    steps = [Step(weight_bp=0, mirror_bp=5_000, min_calls=10, warmup_us=0)]
    spec = chat(strategy="shadow", steps=steps) if strategy == "shadow" else chat()
    messages = [made.beat(START), made.rollout(codec.encode(spec))]
    for pane in range(8):
        pane_us = START + pane * 10 * SECOND
        calls = [
            made.Call(
                ts_us=pane_us + SECOND,
                revision=1,
                status="error" if i % 2 else "ok",
                comparable=not i % 2,
                dimensions={"variant": "v2", "traffic": "shadow"} if i % 2 else {"variant": "v1"},
            )
            for i in range(40)
        ]
        for share in chunks(calls, 20):
            messages += made.calls(share)
        messages.append(made.beat(pane_us + 10 * SECOND))
    records = fold_all(messages)
    progress = [record for record in records if isinstance(record, RolloutProgress)][-1]
    copied = next(row.calls for row in progress.exposure if row.variant == "v2")
    assert (copied > 0) == (strategy == "shadow")
    assert [command.action for command in decisions(records)][1:] == ["rollback"] * (strategy == "shadow")
