"""The records that the machine writes: commands, progress, alerts and refusals."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tidegate import topics
from tidegate.records import (
    Alert,
    DeploymentCommand,
    DeploymentStatus,
    Exposure,
    KeyValue,
    RolloutProgress,
    SourceOffset,
    Weight,
)
from tidegate_streams import alerts, users
from tidegate_streams.rollouts import evidence
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.variants import FULL_BP, alphas, baseline, each_bp, served_bp
from tidegate_streams.rollouts.verdicts import Judgements

CONTROLLER = "tidegate"
"""Who decided, when no person did."""

_IDS = uuid.UUID("6f0c8f0e-2d0a-5c6e-9a57-7c1f3a1f6c11")
"""Namespace of command ids; never change it: applied commands are recognised by their id."""

_HELD_US = 60_000_000

_BACK = ("promoting", "succeeded", "rolling_back", "rolled_back", "aborted")
"""States in which no candidate has a share of its step; the winner of the first two has everything."""

ALERTS = {
    "holding": ("rollout_held", "warning"),
    "rolling_back": ("rollout_rolled_back", "critical"),
    "promoting": ("rollout_promoted", "info"),
}
"""State -> the rule that fires while it lasts, and its severity. What a person paused is no alert."""

ALERTS_HELD_FOR = {"loss": ("rollout_state_lost", "critical"), "split": ("rollout_split_uneven", "error")}
"""What it is held for -> the rule that fires instead, and its severity."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the journal the machine stands, and how far event time has come.

    Parameters
    ----------
    partition, offset
        Of the journal's message that causes the step.
    watermark_us
        Event time in microseconds; None before the first.
    """

    partition: int
    offset: int
    watermark_us: int | None


def named(state: State) -> str:
    """Name the rollout, so that a person finds it."""
    return f"{state.plan.name} (generation {state.plan.generation})"


def weights(state: State) -> list[Weight]:
    """Shares and definitions of all variants that the present state wants; shares sum to 10,000."""
    served, mirrored = _shares(state)
    return [
        Weight(
            variant=variant.name,
            weight_bp=served[variant.name],
            mirror_bp=mirrored.get(variant.name, 0),
            **{key: value for key, value in asdict(variant).items() if key != "name"},
        )
        for variant in state.plan.variants
    ]


def _shares(state: State) -> tuple[dict[str, int], dict[str, int]]:
    """Variant -> share that it serves, and share of the traffic that it gets copies of, in basis points."""
    spec = state.plan
    serves = STRATEGIES[spec.strategy].serves
    everything = baseline(spec).name
    if state.state in ("promoting", "succeeded") and serves:
        everything = state.winner
    elif state.state not in _BACK and state.started_us is not None:
        mirrored = {} if serves else {one: each_bp(spec, state.step) for one in state.tried}
        return served_bp(spec, state.step, state.dropped), mirrored
    return {variant.name: FULL_BP * (variant.name == everything) for variant in spec.variants}, {}


def command(
    state: State,
    action: str,
    judgements: Judgements,
    at: Position,
    ts_us: int,
    *,
    actor: str,
    actor_kind: str,
) -> DeploymentCommand:
    """Full desired state of the deployment, with its evidence."""
    spec = state.plan
    identity = f"{state.key}\n{spec.generation}\n{state.revision}"
    return DeploymentCommand(
        command_id=str(uuid.uuid5(_IDS, identity)),
        tenant=spec.tenant,
        environment=spec.environment,
        deployment=spec.deployment,
        rollout=spec.name,
        generation=spec.generation,
        revision=state.revision,
        previous_revision=state.revision - 1 or None,
        action=action,
        state=state.state,
        step=state.step,
        assignment_unit=spec.assignment_unit,
        salt=spec.salt,
        weights=weights(state),
        dry_run=spec.dry_run,
        reason=state.reason,
        actor=actor,
        actor_kind=actor_kind,
        evidence=evidence.rows(state, judgements),
        offsets=[SourceOffset(topic=topics.PARTIALS, partition=at.partition, offset=at.offset)],
        watermark=at.watermark_us,
        ts=ts_us,
    )


def progress(state: State, judgements: Judgements, at: Position) -> RolloutProgress:
    """Where the rollout stands."""
    spec = state.plan
    return RolloutProgress(
        tenant=spec.tenant,
        environment=spec.environment,
        deployment=spec.deployment,
        rollout=spec.name,
        generation=spec.generation,
        revision=state.revision,
        state=state.state,
        step=state.step,
        steps=len(spec.steps),
        paused=state.held_for == "person",
        reason=state.reason,
        weights=weights(state),
        exposure=[_exposure(state, variant.name) for variant in spec.variants],
        evidence=evidence.rows(state, judgements),
        started_at=state.started_us,
        watermark=at.watermark_us,
        looks=state.looks,
        version=at.offset,
        partition=at.partition,
        self_tests=sum(state.halves.tests.values()),
        self_alarms=sum(state.halves.alarms.values()),
    )


def is_news(told: RolloutProgress | None, present: RolloutProgress) -> bool:
    """Whether readers need to be told where a rollout stands.

    While a rollout is held, which may last for weeks, its counts are told once a minute, and only if they
    have changed; what it is held for, and every verdict, at once.
    """
    held = present.state == "holding" or present.paused
    if told is None or not held or told.watermark is None or present.watermark is None:
        return True
    if _gist(told) != _gist(present):
        return True
    if (told.exposure, told.evidence) == (present.exposure, present.evidence):
        return False
    return present.watermark - told.watermark >= _HELD_US


def _gist(progress: RolloutProgress) -> tuple[object, ...]:
    return (
        progress.generation,
        progress.revision,
        progress.state,
        progress.reason,
        progress.paused,
        [(row.metric, row.verdict) for row in progress.evidence],
    )


def _exposure(state: State, variant: str) -> Exposure:
    total = state.totals.get(variant, VariantPane())
    return Exposure(
        variant=variant,
        calls=total.calls,
        calls_step=state.step_calls.get(variant, 0),
        units=users.estimate(list(total.users.values())) if total.users else None,
    )


def alert(state: State, judgements: Judgements, cause_id: str, ts_us: int) -> Alert | None:
    """Return the alert that the present state fires; None for a state that is nobody's business."""
    if state.state not in ALERTS or state.held_for == "person":
        return None
    spec = state.plan
    rule, severity = ALERTS_HELD_FOR.get(state.held_for) or ALERTS[state.state]
    labels = {
        "rule": rule,
        "tenant": spec.tenant,
        "environment": spec.environment,
        "deployment": spec.deployment,
        "rollout": spec.name,
        "generation": str(spec.generation),
    }
    found = [row.sentence for row in evidence.rows(state, judgements)]
    annotations = {"summary": state.reason, "description": "\n".join(found)}
    alpha = alphas(spec)
    threshold = 1 / (alpha.promotion if state.state == "promoting" else alpha.rollback)
    log_e = max(judgements[one].log_e for one in state.tried)
    harmful = state.state == "rolling_back" and any(judgements[one].harmful for one in state.tried)
    return Alert(
        fingerprint=alerts.fingerprint(labels),
        status="firing",
        rule=rule,
        rule_hash=alerts.fingerprint({"rule": rule, "threshold": str(threshold)}),
        severity=severity,
        labels=_pairs(labels),
        annotations=_pairs(annotations),
        starts_at=ts_us,
        value=math.exp(min(log_e, 700.0)) if harmful else None,
        threshold=threshold if harmful else None,
        unit="e-value" if harmful else None,
        cause_id=cause_id,
        sequence=0,
        tenant=spec.tenant,
        ts=ts_us,
        dry_run=spec.dry_run,
    )


def refusal(state: State, what_id: str, status: str, detail: str, ts_us: int) -> DeploymentStatus:
    """Answer to a specification or an action that was not carried out."""
    # An action's key is what somebody wrote; a malformed one is refused like any other.
    tenant, environment, deployment = [*state.key.split("/", 2), "", ""][:3]
    return DeploymentStatus(
        command_id=what_id,
        tenant=tenant,
        environment=environment,
        deployment=deployment,
        revision=0,
        applier=CONTROLLER,
        status=status,
        detail=detail,
        ts=ts_us,
    )


def _pairs(values: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value) for key, value in sorted(values.items())]
