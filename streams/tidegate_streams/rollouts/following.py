"""Following the table: the next state, its command, and the alerts that end and begin."""

from dataclasses import replace
from typing import Any

from tidegate_streams import alerts
from tidegate_streams.rollouts import outputs, reasons
from tidegate_streams.rollouts.findings import judge
from tidegate_streams.rollouts.outputs import CONTROLLER, Position, baseline, candidate, identity
from tidegate_streams.rollouts.state import Counting, State
from tidegate_streams.rollouts.transitions import NEW, TRANSITIONS
from tidegate_streams.statistics.exceedances import GAMMA, threshold

Outputs = list[Any]
"""Records to publish."""

MIN_WARMUP_US = 30_000_000
"""Right after a change of weights only quick answers have come back: at least that long does not count."""

_HELD_FOR = {
    "start_frozen": "freeze",
    "start_paused": "person",
    "unapproved": "approval",
    "overdue_hold": "time",
    "uneven": "split",
    "pause": "person",
}


def follow(
    state: State,
    event: str,
    at: Position,
    now_us: int,
    reason: str,
    *,
    actor: str = CONTROLLER,
    actor_kind: str = "controller",
) -> tuple[State, Outputs]:
    """Follow the table: next state, its command, and the alerts that end and begin."""
    transition = TRANSITIONS[state.state, event]
    judgement = judge(state)
    before = state
    if transition.state == "rolling_back":
        state = replace(state, failed={**state.failed, identity(candidate(state.plan)): outputs.named(state)})
    if transition.state == "promoting":
        tried = identity(candidate(state.plan))
        state = replace(state, failed={one: at for one, at in state.failed.items() if one != tried})
    if transition.action in ("rollback", "abort"):
        reason = reasons.going_back(reason, state)
    state = replace(state, state=transition.state, held_for=_HELD_FOR.get(event, ""), reason=reason)
    if event == "approve":
        state = replace(state, held_for=before.held_for)
    if before.held_for == "split" and transition.state != "holding":
        state = replace(state, split=before.split.begun_anew())
    if transition.action == "start":
        state = replace(state, started_us=now_us)
    if transition.action == "advance":
        state = replace(state, step=state.step + 1, step_calls={}, step_users={})
    if transition.action in ("start", "advance", "resume"):
        state = replace(state, step_clock_us=now_us)
    if transition.action in ("start", "resume"):
        state = replace(state, clock_us=now_us)
    published: Outputs = []
    stands_otherwise = (state.state, state.held_for) != (before.state, before.held_for)
    if before.alert is not None and stands_otherwise:
        published.append(alerts.resolved(before.alert, now_us))
        state = replace(state, alert=None)
    if transition.action is None:
        return state, published
    state = _revised(before, state, now_us)
    made = outputs.command(
        state, transition.action, judgement, at, now_us, actor=actor, actor_kind=actor_kind
    )
    published.append(made)
    if stands_otherwise:
        fired = outputs.alert(state, judgement, made.command_id, now_us)
        if fired is not None:
            published.append(fired)
            state = replace(state, alert=fired)
    return state, published


def _revised(before: State, state: State, now_us: int) -> State:
    """Give the next revision; calls that obey it count after a warm-up, where the weights have changed."""
    changed = (
        before.state == NEW
        or outputs.candidate_bp(before) != outputs.candidate_bp(state)
        or before.started_us != state.started_us
    )
    settled_us = now_us + _warmup_us(state) if changed else state.settled_us
    revision = state.revision + 1
    return replace(
        state,
        revision=revision,
        settled_us=settled_us,
        revisions={**state.revisions, revision: Counting(state.step, settled_us)},
    )


def _warmup_us(state: State) -> int:
    spec = state.plan
    own = spec.steps[state.step].warmup_us
    if own is not None:
        return own
    index = threshold(state.reference.of(baseline(spec).name).histograms.get("latency_us", {}), 0.99)
    return MIN_WARMUP_US if index is None else max(MIN_WARMUP_US, round(2 * GAMMA**index))
