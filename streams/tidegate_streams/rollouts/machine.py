"""The rollout machine: specifications, actions of people and looks at strata -> state and commands.

Nothing reads a clock: time is the watermark, and the panes that are looked at. `transitions` holds the table,
`findings` the event that a look calls for, `following` what an event leads to.
"""

from dataclasses import replace

from tidegate.errors import InvariantBroken
from tidegate.records import Rollout, RolloutAction, RolloutProgress
from tidegate.series import deployment_key, specification_id
from tidegate_streams import alerts
from tidegate_streams.rollouts import (
    admission,
    freezes,
    outputs,
    reasons,
    refusals,
    soundness,
)
from tidegate_streams.rollouts.actions import act, act_on_waiting, expire
from tidegate_streams.rollouts.comparing import MetricEvidence
from tidegate_streams.rollouts.findings import finding_of, judge
from tidegate_streams.rollouts.following import Outputs, follow
from tidegate_streams.rollouts.gathering import anchored, take
from tidegate_streams.rollouts.halves import Effects, serving
from tidegate_streams.rollouts.outputs import Position
from tidegate_streams.rollouts.past import Past
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import Strata
from tidegate_streams.rollouts.tolerance import margins
from tidegate_streams.rollouts.transitions import LIVE, MOVING, STATES, TRANSITIONS
from tidegate_streams.rollouts.variants import candidates

__all__ = ["STATES", "TRANSITIONS", "Position", "on_action", "on_deleted", "on_look", "on_spec", "take_up"]


def on_spec(
    state: State | None, spec: Rollout, at: Position, told: Effects | None = None
) -> tuple[State, Outputs]:
    """Take in a specification.

    Parameters
    ----------
    state
        Of the deployment; None when nothing is known of it.
    spec
        A new generation replaces what runs; state resets only here. A repeated one does nothing.
    at
        Position in the journal.
    told
        Design effects that the rollout was published to begin with; None when it begins here.

    Returns
    -------
    tuple
        The next state, and records to publish: command, progress, alerts, or a refusal.
    """
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    spec_id = specification_id(spec.spec_hash, spec.generation)
    before = state or State(key)
    now_us = spec.ts if at.watermark_us is None else at.watermark_us
    known = before.spec
    if known is not None and not before.deleted:
        if (spec.generation, spec.spec_hash) == (known.generation, known.spec_hash):
            return before, []
        if spec.generation <= known.generation:
            detail = refusals.stale(spec.generation, known.generation)
            return before, [outputs.refusal(before, spec_id, "rejected", detail, now_us)]
    problem = soundness.objection(spec)
    if problem:
        return before, [outputs.refusal(before, spec_id, "rejected", problem, now_us)]
    effects = before.halves.effects(spec.metrics) if told is None else told
    doubt = admission.doubt(spec, before.reference, before.looked_until_us, effects)
    if doubt and not spec.force:
        return before, [outputs.refusal(before, spec_id, "rejected", reasons.undecidable(doubt), now_us)]
    published: Outputs = []
    if before.state in MOVING:
        before, published = follow(before, "superseded", at, now_us, reasons.superseded(spec))
        published.append(outputs.progress(before, judge(before), at))
    following = State(
        key,
        spec,
        revision=before.revision,
        evidence=_begun(spec, effects),
        reference=before.reference,
        halves=before.halves,
        failed=before.failed,
        looked_until_us=before.looked_until_us,
        waiting=before.waiting,
        anchored=at.watermark_us is not None,
    )
    frozen = freezes.until(spec.freezes, now_us) is not None
    event = "start_paused" if spec.paused else "start_frozen" if frozen else "start"
    reason = reasons.started(spec, now_us, doubt)
    following, started = follow(following, event, at, now_us, reason, actor=spec.actor, actor_kind="human")
    following, acted = act_on_waiting(following, at)
    return following, [*published, *started, *acted, outputs.progress(following, judge(following), at)]


