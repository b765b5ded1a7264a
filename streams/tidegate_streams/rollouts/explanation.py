"""Where a rollout stands and what it would take to promote it, from the records that say so."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from tidegate.records import DecisionMetric, Evidence, Rollout, RolloutProgress
from tidegate_infra.cli.output import table
from tidegate_infra.cli.rollout_view import ENDED, legend, odds, shown, weights_text
from tidegate_streams.rollouts import freezes, words
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.variants import baseline, candidates, each_bp
from tidegate_streams.statistics.intervals import restated


class Condition(NamedTuple):
    """Something that must be so before the candidate is promoted.

    Parameters
    ----------
    text
        What, with the figures.
    met
        Whether it is so.
    """

    text: str
    met: bool


def explained(spec: Rollout, progress: RolloutProgress | None) -> dict[str, Any]:
    """Return what `rollout show` does, and all conditions of a promotion.

    Parameters
    ----------
    spec
        The specification in force.
    progress
        Where its rollout stands; None before the stream has taken it up.
    """
    current = progress if progress and progress.generation == spec.generation else None
    return shown(spec, progress) | {
        "to_promote": [
            {"candidate": new} | one._asdict()
            for new in tried(spec, current)
            for one in conditions(spec, current, new)
        ]
        if current
        else [],
        "forced": spec.force,
        "alpha": {"rollback": spec.alpha_rollback, "promotion": spec.alpha_promotion},
        "self": {"tests": current.self_tests, "alarms": current.self_alarms} if current else None,
    }


def conditions(spec: Rollout, progress: RolloutProgress, new: str) -> list[Condition]:
    """List what must be so before a candidate is promoted; nothing when the rollout has ended."""
    if progress.state in ENDED:
        return []
    parts = _served, _certain, _better
    return [*_held(spec, progress), *(one for part in parts for one in part(spec, progress, new))]


def tried(spec: Rollout, progress: RolloutProgress) -> list[str]:
    """Name the candidates that may still be promoted: those that were given up have no share any more."""
    names = [one.name for one in candidates(spec)]
    shares = {one.variant: one.weight_bp + one.mirror_bp for one in progress.weights}
    sharing = [name for name in names if shares.get(name)]
    return sharing or names


def _held(spec: Rollout, progress: RolloutProgress) -> Iterator[Condition]:
    if progress.state == "holding":
        lets_go = "resume lets it go on" if progress.paused else "the reason above says what lets it go on"
        yield Condition(f"it is no longer held: {lets_go}", met=False)
    thaws_us = None if progress.watermark is None else freezes.until(spec.freezes, progress.watermark)
    if thaws_us is not None:
        yield Condition(f"the freeze is over: {words.moment(thaws_us)}", met=False)
    gates = [i for i, step in enumerate(spec.steps) if step.approval and i >= progress.step]
    if gates:
        steps = words.joined([str(i + 1) for i in gates])
        yield Condition(f"somebody approves the end of step {steps}", met=False)


def _served(spec: Rollout, progress: RolloutProgress, new: str) -> Iterator[Condition]:
    step = spec.steps[progress.step]
    served = {one.variant: one for one in progress.exposure}
    here = served[new].calls_step if new in served else 0
    total, units = (served[new].calls, served[new].units) if new in served else (0, None)
    yield from _at_least(f"step {progress.step + 1} has served", here, step.min_calls, f"calls of {new}")
    yield from _at_least("all steps have served", total, spec.min_calls, f"calls of {new}")
    if units is not None:
        yield from _at_least("all steps have served", units, spec.min_units, f"users of {new}")
    for i in range(progress.step + 1, len(spec.steps)):
        share = words.weight(each_bp(spec, i))
        least = f" with {spec.steps[i].min_calls:,} calls of {new}" if spec.steps[i].min_calls else ""
        lasts_us = spec.steps[i].min_duration_us
        lasting = f", at least {words.duration(lasts_us)}" if lasts_us else ""
        yield Condition(f"step {i + 1} of {len(spec.steps)} is done: {share}{least}{lasting}", met=False)


def _at_least(what: str, have: int, least: int, of: str) -> Iterator[Condition]:
    if least:
        yield Condition(f"{what} {have:,} of {least:,} {of}", have >= least)


def _certain(spec: Rollout, progress: RolloutProgress, new: str) -> Iterator[Condition]:
    found = {row.metric: row for row in progress.evidence if row.candidate == new}
    for metric in spec.metrics:
        row = found.get(metric.name)
        if metric.muted or row is None:
            continue
        excluded = 1 / row.alpha_promotion
        harm = _e_value(row.log_e_rollback)
        if harm >= excluded:
            limit = f"its e-value for harm is {harm:,.3g}, and below {excluded:g} a step may end"
            yield Condition(f"{metric.name} no longer looks harmful: {limit}", met=False)
        if STRATEGIES[spec.strategy].end == "unharmed":
            yield Condition(f"{metric.name} is observed", row.verdict in ("pass", "inconclusive"))
        else:
            yield _excluded(metric, row, excluded)


def _better(spec: Rollout, progress: RolloutProgress, new: str) -> Iterator[Condition]:
    if STRATEGIES[spec.strategy].end == "better":
        guards = [row for row in progress.evidence if not row.muted and row.candidate == new]
        alpha = words.share(guards[0].alpha_promotion / len(guards))
        yield Condition(
            f"{new} is better beyond doubt in something: a whole interval below 1, at {alpha}",
            met=any(row.ci_high is not None and row.ci_high < 1 for row in guards),
        )


def _excluded(metric: DecisionMetric, row: Evidence, excluded: float) -> Condition:
    least = f"; with at least {metric.min_n:,} {words.units(metric.name)} of each" if metric.min_n else ""
    margin, e_value = words.margin(metric, metric.promotion_margin), _e_value(row.log_e_promotion)
    return Condition(
        f"harm of {metric.name} beyond {margin} is excluded: the e-value against it is {e_value:,.3g}, of "
        f"{excluded:g} that it takes{least}",
        row.verdict == "pass",
    )


def _e_value(log_e: float | None) -> float:
    return 1.0 if log_e is None else math.exp(min(log_e, 700.0))


def lines(spec: Rollout, progress: RolloutProgress | None) -> list[str]:
    """Return the explanation as a person reads it."""
    view = explained(spec, progress)
    said = [
        f"rollout     {view['name']}  ({view['tenant']}/{view['environment']}/{view['deployment']})",
        f"state       {view['state']}: {view['reason']}",
        f"weights     {weights_text(view['weights'])}",
    ]
    if spec.force:
        # What was foretold stands in the reason of the first command, which later ones replace.
        said.append(
            "forced      taken whether or not it can decide in "
            f"{words.duration(spec.max_duration_us)}; its start says why it might not: "
            f"tidegate rollout history {view['name']}"
        )
    if progress is None or not view["metrics"]:
        return said
    said += ["", "Evidence", *(f"  {metric['sentence']}" for metric in view["metrics"])]
    several = len(candidates(spec)) > 1
    rows = [_numbers(metric, several=several) for metric in view["metrics"]]
    said += ["", *(f"  {line}" for line in table(rows, tuple(rows[0])))]
    said += ["", *(f"  {line}" for line in legend(view["metrics"])[1:])]
    said += [f"  {line}" for line in _in_points(spec, progress)]
    said += ["", *(f"  {line}" for line in _limits(spec, progress))]
    said += ["  alpha_spent is the smallest alpha at which the metric alone would have done so by now."]
    said += ["", *(f"  {line}" for line in _noise(spec, progress))]
    return [*said, "", *_conditions(spec, progress)]


def _limits(spec: Rollout, progress: RolloutProgress) -> Iterator[str]:
    base, reached = baseline(spec).name, f"{1 / progress.evidence[0].alpha_rollback:g}"
    if len(candidates(spec)) == 1:
        yield f"All traffic goes back to {base} when the weighted mean of e_rollback reaches {reached}."
        return
    yield f"A candidate's share goes to {base} when the weighted mean of its e_rollback reaches {reached}:"
    yield f"each of {len(candidates(spec))} has an even part of alpha {spec.alpha_rollback:g}."


def _in_points(spec: Rollout, progress: RolloutProgress) -> Iterator[str]:
    """Odds as people speak of them, which takes a rate of the baseline to speak at."""
    rates = {one.name for one in spec.metrics if one.kind == "rate" and one.increase_is == "bad"}
    for row in progress.evidence:
        usual = row.value_baseline
        if row.metric not in rates or usual is None:
            continue
        ends = [restated(odds, "absolute", usual) for odds in (row.ci_low, row.ci_high)]
        if None not in ends:
            between = " to ".join(f"{100 * end:+.2g}" for end in ends if end is not None)
            where = f"where {baseline(spec).name} has {words.share(usual)}"
            yield f"{row.metric}, {where}: {row.candidate} has {between} points more"


def _noise(spec: Rollout, progress: RolloutProgress) -> Iterator[str]:
    """How much evidence counts, and how often nothing was taken for something."""
    alike = f"calls of one {spec.assignment_unit} resemble each other"
    effects = {row.metric: row.design_effects for row in progress.evidence}
    stated = {one.name for one in spec.metrics if one.design_effect is not None}
    known = [f"{_range(found)} ({name})" for name, found in effects.items() if found and name not in stated]
    said = [f"{_range(found)} ({name})" for name, found in effects.items() if found and name in stated]
    unknown = [name for name, found in effects.items() if not found]
    if known:
        yield f"Evidence is divided by {words.joined(known)}, because {alike}."
    if said:
        yield f"Evidence is divided by {words.joined(said)}, as the rollout states."
    if unknown:
        of = f" for {words.joined(unknown)}" if known or said else ""
        yield f"How much {alike} is not known{of} yet: they count as independent."
    if progress.self_tests:
        allowed = f"alpha {spec.alpha_rollback:g} lets {spec.alpha_rollback * progress.self_tests:.2g} do so"
        yield (
            f"Of {progress.self_tests:,} tests of the serving variant against itself "
            f"{progress.self_alarms:,} found a difference; {allowed}."
        )


def _range(effects: list[float]) -> str:
    ends = dict.fromkeys(f"{effect:.2g}" for effect in (min(effects), max(effects)))
    return " to ".join(ends)


def _numbers(metric: dict[str, Any], *, several: bool) -> dict[str, Any]:
    of = {"candidate": metric["candidate"]} if several else {}
    return of | {
        "metric": metric["name"],
        "verdict": metric["verdict"] + (" (muted)" if metric["muted"] else ""),
        **odds(metric),
        "e_rollback": metric["e_values"]["rollback"],
        "e_promotion": metric["e_values"]["promotion"],
        "alpha_spent": metric["alpha"]["spent"],
    }


def _conditions(spec: Rollout, progress: RolloutProgress) -> Iterator[str]:
    asked = {new: conditions(spec, progress, new) for new in tried(spec, progress)}
    if not any(asked.values()):
        yield f"It has ended: {progress.state}."
        return
    for new, listed in asked.items():
        yield f"To promote {new}"
        yield from (f"  [{'x' if one.met else ' '}] {one.text}" for one in listed)
