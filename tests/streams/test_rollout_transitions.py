"""The table of transitions against the machine: every state, every event, every finding."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.streams.drive import START, Drive, action, rate, reached, rollout

from tidegate.records import DeploymentStatus, Freeze, Step, Variant
from tidegate_streams.rollouts import machine
from tidegate_streams.rollouts.comparing import MetricEvidence, after
from tidegate_streams.rollouts.findings import finding_of
from tidegate_streams.rollouts.split import Split
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.transitions import ACTIONS, FINISHED, LIVE, MOVING, NEW, STATES, TRANSITIONS
from tidegate_streams.rollouts.verdicts import Judgement

OF_SPECIFICATIONS = ("start", "start_paused", "start_frozen", "superseded", "deleted")
OF_LOOKS = {event for _, event in TRANSITIONS} - {*ACTIONS, *OF_SPECIFICATIONS}
FINISH_US = START + 10**12
BETTER = after(
    MetricEvidence.none(rate()),
    rate(),
    VariantPane(rates={"error_rate": (1_000, 300)}),
    VariantPane(rates={"error_rate": (1_000, 50)}),
    VariantPane(),
)
JULY = Variant(name="july", role="candidate", request_model="c")
HELD_FOR = {"holding": ("approval", "time", "person", "split", "loss")}


@functools.cache
def drives():
    some = dict(reached())
    some["superseded"] = Drive(rollout())
    some["superseded"].state = replace(some["superseded"].state, state="superseded")
    assert some.keys() == set(STATES)
    return some


def judgements():
    verdicts = ("safe", "pass", "inconclusive", "skipped", "error")
    for verdict, suspects, harmful in [
        ("pass", (), True),
        *itertools.product(verdicts, ((), ("error_rate",)), (False,)),
    ]:
        yield Judgement(
            log_e=0.0,
            harmful=harmful,
            safe=verdict == "safe",
            to_blame=(),
            suspects=suspects,
            verdicts={"error_rate": "pass" if verdict == "safe" else verdict},
        )


def of_one():
    return [{"june": one} for one in judgements()]


def of_both():
    """What a look may say of two candidates: of the second, harm, safety or nothing."""
    some = list(judgements())
    others = (
        some[0],
        next(one for one in some if one.safe),
        next(one for one in some if not (one.safe or one.harmful)),
    )
    return [{"june": one, "july": other} for one in some for other in others]


def standings(state):
    """A state in all conditions that a look tells apart."""
    for (strategy, several), policy, approval, frozen in itertools.product(
        (("canary", False), ("rolling", False), ("shadow", False), ("ab", False), ("ab", True)),
        ("hold", "rollback", "promote"),
        (False, True),
        (False, True),
    ):
        if several and policy == "promote":
            continue
        steps = [Step(weight_bp=6_000, min_calls=10, approval=approval), Step(weight_bp=7_000, min_calls=10)]
        spec = rollout(
            strategy=strategy,
            on_inconclusive=policy,
            steps=steps,
            freezes=[Freeze(starts_at=START, ends_at=FINISH_US + 1)] if frozen else [],
            variants=[*rollout().variants, *([JULY] if several else [])],
        )
        for step, held_for, uneven, exposed in itertools.product(
            range(2),
            HELD_FOR.get(state.state, ("", "freeze") if state.started_us is None else ("",)),
            (False, True),
            (False, True),
        ):
            yield replace(
                state,
                spec=spec,
                step=step,
                anchored=exposed,
                held_for=held_for,
                evidence={new: {"error_rate": BETTER} for new in ("june", "july")},
                split=Split(total=np.full((2, 16), 50.0 if uneven else 0.0)),
                step_calls={"june": 99 * exposed, "july": 99 * exposed},
                totals={new: VariantPane(calls=99) for new in ("june", "july")},
            )


def test_a_look_finds_only_what_is_in_the_table_and_all_of_it():
    moving = [(name, drive) for name, drive in drives().items() if name in MOVING]
    waiting = [("initialising", Drive(rollout(paused=True)))]
    found = set()
    for name, drive in [*moving, *waiting]:
        for state in standings(drive.state):
            told = of_both() if len(state.tried) > 1 else of_one()
            times_us = (state.settled_us - 1, state.settled_us + 10_000_000, FINISH_US)
            for judged, now_us in itertools.product(told, times_us):
                if finding := finding_of(state, judged, now_us):
                    found.add((name, finding.event))
                    assert {*finding.about} <= {*state.tried}
    assert found == {(state, event) for state, event in TRANSITIONS if event in OF_LOOKS}


@pytest.mark.parametrize("state", STATES)
def test_what_a_specification_does_in_each_state_is_what_the_table_says(state):
    drive = drives()[state]
    for event, happen in (("superseded", lambda d: d.spec(rollout(generation=9))), ("deleted", Drive.delete)):
        tried = Drive()
        tried.state, tried.outputs = drive.state, list(drive.outputs)
        published = happen(tried)
        told = [record.state for record in published if hasattr(record, "looks")]
        following = TRANSITIONS.get((state, event))
        assert (following is not None and following.state in told) == ((state, event) in TRANSITIONS)
        assert not [record for record in published if isinstance(record, DeploymentStatus)]


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("state", STATES)
def test_an_action_that_the_table_does_not_have_is_refused_in_every_state(state, kind):
    drive = drives()[state]
    after, published = machine.on_action(drive.state, action(kind), drive.at)
    if (state, kind) not in TRANSITIONS:
        (refused,) = published
        assert isinstance(refused, DeploymentStatus)
        assert after.state == state


def test_the_table_leads_from_a_start_to_every_state_and_nowhere_else():
    assert {state for state, _ in TRANSITIONS} == {NEW, *MOVING, "succeeded"}
    assert {transition.state for transition in TRANSITIONS.values()} == set(STATES)
    assert [key for key in TRANSITIONS if key[0] in FINISHED] == [("succeeded", "rollback")]
    for state in LIVE:
        assert TRANSITIONS[state, "harm"].state == "rolling_back"
        assert TRANSITIONS[state, "dropped"].state == state
    commands = {transition.action for transition in TRANSITIONS.values()} - {None}
    assert commands == {
        "start",
        "advance",
        "hold",
        "promote",
        "rollback",
        "pause",
        "resume",
        "abort",
        "conclude",
        "drop",
    }
