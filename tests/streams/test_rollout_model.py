"""Whatever happens to a rollout, in whatever order: what must always hold."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.streams.drive import SECOND, START, Drive, rate, rollout

from tidegate import codec
from tidegate.records import DeploymentCommand, DeploymentStatus, Freeze, RolloutProgress, Step, Variant
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.rollouts import freezes
from tidegate_streams.rollouts.strata import Stratum, VariantPane
from tidegate_streams.rollouts.transitions import ACTIONS, STATES

FREEZE = Freeze(starts_at=START + 60 * SECOND, ends_at=START + 120 * SECOND)
SERVED = [
    Step(weight_bp=bp, min_calls=20, warmup_us=0, approval=gated)
    for bp, gated in ((2_000, True), (6_000, False))
]
MIRRORED = [Step(weight_bp=0, mirror_bp=step.weight_bp, min_calls=20, warmup_us=0) for step in SERVED]
VARIANTS = [
    Variant(name="march", role="baseline", request_model="a"),
    Variant(name="june", role="candidate", request_model="b"),
    Variant(name="july", role="candidate", request_model="c"),
]
STEPS = {"blue_green": SERVED[1:], "ab": SERVED[1:], "shadow": MIRRORED}

specs = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["canary", "blue_green", "rolling", "shadow", "ab"]),
        "freezes": st.sampled_from([[], [FREEZE]]),
        "paused": st.booleans(),
        "dry_run": st.booleans(),
        "max_duration_us": st.sampled_from([90 * SECOND, 10_000 * SECOND]),
        "on_inconclusive": st.sampled_from(["hold", "rollback"]),
        "variants": st.sampled_from([2, 3]).map(lambda n: VARIANTS[:n]),
    }
)
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), specs),
        st.tuples(
            st.just("act"),
            st.tuples(st.sampled_from(ACTIONS), st.sampled_from([None, None, "june", "july"])),
        ),
        st.tuples(st.just("delete"), st.none()),
        st.tuples(
            st.just("serve"),
            st.tuples(
                st.integers(1, 6),
                st.sampled_from([0.0, 1.0, 30.0]),
                st.sampled_from([0.0, 1.0, 30.0]),
                st.sampled_from([0, 40, 400]),
            ),
        ),
    ),
    min_size=1,
    max_size=14,
)


def serve(drive, panes, june, july, calls):
    state = drive.state
    for _ in range(panes):
        arms = {"march": 0.05, "june": min(1.0, 0.05 * june), "july": min(1.0, 0.05 * july)}
        made = {
            name: VariantPane(calls=calls, rates={"error_rate": (calls, round(calls * bad))})
            for name, bad in arms.items()
            if calls
        }
        drive.look({Stratum(state.revision if state else 1, drive.pane_us, False): made} if made else {})


def play(history, *, restarting):
    drive = Drive()
    drive.spec(rollout(**FIRST))
    for generation, (kind, what) in enumerate(history, 2):
        if kind == "apply":
            drive.spec(rollout(generation=generation, **planned(what)))
        elif kind == "act":
            kind, target = what
            drive.act(kind, target=target, generation=drive.state.spec.generation)
        elif kind == "delete":
            drive.delete()
        else:
            serve(drive, *what)
        if restarting:
            drive.state = thaw(freeze(drive.state).pack())
    return drive


def planned(spec):
    several = {} if spec["strategy"] == "ab" else {"variants": VARIANTS[:2]}
    return {"metrics": [rate()], "steps": STEPS.get(spec["strategy"], SERVED)} | spec | several


FIRST = planned({"strategy": "canary"})


@settings(max_examples=60, deadline=None)
@given(happenings)
def test_what_must_always_hold(history):
    drive = play(history, restarting=False)
    strategies = {1: FIRST} | {
        generation: what for generation, (kind, what) in enumerate(history, 2) if kind == "apply"
    }
    commands = drive.of(DeploymentCommand)
    assert [command.revision for command in commands] == list(range(1, len(commands) + 1))
    for before, command in zip([None, *commands], commands, strict=False):
        assert sum(weight.weight_bp for weight in command.weights) == 10_000
        plan = strategies[command.generation]
        if plan["strategy"] == "shadow":
            assert command.weights[0].weight_bp == 10_000
        frozen = freezes.until(plan.get("freezes", []), command.ts) is not None
        same = before is not None and before.generation == command.generation
        earlier = {one.variant: one.weight_bp for one in before.weights} if same else {}
        grown = [one for one in command.weights[1:] if one.weight_bp > earlier.get(one.variant, 0)]
        assert not (frozen and grown), command.reason
        dropped = before is not None and before.action == "drop"
        given_up = {one for one, bp in earlier.items() if dropped and not bp}
        assert not given_up.intersection(one.variant for one in grown), command.reason
        assert command.actor in ("tidegate", "ada", "grace", "specification")
        assert command.reason
    for progress in drive.of(RolloutProgress):
        assert progress.state in STATES
    for refusal in drive.of(DeploymentStatus):
        assert refusal.detail
    for record in drive.outputs:
        codec.encode(record)


@settings(max_examples=20, deadline=None)
@given(happenings)
def test_a_restart_at_any_moment_changes_nothing(history):
    straight, restarted = play(history, restarting=False), play(history, restarting=True)
    assert restarted.outputs == straight.outputs
    assert freeze(restarted.state).pack() == freeze(straight.state).pack()
