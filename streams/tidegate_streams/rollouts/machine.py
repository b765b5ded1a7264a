"""The rollout machine: specifications, actions of people and looks at strata -> state and commands.

The table says which event leads from which state to which, and which command that is. Everything else here
finds the event, or applies it. Nothing reads a clock: time is the watermark, and the panes looked at.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from tidegate.errors import InvariantBroken
from tidegate.records import Rollout, RolloutAction
from tidegate.series import deployment_key
from tidegate_streams import alerts, users
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import outputs, reasons, verdicts
from tidegate_streams.rollouts.outputs import CONTROLLER, Position, baseline, candidate
from tidegate_streams.rollouts.reference import Reference
from tidegate_streams.rollouts.state import Counting, State
from tidegate_streams.rollouts.strata import Strata, VariantPane, largest
from tidegate_streams.rollouts.verdicts import Judgement, MetricEvidence
from tidegate_streams.statistics.exceedances import GAMMA, threshold

__all__ = ["STATES", "TRANSITIONS", "Position", "on_action", "on_deleted", "on_look", "on_spec"]

NEW = ""
LIVE = ("initialising", "progressing", "holding")
MOVING = (*LIVE, "promoting", "rolling_back")
FINISHED = ("succeeded", "rolled_back", "aborted", "superseded")
STATES = (*MOVING, *FINISHED)

ACTIONS = ("pause", "resume", "promote", "advance", "rollback", "abort", "approve")
"""What people may ask for."""

MIN_WARMUP_US = 30_000_000
"""Right after a change of weights only quick answers have come back: at least that long does not count."""


class Transition(NamedTuple):
    """Where an event leads.

    Parameters
    ----------
    state
        Next state.
    action
        Action of the command that is published; None publishes none.
    """

    state: str
    action: str | None


TRANSITIONS: dict[tuple[str, str], Transition] = {
    (state, event): Transition(following, action)
    for states, event, following, action in (
        # What a specification does.
        ((NEW,), "start", "initialising", "start"),
        ((NEW,), "start_paused", "initialising", "pause"),
        (MOVING, "superseded", "superseded", None),
        ((*LIVE, "promoting"), "deleted", "aborted", "abort"),
        # What a look finds, in the order in which it is asked for.
        (("promoting",), "settled", "succeeded", None),
        (("rolling_back",), "settled", "rolled_back", None),
        (LIVE, "harm", "rolling_back", "rollback"),
        (("initialising",), "warm", "progressing", None),
        (("progressing",), "unapproved", "holding", "hold"),
        (("progressing", "holding"), "exposed", "progressing", "advance"),
        (("progressing", "holding"), "safe", "promoting", "promote"),
        (("progressing",), "overdue_hold", "holding", "hold"),
        (("progressing",), "overdue_rollback", "rolling_back", "rollback"),
        (("progressing",), "overdue_promote", "promoting", "promote"),
        # What people ask for.
        (LIVE, "pause", "holding", "pause"),
        (("initialising",), "resume", "initialising", "start"),
        (("holding",), "resume", "progressing", "resume"),
        (LIVE, "promote", "promoting", "promote"),
        (LIVE, "advance", "progressing", "advance"),
        ((*LIVE, "promoting", "succeeded"), "rollback", "rolling_back", "rollback"),
        ((*LIVE, "promoting"), "abort", "aborted", "abort"),
        (("initialising",), "approve", "initialising", None),
        (("progressing",), "approve", "progressing", None),
        (("holding",), "approve", "holding", None),
    )
    for state in states
}
"""(state, event) -> where it leads. What is not here does not happen; a person is told so."""

_HELD_FOR = {"unapproved": "approval", "overdue_hold": "time", "pause": "person", "start_paused": "person"}

Outputs = list[Any]


def on_spec(state: State | None, spec: Rollout, at: Position) -> tuple[State, Outputs]:
    """Take in a specification.

    Parameters
    ----------
    state
        Of the deployment; None when nothing is known of it.
    spec
        A new generation replaces what runs; state resets only here. A repeated one does nothing.
    at
        Position in the journal.

    Returns
    -------
    tuple
        The next state, and records to publish: command, progress, alerts, or a refusal.
    """
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    before = state or State(key)
    now_us = spec.ts if at.watermark_us is None else at.watermark_us
    known = before.spec
    if known is not None and not before.deleted:
        if (spec.generation, spec.spec_hash) == (known.generation, known.spec_hash):
            return before, []
        if spec.generation <= known.generation:
            detail = reasons.stale(spec.generation, known.generation)
            return before, [outputs.refusal(before, spec.spec_hash, "rejected", detail, now_us)]
    problem = reasons.cannot_run(spec)
    if problem:
        return before, [outputs.refusal(before, spec.spec_hash, "rejected", problem, now_us)]
    published: Outputs = []
    if before.state in MOVING:
        before, published = _apply(before, "superseded", at, now_us, reasons.superseded(spec))
        published.append(outputs.progress(before, _judge(before), at))
    following = State(
        key,
        spec,
        revision=before.revision,
        evidence={metric.name: MetricEvidence.none(metric) for metric in spec.metrics},
        reference=before.reference,
        looked_until_us=before.looked_until_us,
        waiting=before.waiting,
        anchored=at.watermark_us is not None,
    )
    event = "start_paused" if spec.paused else "start"
    following, started = _apply(
        following, event, at, now_us, reasons.started(spec), actor=spec.actor, actor_kind="human"
    )
    following, acted = _act_on_waiting(following, at)
    return following, [*published, *started, *acted, outputs.progress(following, _judge(following), at)]


def on_deleted(state: State, at: Position) -> tuple[State, Outputs]:
    """Take in that the specification was withdrawn: a live rollout is aborted, a finished one left as it is.

    Parameters
    ----------
    state
        Of the deployment.
    at
        Position in the journal.

    Returns
    -------
    tuple
        The next state, and records to publish. Any specification is accepted afterwards.
    """
    if state.spec is None:
        return state, []
    deleted = replace(state, deleted=True)
    if (state.state, "deleted") not in TRANSITIONS:
        return deleted, []
    now_us = state.spec.ts if at.watermark_us is None else at.watermark_us
    deleted, published = _apply(
        deleted, "deleted", at, now_us, reasons.deleted(state.spec), actor="specification", actor_kind="human"
    )
    return deleted, [*published, outputs.progress(deleted, _judge(deleted), at)]


def on_action(state: State | None, action: RolloutAction, at: Position) -> tuple[State, Outputs]:
    """Take in what a person asks for.

    Parameters
    ----------
    state
        Of the deployment; None when nothing is known of it.
    action
        Carried out once. One for a generation that has not arrived waits for it.
    at
        Position in the journal.

    Returns
    -------
    tuple
        The next state, and records to publish: a command and progress, or a refusal that says why.
    """
    state = state or State(action.key)
    if action.action_id in state.acted or any(action.action_id == one.action_id for one in state.waiting):
        return state, []
    if state.spec is None or action.generation > state.spec.generation:
        return replace(state, waiting=(*state.waiting, action)), []
    following, published = _act(state, action, at)
    if following.revision != state.revision or following.approved != state.approved:
        published = [*published, outputs.progress(following, _judge(following), at)]
    return following, published


def on_look(state: State, pane_end_us: int, strata: Strata, at: Position) -> tuple[State, Outputs]:
    """Look once at what a pane brought.

    Parameters
    ----------
    state
        Of the deployment.
    pane_end_us
        End of the pane, in event time; later than that of any look before.
    strata
        What `strata.strata_of` returned; empty for a pane without calls.
    at
        Position in the journal.

    Returns
    -------
    tuple
        The next state, and records to publish.

    Raises
    ------
    InvariantBroken
        When the pane was looked at before: a second look at the same strata would void the guarantee.
    """
    if state.looked_until_us is not None and pane_end_us <= state.looked_until_us:
        raise InvariantBroken(
            f"{state.key}: a look at the pane that ends at {pane_end_us}, after one that ended at "
            f"{state.looked_until_us}; restart the processor, it takes the looks again from the journal"
        )
    usual = state.reference
    state = replace(state, looked_until_us=pane_end_us, reference=usual.after(strata, pane_end_us))
    state, published = _expire(state, at)
    if state.spec is None or state.state not in MOVING:
        return state, published
    if state.state in LIVE:
        state = _take(_anchored(state, strata), strata, usual)
    state = replace(state, looks=state.looks + 1)
    judgement = _judge(state)
    now_us = pane_end_us if at.watermark_us is None else at.watermark_us
    while event := _event(state, judgement, pane_end_us):
        reason = reasons.of_look(event, state, judgement, pane_end_us)
        state, decided = _apply(state, event, at, now_us, reason)
        published += decided
        if event != "warm":
            break
    else:
        if state.state == "progressing":
            state = replace(state, reason=reasons.waiting(state, judgement))
    return state, [*published, outputs.progress(state, judgement, at)]


def _event(state: State, judgement: Judgement, pane_end_us: int) -> str | None:
    """What a look finds. Harm comes first: when harm and safety are found at once, traffic goes back."""
    spec = _spec(state)
    if state.state in ("promoting", "rolling_back"):
        return "settled" if pane_end_us > state.settled_us else None
    if state.started_us is None:
        return None
    if judgement.harmful:
        return "harm"
    warm = pane_end_us - PANE_US >= state.settled_us
    if state.state == "initialising":
        return "warm" if warm and state.anchored else None
    gated = spec.steps[state.step].approval and not _is_approved(state, pane_end_us)
    if state.state == "holding" and (state.held_for != "approval" or gated):
        return None
    if warm and not judgement.suspects and is_exposed(state):
        last = state.step == len(spec.steps) - 1
        if not last or (judgement.safe and is_exposed_in_all(state)):
            return "unapproved" if gated else "safe" if last else "exposed"
    if state.state == "progressing" and _is_overdue(state, pane_end_us):
        return f"overdue_{spec.on_inconclusive}"
    return None


def is_exposed(state: State) -> bool:
    """Whether the present step has served as much as it asks for; users only where they are reported."""
    spec = _spec(state)
    step = spec.steps[state.step]
    calls = state.step_calls.get(candidate(spec).name, 0)
    return calls >= step.min_calls and _enough_users(state.step_users, step.min_units)


def is_exposed_in_all(state: State) -> bool:
    """Whether all steps together have served as much as the rollout asks for."""
    spec = _spec(state)
    total = state.totals.get(candidate(spec).name, VariantPane())
    return total.calls >= spec.min_calls and _enough_users(total.users, spec.min_units)


def _enough_users(sketch: Any, least: int) -> bool:
    return not sketch or users.estimate(list(sketch.values())) >= least


def _is_approved(state: State, now_us: int) -> bool:
    if state.step not in state.approved:
        return False
    until_us = state.approved[state.step]
    return until_us is None or now_us < until_us


def _is_overdue(state: State, now_us: int) -> bool:
    spec = _spec(state)
    step_us = spec.steps[state.step].max_duration_us
    return now_us - state.clock_us >= spec.max_duration_us or (
        step_us is not None and now_us - state.step_clock_us >= step_us
    )


def _apply(
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
    judgement = _judge(state)
    before = state
    state = replace(state, state=transition.state, held_for=_HELD_FOR.get(event, ""), reason=reason)
    if event == "approve":
        state = replace(state, held_for=before.held_for)
    if transition.action == "start":
        state = replace(state, started_us=now_us)
    if transition.action == "advance":
        state = replace(state, step=state.step + 1, step_calls={}, step_users={})
    if transition.action in ("start", "advance", "resume"):
        state = replace(state, step_clock_us=now_us)
    if transition.action in ("start", "resume"):
        state = replace(state, clock_us=now_us)
    published: Outputs = []
    if before.alert is not None and transition.state != before.state:
        published.append(alerts.resolved(before.alert, now_us))
        state = replace(state, alert=None)
    if transition.action is None:
        return state, published
    state = _revised(before, state, now_us)
    made = outputs.command(
        state, transition.action, judgement, at, now_us, actor=actor, actor_kind=actor_kind
    )
    published.append(made)
    if transition.state != before.state:
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
    spec = _spec(state)
    own = spec.steps[state.step].warmup_us
    if own is not None:
        return own
    index = threshold(state.reference.of(baseline(spec).name).histograms.get("latency_us", {}), 0.99)
    return MIN_WARMUP_US if index is None else max(MIN_WARMUP_US, round(2 * GAMMA**index))


def _anchored(state: State, strata: Strata) -> State:
    """Move a start that was dated before the first watermark to the time of the first calls that obey it.

    The specification's own time is a wall clock's, and a replay of last year runs in last year's time.
    """
    if state.anchored:
        return state
    panes = [stratum.pane_us for stratum in strata if _counting(state, stratum.revision) is not None]
    if not panes:
        return state
    ahead_us = max(state.clock_us - min(panes), 0)
    return replace(
        state,
        anchored=True,
        started_us=None if state.started_us is None else state.started_us - ahead_us,
        clock_us=state.clock_us - ahead_us,
        step_clock_us=state.step_clock_us - ahead_us,
        settled_us=state.settled_us - ahead_us,
        revisions={
            revision: counting._replace(from_us=counting.from_us - ahead_us)
            for revision, counting in state.revisions.items()
        },
    )


def _counting(state: State, revision: int | None) -> Counting | None:
    """What the calls of a revision count for. A dry run routes nothing, so it judges what others assigned."""
    if revision is None:
        return None
    if _spec(state).dry_run:
        return state.revisions[state.revision]
    return state.revisions.get(revision)


def _take(state: State, strata: Strata, usual: Reference) -> State:
    """Add the strata of a look to the evidence; thresholds and margins come from before it."""
    spec = _spec(state)
    base, new = baseline(spec).name, candidate(spec).name
    reference = usual.of(base)
    for stratum in sorted(strata, key=lambda one: (one.revision or 0, one.pane_us, one.is_late)):
        counting = _counting(state, stratum.revision)
        if counting is None or stratum.pane_us < counting.from_us:
            continue
        panes = {name: strata[stratum].get(name, VariantPane()) for name in (base, new)}
        state = replace(
            state,
            evidence={
                metric.name: verdicts.after(
                    state.evidence[metric.name], metric, panes[base], panes[new], reference
                )
                for metric in spec.metrics
            },
            totals={name: state.totals.get(name, VariantPane()) + pane for name, pane in panes.items()},
        )
        if counting.step == state.step:
            state = replace(
                state,
                step_calls={name: state.step_calls.get(name, 0) + pane.calls for name, pane in panes.items()},
                step_users=largest(state.step_users, panes[new].users),
            )
    return state


def _judge(state: State) -> Judgement:
    spec = _spec(state)
    return verdicts.judge(spec.metrics, state.evidence, spec.alpha_rollback, spec.alpha_promotion)


def _act(state: State, action: RolloutAction, at: Position) -> tuple[State, Outputs]:
    now_us = action.ts if at.watermark_us is None else at.watermark_us
    state = replace(state, acted=state.acted | {action.action_id})
    if action.expires_at is not None and at.watermark_us is not None and at.watermark_us >= action.expires_at:
        detail = reasons.expired(action)
        return state, [outputs.refusal(state, action.action_id, "expired", detail, now_us)]
    problem = _objection(state, action)
    if problem:
        return state, [outputs.refusal(state, action.action_id, "rejected", problem, now_us)]
    if action.action == "approve":
        state = replace(state, approved={**state.approved, state.step: action.expires_at})
    reason = reasons.of_action(action, state, _judge(state))
    state, published = _apply(
        state, action.action, at, now_us, reason, actor=action.actor, actor_kind="human"
    )
    if action.action == "approve" and state.held_for == "approval":
        judgement = _judge(state)
        event = _event(state, judgement, state.looked_until_us or now_us)
        if event is not None:
            reason = f"{reasons.of_look(event, state, judgement, now_us)} {reasons.approved_by(action)}"
            state, followed = _apply(state, event, at, now_us, reason, actor=action.actor, actor_kind="human")
            published += followed
    return state, published


def _objection(state: State, action: RolloutAction) -> str | None:
    """Why an action is not carried out, in a sentence; None when it is."""
    spec = _spec(state)
    if action.generation < spec.generation:
        return reasons.stale(action.generation, spec.generation)
    if action.expected_revision is not None and action.expected_revision != state.revision:
        return reasons.other_revision(action.expected_revision, state.revision)
    if action.action not in ACTIONS:
        return reasons.unknown_action(action.action, ACTIONS)
    if action.target:
        return reasons.needless_target(action)
    if (state.state, action.action) not in TRANSITIONS:
        return reasons.impossible(action.action, state.state)
    waits_to_start = state.started_us is None
    if action.action == "pause" and state.held_for == "person":
        return reasons.already_paused()
    if action.action == "resume" and state.state == "initialising" and not waits_to_start:
        return reasons.impossible(action.action, state.state)
    if action.action == "advance" and waits_to_start:
        return reasons.not_started()
    if action.action == "advance" and state.step == len(spec.steps) - 1:
        return reasons.last_step()
    return None


def _act_on_waiting(state: State, at: Position) -> tuple[State, Outputs]:
    """Carry out the actions that waited for this generation."""
    spec = _spec(state)
    due = [action for action in state.waiting if action.generation <= spec.generation]
    state = replace(state, waiting=tuple(action for action in state.waiting if action not in due))
    published: Outputs = []
    for action in due:
        state, answered = _act(state, action, at)
        published += answered
    return state, published


def _expire(state: State, at: Position) -> tuple[State, Outputs]:
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
        outputs.refusal(state, one.action_id, "expired", reasons.expired(one), now_us) for one in over
    ]


def _spec(state: State) -> Rollout:
    if state.spec is None:
        raise InvariantBroken(f"{state.key}: a rollout without its specification was acted on")
    return state.spec
