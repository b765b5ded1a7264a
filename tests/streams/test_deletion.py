from typing import Any

from tidegate import codec
from tidegate.records import DecisionMetric, DeploymentCommand, Rollout, RolloutAction, Step, Variant
from tidegate_streams import fold
from tidegate_streams.deletion import DELETE

SPEC = Rollout(
    name="r",
    tenant="acme",
    environment="prod",
    deployment="chat",
    generation=7,
    spec_hash="h",
    source_yaml="",
    actor="me",
    ts=1_000_000,
    strategy="canary",
    assignment_unit="user",
    salt="s",
    max_duration_us=10**12,
    variants=[Variant(name="old", role="baseline"), Variant(name="new", role="candidate")],
    steps=[Step(weight_bp=1_000)],
    metrics=[
        DecisionMetric(
            name="error_rate", kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=1.5
        )
    ],
)
TOMBSTONE = RolloutAction(
    action_id="t:0:1",
    key="acme/prod/chat",
    generation=0,
    action=DELETE,
    actor="specification",
    reason="",
    ts=5,
)


def test_a_tombstone_aborts_the_rollout_of_any_generation_and_means_nothing_to_a_stranger(
    journal: type[Any],
) -> None:
    written, state = journal(), fold.State(partition=0, rules=fold.Rules())
    deletion, spec = codec.encode(TOMBSTONE), codec.encode(SPEC)
    outputs = [
        fold.apply(state, offset, record)
        for offset, record in enumerate(
            [written.action(deletion), written.rollout(spec), written.action(deletion)]
        )
    ]
    commands = [[one for one in each if isinstance(one, DeploymentCommand)] for each in outputs]
    assert commands[0] == []
    assert [one.action for one in commands[2]] == ["abort"]
    assert {weight.variant: weight.weight_bp for weight in commands[2][0].weights} == {
        "old": 10_000,
        "new": 0,
    }
