"""Following the table: the next state, its command, and the alerts that end and begin."""

from dataclasses import replace
from typing import Any

from tidegate_streams import alerts
from tidegate_streams.rollouts import outputs, reasons
from tidegate_streams.rollouts.findings import judge
from tidegate_streams.rollouts.outputs import CONTROLLER, Position
from tidegate_streams.rollouts.state import Counting, State
from tidegate_streams.rollouts.transitions import NEW, TRANSITIONS
from tidegate_streams.rollouts.variants import baseline, candidates, identity
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
    about: tuple[str, ...] = (),
    *,
    actor: str = CONTROLLER,
    actor_kind: str = "controller",
) -> tuple[State, Outputs]:
    """Follow the table: next state, its command, and the alerts that end and begin.

    Parameters
    ----------
    state
        Of the deployment.
    event
        Of the table, in this state.
    at
        Position in the journal.
    now_us
        Event time in microseconds.
    reason
        In a sentence.
    about
        Candidates that are given up, or the one that is promoted; all that are tried unless given.
    actor, actor_kind
        Who decided.
    """
    transition = TRANSITIONS[state.state, event]
    judgements = judge(state)
    before = state
    about = about or tuple(state.tried)
    known = {one.name: identity(one) for one in candidates(state.plan)}
    if transition.state == "rolling_back" or transition.action == "drop":
        failed = {known[new]: outputs.named(state) for new in about}
        state = replace(state, failed={**state.failed, **failed})
    if transition.action == "drop":
        state = replace(state, dropped=state.dropped.union(about))
    if transition.state == "promoting":
        (winner,) = about
        failed = {one: where for one, where in state.failed.items() if one != known[winner]}
        state = replace(state, winner=winner, failed=failed)
    if transition.action in ("rollback", "abort", "drop"):
        reason = reasons.going_back(reason, state)
    state = replace(state, state=transition.state, held_for=_HELD_FOR.get(event, ""), reason=reason)
    if event in ("approve", "dropped"):
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
        state, transition.action, judgements, at, now_us, actor=actor, actor_kind=actor_kind
    )
    published.append(made)
    if stands_otherwise:
        fired = outputs.alert(state, judgements, made.command_id, now_us)
        if fired is not None:
            published.append(fired)
            state = replace(state, alert=fired)
    return state, published


def _revised(before: State, state: State, now_us: int) -> State:
    """Give the next revision; calls that obey it count after a warm-up, where the weights have changed.

    Those of a rollout that waits for its start count for nothing: no step has asked anything of them.
    """
    changed = (
        before.state == NEW
        or outputs.weights(before) != outputs.weights(state)
        or before.started_us != state.started_us
    )
    settled_us = now_us + _warmup_us(state) if changed else state.settled_us
    revision = state.revision + 1
    counting = (
        {revision: Counting(state.step, settled_us, state.dropped)} if state.started_us is not None else {}
    )
    return replace(state, revision=revision, settled_us=settled_us, revisions={**state.revisions, **counting})


def _warmup_us(state: State) -> int:
    spec = state.plan
    own = spec.steps[state.step].warmup_us
    if own is not None:
        return own
    index = threshold(state.reference.of(baseline(spec).name).histograms.get("latency_us", {}), 0.99)
    return MIN_WARMUP_US if index is None else max(MIN_WARMUP_US, round(2 * GAMMA**index))
