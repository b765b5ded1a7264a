"""What a look finds: the one event, if any, that the present state and its evidence call for."""

import math
from collections.abc import Mapping

from tidegate_streams import users
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import freezes, silence, verdicts
from tidegate_streams.rollouts.outputs import candidate
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.verdicts import Judgement


def judge(state: State) -> Judgement:
    """Say what the evidence so far amounts to."""
    spec = state.plan
    silent = frozenset(m.name for m in spec.metrics if silence.of(m, state.silence, state.totals))
    return verdicts.judge(spec.metrics, state.evidence, spec.alpha_rollback, spec.alpha_promotion, silent)


def event_of(state: State, judgement: Judgement, pane_end_us: int) -> str | None:
    """What a look finds. Harm comes first: when harm and safety are found at once, traffic goes back."""
    spec = state.plan
    if state.state in ("promoting", "rolling_back"):
        return "settled" if pane_end_us > state.settled_us else None
    frozen = freezes.until(spec.freezes, pane_end_us) is not None
    if state.started_us is None:
        return "thawed" if state.held_for == "freeze" and not frozen else None
    if judgement.harmful:
        return "harm"
    warm = pane_end_us - PANE_US >= state.settled_us
    if state.state == "initialising":
        if warm and state.anchored:
            return "warm"
        return _overdue(state, judgement, frozen) if _is_overdue(state, pane_end_us) else None
    if is_uneven(state) and (state.state == "progressing" or state.held_for == "approval"):
        return "uneven"
    gated = spec.steps[state.step].approval and not _is_approved(state, pane_end_us)
    if state.state == "holding" and (state.held_for != "approval" or gated):
        return None
    if warm and not judgement.suspects and is_exposed(state) and is_baked(state, pane_end_us):
        last = state.step == len(spec.steps) - 1
        end = STRATEGIES[spec.strategy].end if last else "exposed"
        complete = not last or (_may_end(end, state, judgement) and is_exposed_in_all(state))
        if complete and gated:
            return "unapproved"
        if complete and not frozen:
            return end
    if state.state == "progressing" and _is_overdue(state, pane_end_us):
        return _overdue(state, judgement, frozen)
    return None


def _overdue(state: State, judgement: Judgement, frozen: bool) -> str | None:
    """What an inconclusive end means; whoever asked for promotion did not ask for it without data."""
    spec = state.plan
    if spec.on_inconclusive != "promote":
        return f"overdue_{spec.on_inconclusive}"
    exposed = state.state == "progressing" and is_exposed_in_all(state)
    if _is_seen(state, judgement) and exposed and not judgement.suspects:
        return None if frozen else "overdue_promote"
    return "overdue_hold"


def _may_end(end: str, state: State, judgement: Judgement) -> bool:
    if end == "unharmed":
        return _is_seen(state, judgement)
    return judgement.safe and (end != "better" or bool(better(state)))


def better(state: State) -> list[str]:
    """Metrics in which the candidate is better: all of them truly, with probability 1 - alpha_promotion."""
    spec = state.plan
    guards = [metric for metric in spec.metrics if not metric.muted]
    alpha = spec.alpha_promotion / len(guards)
    return [m.name for m in guards if verdicts.is_better(m, state.evidence[m.name], alpha)]


def _is_seen(state: State, judgement: Judgement) -> bool:
    """Whether every metric that has effect is observed, and says something."""
    guards = (metric.name for metric in state.plan.metrics if not metric.muted)
    return all(judgement.verdicts[name] in ("pass", "inconclusive") for name in guards)


def is_uneven(state: State) -> bool:
    """Whether users did not fall to the variants as they were asked to, beyond doubt."""
    return state.split.log_e >= math.log(1 / state.plan.alpha_srm)


def is_exposed(state: State) -> bool:
    """Whether the present step has served as much as it asks for; users only where they are reported."""
    spec = state.plan
    step = spec.steps[state.step]
    calls = state.step_calls.get(candidate(spec).name, 0)
    return calls >= step.min_calls and _enough_users(state.step_users, step.min_units)


def is_baked(state: State, now_us: int) -> bool:
    """Whether the present step has lasted as long as it must."""
    return now_us - state.step_clock_us >= state.plan.steps[state.step].min_duration_us


def is_exposed_in_all(state: State) -> bool:
    """Whether all steps together have served as much as the rollout asks for."""
    spec = state.plan
    total = state.totals.get(candidate(spec).name, VariantPane())
    return total.calls >= spec.min_calls and _enough_users(total.users, spec.min_units)


def _enough_users(sketch: Mapping[int, int], least: int) -> bool:
    return not sketch or users.estimate(list(sketch.values())) >= least


def _is_approved(state: State, now_us: int) -> bool:
    if state.step not in state.approved:
        return False
    until_us = state.approved[state.step]
    return until_us is None or now_us < until_us


def _is_overdue(state: State, now_us: int) -> bool:
    spec = state.plan
    step_us = spec.steps[state.step].max_duration_us
    return _elapsed_us(state, state.clock_us, now_us) >= spec.max_duration_us or (
        step_us is not None and _elapsed_us(state, state.step_clock_us, now_us) >= step_us
    )


def _elapsed_us(state: State, since_us: int, now_us: int) -> int:
    return freezes.unfrozen_us(state.plan.freezes, since_us, now_us)
