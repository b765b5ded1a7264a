"""What the strata of a look add to the state: evidence, exposure, silence and the check of the split."""

from dataclasses import replace

from tidegate_streams.rollouts import comparing, silence
from tidegate_streams.rollouts.reference import Reference
from tidegate_streams.rollouts.state import Counting, State
from tidegate_streams.rollouts.strata import Strata, VariantPane, largest
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.tolerance import in_step
from tidegate_streams.rollouts.variants import baseline, served_bp


def anchored(state: State, strata: Strata) -> State:
    """Move a start that was dated before the first watermark to the time of the first calls that obey it.

    The specification's own time is a wall clock's, and a replay of last year runs in last year's time.

    Parameters
    ----------
    state
        Of the deployment.
    strata
        Of the look.
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
    return state.revisions.get(state.revision if state.plan.dry_run else revision)


def take(state: State, strata: Strata, usual: Reference) -> State:
    """Add the strata of a look.

    Parameters
    ----------
    state
        Of a deployment whose rollout is under way.
    strata
        Of the look. Those of other generations, and of a warm-up, are left out.
    usual
        The past hour before the look: thresholds and the sizes of stakes come from it.
    """
    spec, base = state.plan, baseline(state.plan).name
    reference = usual.of(base)
    for stratum in sorted(strata, key=lambda one: (one.revision or 0, one.pane_us, one.is_late)):
        counting = _counting(state, stratum.revision)
        if counting is None or stratum.pane_us < counting.from_us:
            continue
        panes = {one.name: strata[stratum].get(one.name, VariantPane()) for one in spec.variants}
        added = {
            new: {
                metric.name: comparing.after(
                    state.evidence[new][metric.name],
                    in_step(metric, spec.steps[counting.step]),
                    panes[base],
                    panes[new],
                    reference,
                )
                for metric in spec.metrics
            }
            for new in state.tried
        }
        state = replace(
            state,
            evidence={**state.evidence, **added},
            silence=silence.after(state.silence, spec.metrics, panes),
            totals={
                **state.totals,
                **{
                    name: state.totals.get(name, VariantPane()) + panes[name] for name in (base, *state.tried)
                },
            },
        )
        is_split = not spec.dry_run and STRATEGIES[spec.strategy].serves
        if is_split and spec.assignment_unit != "tenant":
            asked = served_bp(spec, counting.step, counting.dropped)
            state = replace(state, split=state.split.after(panes, asked))
        if counting.step == state.step:
            state = replace(
                state,
                step_calls={name: state.step_calls.get(name, 0) + pane.calls for name, pane in panes.items()},
                step_users={
                    new: largest(state.step_users.get(new, {}), panes[new].users) for new in state.evidence
                },
            )
    return state
