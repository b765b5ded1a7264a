"""What a look finds: the one event, if any, that the present state and its evidence call for."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from tidegate_streams import users
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import freezes, silence, verdicts
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.variants import alphas, baseline, candidates
from tidegate_streams.rollouts.verdicts import Judgement, Judgements


class Finding(NamedTuple):
    """The one event that a look calls for.

    Parameters
    ----------
    event
        Of the table of transitions.
    about
        The candidates that it is about: to give up, to promote, or whose step is left.
    """

    event: str
    about: tuple[str, ...] = ()


def judge(state: State) -> Judgements:
    """Say what the evidence so far amounts to, of each candidate at its part of the errors."""
    spec, base, alpha = state.plan, baseline(state.plan).name, alphas(state.plan)

    def silent(new: str) -> frozenset[str]:
        pair = base, new
        return frozenset(m.name for m in spec.metrics if silence.of(m, state.silence, state.totals, pair))

    return {
        one.name: verdicts.judge(
            spec.metrics, state.evidence[one.name], alpha.rollback, alpha.promotion, silent(one.name)
        )
        for one in candidates(spec)
    }


def finding_of(state: State, judgements: Judgements, pane_end_us: int) -> Finding | None:
    """What a look finds. Harm comes first: when harm and safety are found at once, traffic goes back."""
    spec = state.plan
    if state.state in ("promoting", "rolling_back"):
        return Finding("settled") if pane_end_us > state.settled_us else None
    frozen = freezes.until(spec.freezes, pane_end_us) is not None
    if state.started_us is None:
        return Finding("thawed") if state.held_for == "freeze" and not frozen else None
    tried = {new: judgements[new] for new in state.tried}
    if harmful := tuple(new for new in tried if tried[new].harmful):
        return Finding("harm" if len(harmful) == len(tried) else "dropped", harmful)
    warm = pane_end_us - PANE_US >= state.settled_us
    if state.state == "initialising":
        if warm and state.anchored:
            return Finding("warm")
        return _overdue(state, tried, frozen) if _is_overdue(state, pane_end_us) else None
    if is_uneven(state) and (state.state == "progressing" or state.held_for == "approval"):
        return Finding("uneven")
    gated = spec.steps[state.step].approval and not _is_approved(state, pane_end_us)
    if state.state == "holding" and (state.held_for != "approval" or gated):
        return None
    if warm and is_baked(state, pane_end_us) and (done := _done(state, tried)):
        if gated:
            return Finding("unapproved", done)
        if not frozen:
            last = state.step == len(spec.steps) - 1
            return Finding(STRATEGIES[spec.strategy].end if last else "exposed", done[:1])
    if state.state == "progressing" and _is_overdue(state, pane_end_us):
        return _overdue(state, tried, frozen)
    return None


def _done(state: State, tried: Judgements) -> tuple[str, ...]:
    """Candidates that have done what the present step asks for, the best of them first."""
    spec = state.plan
    done = [new for new, found in tried.items() if not found.suspects and is_exposed(state, new)]
    if state.step == len(spec.steps) - 1:
        end = STRATEGIES[spec.strategy].end
        done = [
            new for new in done if _may_end(end, state, new, tried[new]) and is_exposed_in_all(state, new)
        ]
    if len(done) > 1:
        # All of them may be promoted; the one whose whole interval lies farthest on the good side is.
        done.sort(key=lambda new: min(better(state, new).values(), default=1.0))
    return tuple(done)


def _overdue(state: State, tried: Judgements, frozen: bool) -> Finding | None:
    """What an inconclusive end means; whoever asked for promotion did not ask for it without data."""
    spec = state.plan
    if spec.on_inconclusive != "promote":
        return Finding(f"overdue_{spec.on_inconclusive}", tuple(tried))
    (new,) = tried
    exposed = state.state == "progressing" and is_exposed_in_all(state, new)
    if _is_seen(state, tried[new]) and exposed and not tried[new].suspects:
        return None if frozen else Finding("overdue_promote", (new,))
    return Finding("overdue_hold", (new,))


def _may_end(end: str, state: State, new: str, judgement: Judgement) -> bool:
    if end == "unharmed":
        return _is_seen(state, judgement)
    return judgement.safe and (end != "better" or bool(better(state, new)))


def better(state: State, new: str) -> dict[str, float]:
    """Metrics in which a candidate is better, and how much at least: the upper end of its odds ratio.

    All of them are truly better, of all candidates, with probability 1 - alpha_promotion.
    """
    spec = state.plan
    guards = [metric for metric in spec.metrics if not metric.muted]
    alpha = alphas(spec).promotion / len(guards)
    ends = {m.name: verdicts.highest(m, state.evidence[new][m.name], alpha) for m in guards}
    return {name: end for name, end in ends.items() if end is not None and end < 1}


def _is_seen(state: State, judgement: Judgement) -> bool:
    """Whether every metric that has effect is observed, and says something."""
    guards = (metric.name for metric in state.plan.metrics if not metric.muted)
    return all(judgement.verdicts[name] in ("pass", "inconclusive") for name in guards)


def is_uneven(state: State) -> bool:
    """Whether users did not fall to the variants as they were asked to, beyond doubt."""
    return state.split.log_e >= math.log(1 / state.plan.alpha_srm)


def is_exposed(state: State, new: str) -> bool:
    """Whether the present step has served as much of a candidate as it asks for.

    Users count only where they are reported.
    """
    step = state.plan.steps[state.step]
    users_of = state.step_users.get(new, {})
    return state.step_calls.get(new, 0) >= step.min_calls and _enough_users(users_of, step.min_units)


def is_baked(state: State, now_us: int) -> bool:
    """Whether the present step has lasted as long as it must."""
    return now_us - state.step_clock_us >= state.plan.steps[state.step].min_duration_us


def is_exposed_in_all(state: State, new: str) -> bool:
    """Whether all steps together have served as much of a candidate as the rollout asks for."""
    spec = state.plan
    total = state.totals.get(new, VariantPane())
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
