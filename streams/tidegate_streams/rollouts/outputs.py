"""The records that the machine writes: commands, progress, alerts and refusals."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from tidegate import topics
from tidegate.records import (
    Alert,
    DecisionMetric,
    DeploymentCommand,
    DeploymentStatus,
    Evidence,
    Exposure,
    KeyValue,
    Rollout,
    RolloutProgress,
    SourceOffset,
    Variant,
    Weight,
)
from tidegate_streams import alerts, histogram, users
from tidegate_streams.rollouts import outlook, silence, words
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.transitions import LIVE
from tidegate_streams.rollouts.verdicts import (
    HISTOGRAM_SCALE,
    Comparison,
    Judgement,
    MetricEvidence,
    comparisons,
)
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.exceedances import ZERO
from tidegate_streams.statistics.margins import SMALLEST_REFERENCE

CONTROLLER = "tidegate"
"""Who decided, when no person did."""

_IDS = uuid.UUID("6f0c8f0e-2d0a-5c6e-9a57-7c1f3a1f6c11")
"""Namespace of command ids; never change it: applied commands are recognised by their id."""

FULL_BP = 10_000

_HELD_US = 60_000_000

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


def baseline(spec: Rollout) -> Variant:
    """Return the variant that traffic goes back to."""
    return next(variant for variant in spec.variants if variant.role == "baseline")


def candidate(spec: Rollout) -> Variant:
    """Return the variant that is tried."""
    return next(variant for variant in spec.variants if variant.role == "candidate")


def named(state: State) -> str:
    """Name the rollout, so that a person finds it."""
    return f"{state.plan.name} (generation {state.plan.generation})"


def identity(variant: Variant) -> str:
    """Return what a variant is, whatever its role; of two with one name that differ in it, two."""
    definition = asdict(variant)
    return " ".join(f"{key}={value}" for key, value in definition.items() if key != "role" and value)


def candidate_bp(state: State) -> tuple[int, int]:
    """Share of the candidate that the present state wants, served and mirrored, in basis points."""
    serves = STRATEGIES[state.plan.strategy].serves
    if state.state in ("promoting", "succeeded"):
        return (FULL_BP if serves else 0), 0
    if state.state in ("rolling_back", "rolled_back", "aborted") or state.started_us is None:
        return 0, 0
    step = state.plan.steps[state.step]
    return step.weight_bp, step.mirror_bp


def weights(state: State) -> list[Weight]:
    """Shares and definitions of both variants; they sum to 10,000."""
    share, mirrored = candidate_bp(state)
    return [
        Weight(
            variant=variant.name,
            weight_bp=share if variant.role == "candidate" else FULL_BP - share,
            mirror_bp=mirrored if variant.role == "candidate" else 0,
            **{key: value for key, value in asdict(variant).items() if key != "name"},
        )
        for variant in state.plan.variants
    ]


def command(
    state: State, action: str, judgement: Judgement, at: Position, ts_us: int, *, actor: str, actor_kind: str
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
        evidence=evidence(state, judgement),
        offsets=[SourceOffset(topic=topics.PARTIALS, partition=at.partition, offset=at.offset)],
        watermark=at.watermark_us,
        ts=ts_us,
    )


def progress(state: State, judgement: Judgement, at: Position) -> RolloutProgress:
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
        evidence=evidence(state, judgement),
        started_at=state.started_us,
        watermark=at.watermark_us,
        looks=state.looks,
        version=at.offset,
        partition=at.partition,
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


def alert(state: State, judgement: Judgement, cause_id: str, ts_us: int) -> Alert | None:
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
    found = [row.sentence for row in evidence(state, judgement)]
    annotations = {"summary": state.reason, "description": "\n".join(found)}
    threshold = 1 / (spec.alpha_promotion if state.state == "promoting" else spec.alpha_rollback)
    harmful = state.state == "rolling_back" and judgement.harmful
    return Alert(
        fingerprint=alerts.fingerprint(labels),
        status="firing",
        rule=rule,
        rule_hash=alerts.fingerprint({"rule": rule, "threshold": str(threshold)}),
        severity=severity,
        labels=_pairs(labels),
        annotations=_pairs(annotations),
        starts_at=ts_us,
        value=math.exp(min(judgement.log_e, 700.0)) if harmful else None,
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


def evidence(state: State, judgement: Judgement) -> list[Evidence]:
    """Return what each metric says, a row a metric."""
    spec = state.plan
    goes_on = state.state in LIVE and not judgement.harmful
    return [
        _row(state, spec, metric, state.evidence[metric.name], judgement.verdicts[metric.name], goes_on)
        for metric in spec.metrics
    ]


def _row(
    state: State, spec: Rollout, metric: DecisionMetric, found: MetricEvidence, verdict: str, goes_on: bool
) -> Evidence:
    tests = comparisons(metric)
    i = found.strongest
    level, counts, curve = tests[i].quantile, found.counts[i], found.curves[i]
    judged = counts.n_baseline > 0 and counts.n_candidate > 0
    low, high = emix.interval(curve, spec.alpha_promotion) if judged else (None, None)
    values = {
        variant.name: _value(metric, state.totals.get(variant.name, VariantPane()), level)
        for variant in spec.variants
    }
    base, new = baseline(spec).name, candidate(spec).name
    log_e_rollback = found.log_e_rollback if judged else None
    quiet = silence.of(metric, state.silence, state.totals) if verdict == "error" else None
    return Evidence(
        metric=metric.name,
        candidate=new,
        verdict=verdict,
        n_baseline=counts.n_baseline,
        n_candidate=counts.n_candidate,
        events_baseline=counts.k_baseline if judged else None,
        events_candidate=counts.k_candidate if judged else None,
        value_baseline=values[base],
        value_candidate=values[new],
        estimate=emix.estimate(curve) if judged else None,
        ci_low=low,
        ci_high=high,
        unit="odds_ratio",
        log_e_rollback=log_e_rollback,
        log_e_promotion=found.log_e_promotion if judged else None,
        margin_kind=metric.margin_kind,
        rollback_margin=metric.rollback_margin,
        promotion_margin=metric.promotion_margin,
        alpha_rollback=spec.alpha_rollback,
        alpha_promotion=spec.alpha_promotion,
        alpha_spent=None if log_e_rollback is None else min(1.0, math.exp(-max(log_e_rollback, 0.0))),
        muted=metric.muted,
        sentence=_sentence(state, metric, found, i, verdict, values, goes_on)
        if quiet is None
        else words.silent(metric, quiet, state.silence[metric.name][quiet]),
    )


def _sentence(
    state: State,
    metric: DecisionMetric,
    found: MetricEvidence,
    i: int,
    verdict: str,
    values: Mapping[str, float | None],
    goes_on: bool,
) -> str:
    spec = state.plan
    base, new = baseline(spec).name, candidate(spec).name
    counts, test = found.counts[i], comparisons(metric)[i]
    if verdict in ("error", "skipped"):
        failed = found.failed_baseline + found.failed_candidate
        failures = f"{failed:,} measurements failed, and " if verdict == "error" else ""
        missing = _missing(metric, counts, base, new)
        return f"{metric.name}: {failures}{missing}{_awaited(state, metric, test, counts)}."
    beyond = None
    if test.quantile is not None:
        at = words.level(test.quantile)
        beyond = f"{'above' if test.direction > 0 else 'below'} the usual {at} of {base}"
    text = words.finding(metric, counts, base, new, beyond)
    value_b, value_c = values[base], values[new]
    if test.quantile is not None and value_b is not None and value_c is not None:
        text += (
            f" ({at}: {words.quantity(metric.name, value_c)} against {words.quantity(metric.name, value_b)})"
        )
    without = "it would have rolled back" if verdict == "fail" else "no effect"
    muted = f" (muted: {without})" if metric.muted else ""
    if verdict == "inconclusive" and found.is_eventless and metric.margin_kind != "absolute":
        return f"{text}; {words.eventless(metric)}{muted}."
    text += f"; {words.conclusion(metric, verdict, found.log_e_rollback)}"
    forecast = outlook.ahead(spec, metric, found) if goes_on and verdict == "inconclusive" else ""
    return f"{text}; {forecast}{muted}." if forecast else f"{text}{muted}."


def _missing(metric: DecisionMetric, counts: emix.Counts, base: str, new: str) -> str:
    noun, least = words.units(metric.name), max(metric.min_n, 1)
    missing = [
        f"{n:,} of {least:,} {noun} of {name}" if n else f"no {noun} of {name}"
        for n, name in ((counts.n_baseline, base), (counts.n_candidate, new))
        if n < least
    ]
    return f"{words.joined(missing)} to compare so far"


def _awaited(state: State, metric: DecisionMetric, test: Comparison, counts: emix.Counts) -> str:
    """What nothing counts before: what is usual for the baseline, which a margin or a quantile is held to."""
    base = baseline(state.plan).name
    usual = state.reference.of(base)
    if test.level is not None:
        seen = sum(usual.histograms.get(metric.name, {}).values())
        least = math.ceil(round(1 / min(test.level, 1 - test.level), 6))
    else:
        seen, _ = usual.rates.get(metric.name, (0, 0))
        least = 0 if metric.margin_kind == "odds" else SMALLEST_REFERENCE
    if counts.n_baseline or seen >= least:
        return ""
    noun = words.units(metric.name)
    return f"; what is usual for {base} is known after {least:,} {noun}, and {seen:,} are seen"


def _value(metric: DecisionMetric, total: VariantPane, level: float | None) -> float | None:
    if level is None:
        n, bad = total.rates.get(metric.name, (0, 0))
        return bad / n if n else None
    counts = total.histograms.get(metric.name)
    if not counts:
        return None
    indexes = sorted(index for index in counts if index != ZERO)
    value = histogram.quantiles(
        level, np.array(indexes), np.array([counts[index] for index in indexes]), zeros=counts.get(ZERO, 0)
    )
    return float(value[0]) / HISTOGRAM_SCALE.get(metric.name, 1.0)


def _pairs(values: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value) for key, value in sorted(values.items())]