def _begun(spec: Rollout, effects: Effects) -> dict[str, dict[str, MetricEvidence]]:
    """Evidence before the first stratum, with design effects that stay for the life of the generation."""
    return {
        one.name: {
            metric.name: MetricEvidence.none(
                metric, effects.get(metric.name, ()), margins(metric, spec.steps)
            )
            for metric in spec.metrics
        }
        for one in candidates(spec)
    }


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
    deleted, published = follow(
        deleted, "deleted", at, now_us, reasons.deleted(state.spec), actor="specification", actor_kind="human"
    )
    return deleted, [*published, outputs.progress(deleted, judge(deleted), at)]


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
    following, published = act(state, action, at)
    if following.revision != state.revision or following.approved != state.approved:
        published = [*published, outputs.progress(following, judge(following), at)]
    return following, published


def take_up(state: State, past: Past, at: Position) -> tuple[State, Outputs]:
    """Take up a deployment whose journal is deleted, where it was published to stand.

    Parameters
    ----------
    state
        Of the deployment: what the rest of the journal says of it.
    past
        What was published of it.
    at
        Position in the journal.

    Returns
    -------
    tuple
        The next state, and records to publish. A rollout that had not been decided is held until a person
        decides or applies anew; its revision goes on above the published ones, its weights stay.
    """
    last, spec = past.last, past.spec
    state = replace(state, revision=last.revision)
    if spec is None:
        return state, []
    held = past.state in LIVE
    told = past.progress
    started_us = last.ts if told is None or told.generation != last.generation else told.started_at
    state = replace(
        state,
        spec=spec,
        state="holding" if held else past.state,
        held_for="loss" if held else "",
        deleted=past.deleted,
        step=last.step,
        dropped=past.dropped if held else frozenset(),
        winner=past.winner,
        reason=reasons.state_lost(spec) if held else last.reason,
        started_us=started_us,
        evidence=_begun(spec, past.effects_of(spec.generation)),
    )
    judgements = judge(state)
    now_us = last.ts if at.watermark_us is None else at.watermark_us
    published: Outputs = []
    fired = outputs.alert(state, judgements, last.command_id, now_us)
    known = None if fired is None else past.alerts.get(fired.fingerprint)
    if known is None or known.status == "firing":
        state = replace(state, alert=fired)
    published += [
        alerts.resolved(one, now_us)
        for mark, one in sorted(past.alerts.items())
        if one.status == "firing" and (fired is None or mark != fired.fingerprint)
    ]
    if fired is not None and known is None:
        published.append(fired)
    shown = outputs.progress(state, judgements, at)
    if told is None or _says(told) != _says(shown):
        published.append(shown)
    return state, published


def _says(progress: RolloutProgress) -> tuple[int, int, str, str]:
    held_for_loss = progress.reason if progress.state == "holding" else ""
    return progress.generation, progress.revision, progress.state, held_for_loss


def on_look(
    state: State, pane_end_us: int, strata: Strata, at: Position, halves: Strata | None = None
) -> tuple[State, Outputs]:
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
    halves
        What `halves.halves_of` returned; nothing where units have no hash.

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
    if state.spec is not None and halves:
        same = usual.of(serving(state.spec, state.state, state.winner))
        state = replace(state, halves=state.halves.after(halves, state.spec, same, pane_end_us))
    state, published = expire(state, at)
    if state.spec is None or state.state not in MOVING:
        return state, published
    if state.state in LIVE:
        state = take(anchored(state, strata), strata, usual)
    state = replace(state, looks=state.looks + 1)
    judgements = judge(state)
    now_us = pane_end_us if at.watermark_us is None else at.watermark_us
    while finding := finding_of(state, judgements, pane_end_us):
        reason = reasons.of_look(finding, state, judgements, pane_end_us)
        state, decided = follow(state, finding.event, at, now_us, reason, finding.about)
        published += decided
        if finding.event != "warm":
            break
    else:
        warms_up = state.state == "initialising" and state.started_us is not None and state.anchored
        if warms_up or state.state == "progressing":
            state = replace(state, reason=reasons.waiting(state, judgements))
    return state, [*published, outputs.progress(state, judgements, at)]
