"""What people ask for: carried out once, in its generation and its time, or refused with the reason."""

from dataclasses import replace

from tidegate.records import RolloutAction
from tidegate_streams.rollouts import freezes, outputs, reasons, refusals
from tidegate_streams.rollouts.findings import finding_of, judge
from tidegate_streams.rollouts.following import Outputs, follow
from tidegate_streams.rollouts.outputs import Position
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.transitions import ACTIONS, TRANSITIONS

_OF_ONE = ("promote", "rollback")
"""Actions that may name one of several candidates."""


def act(state: State, action: RolloutAction, at: Position) -> tuple[State, Outputs]:
    """Carry out an action, or refuse it; its identity is spent either way."""
    now_us = action.ts if at.watermark_us is None else at.watermark_us
    state = replace(state, acted=state.acted | {action.action_id})
    if action.expires_at is not None and at.watermark_us is not None and at.watermark_us >= action.expires_at:
        detail = refusals.expired(action)
        return state, [outputs.refusal(state, action.action_id, "expired", detail, now_us)]
    problem = _objection(state, action, now_us)
    if problem:
        return state, [outputs.refusal(state, action.action_id, "rejected", problem, now_us)]
    if action.action == "approve":
        state = replace(state, approved={**state.approved, state.step: action.expires_at})
    about: tuple[str, ...] = (action.target,) if action.target else ()
    others = {*state.tried}.difference(about)
    event = "dropped" if action.action == "rollback" and about and others else action.action
    reason = reasons.of_action(action, state, judge(state))
    state, published = follow(state, event, at, now_us, reason, about, actor=action.actor, actor_kind="human")
    if action.action == "approve" and state.held_for == "approval":
        judgements = judge(state)
        finding = finding_of(state, judgements, state.looked_until_us or now_us)
        if finding is not None:
            event, about = finding
            reason = f"{reasons.of_look(finding, state, judgements, now_us)} {reasons.approved_by(action)}"
            state, followed = follow(
                state, event, at, now_us, reason, about, actor=action.actor, actor_kind="human"
            )
            published += followed
    return state, published


def _objection(state: State, action: RolloutAction, now_us: int) -> str | None:
    """Why an action is not carried out, in a sentence; None when it is."""
    spec = state.plan
    if action.generation < spec.generation:
        return refusals.stale(action.generation, spec.generation)
    if action.expected_revision is not None and action.expected_revision != state.revision:
        return refusals.other_revision(action.expected_revision, state.revision)
    if action.action not in ACTIONS:
        return refusals.unknown_action(action.action, ACTIONS)
    if action.target and action.action not in _OF_ONE:
        return refusals.needless_target(action)
    if action.target and action.target not in state.tried:
        return refusals.unknown_target(action, state.tried)
    if (state.state, action.action) not in TRANSITIONS:
        return refusals.impossible(action.action, state.state)
    if action.action == "promote" and not action.target and len(state.tried) > 1:
        return refusals.missing_target(state.tried)
    if state.held_for == "loss" and action.action not in ("rollback", "abort", "promote"):
        return refusals.needs_evidence(action)
    waits_to_start = state.started_us is None
    if action.action == "promote" and not STRATEGIES[spec.strategy].serves:
        return refusals.serves_nobody(spec)
    end_us = freezes.until(spec.freezes, now_us)
    if end_us is not None and (
        action.action in ("advance", "promote") or (action.action == "resume" and waits_to_start)
    ):
        return refusals.frozen(action, end_us)
    if action.action == "pause" and state.held_for == "person":
        return refusals.already_paused()
    if action.action == "pause" and waits_to_start:
        return refusals.thaws_by_itself()
    if action.action == "resume" and state.state == "initialising" and not waits_to_start:
        return refusals.impossible(action.action, state.state)
    if action.action == "advance" and waits_to_start:
        return refusals.not_started()
    if action.action == "advance" and state.step == len(spec.steps) - 1:
        return refusals.last_step()
    return None


def act_on_waiting(state: State, at: Position) -> tuple[State, Outputs]:
    """Carry out the actions that waited for this generation."""
    spec = state.plan
    due = [action for action in state.waiting if action.generation <= spec.generation]
    state = replace(state, waiting=tuple(action for action in state.waiting if action not in due))
    published: Outputs = []
    for action in due:
        state, answered = act(state, action, at)
        published += answered
    return state, published


def expire(state: State, at: Position) -> tuple[State, Outputs]:
    """Refuse the waiting actions whose time is over."""
    now_us = at.watermark_us
    if now_us is None:
        return state, []
    over = [one for one in state.waiting if one.expires_at is not None and one.expires_at <= now_us]
    if not over:
        return state, []
    state = replace(
        state,
        waiting=tuple(action for action in state.waiting if action not in over),
        acted=state.acted | {action.action_id for action in over},
    )
    return state, [
        outputs.refusal(state, one.action_id, "expired", refusals.expired(one), now_us) for one in over
    ]
