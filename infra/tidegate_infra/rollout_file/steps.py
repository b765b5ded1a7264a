"""The steps of a rollout file: how much of the traffic, how long, and what ends each."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ruamel.yaml.nodes import MappingNode, SequenceNode

from tidegate.metrics import Metric, find
from tidegate.records import DecisionMetric, Step, StepOverride
from tidegate_infra.document import Element, Section, suggestion
from tidegate_infra.rollout_file import quantities
from tidegate_infra.rollout_file.quantities import Margin

DEFAULT_MIN_CALLS = 100
"""Calls of the candidate in a step; with none, a step would end at the first look."""

LEAST_SWITCH_BP = 5_000
"""A switch that sends less is a canary."""

_WHOLE_BP = 10_000


def steps_of(top: Section, strategy: str, metrics: Sequence[DecisionMetric]) -> list[Step]:
    """Read the steps of a strategy.

    Parameters
    ----------
    top
        Keys of the file.
    strategy
        canary and shadow: a list of rising shares. blue_green and ab: one entry. rolling: a list, or by
        how much and how often it rises.
    metrics
        That a step may have margins of its own for.
    """
    element = top.take("steps")
    if element is None:
        top.element.complain("steps is missing: add a list of shares, such as `- weight: 10%`")
        return []
    if strategy == "rolling" and isinstance(element.node, MappingNode):
        return _rising(element.section())
    items = element.items()
    if not items and isinstance(element.node, SequenceNode):
        element.complain("no step: add at least one, such as `- weight: 10%`")
    steps = []
    before: int | None = None
    for item in items:
        step, share = _step(item, strategy, metrics)
        if step is None or share is None:
            continue
        bp = step.weight_bp + step.mirror_bp
        if before is not None and bp <= before:
            share.complain(
                f"{bp / 100:g}% does not increase on {before / 100:g}% of the step before: "
                f"each step sends more"
            )
        before = bp
        steps.append(step)
        if strategy == "blue_green":
            _check_switch(step, item, share)
    if strategy in ("blue_green", "ab") and len(items) > 1:
        items[1].complain(f"{strategy} has one split: keep one step, or use `strategy: canary`")
    return steps


def _step(
    item: Element, strategy: str, metrics: Sequence[DecisionMetric]
) -> tuple[Step | None, Element | None]:
    key, other = ("mirror", "weight") if strategy == "shadow" else ("weight", "mirror")
    if item.is_scalar:
        bp = item.value(quantities.share)
        step = _sharing(Step(weight_bp=bp or 0, min_calls=DEFAULT_MIN_CALLS), strategy)
        return (None if bp is None else step), item
    section = item.section()
    bp = section.required(key, quantities.share, "10%")
    share, misplaced = section.take(key), section.take(other)
    if misplaced is not None:
        misplaced.complain(f"{other} is no key of a {strategy}: write {key}")
    limit = section.take("maxDuration")
    step = replace(
        _sharing(_sized(section, bp or 0), strategy),
        min_duration_us=section.optional("minDuration", quantities.duration, 0),
        max_duration_us=None if limit is None else limit.value(quantities.time_limit),
        approval=section.optional("approval", quantities.flag, False),
        overrides=_overrides(section, metrics),
    )
    if (
        limit is not None
        and step.max_duration_us is not None
        and step.max_duration_us <= step.min_duration_us
    ):
        limit.complain("the step must last longer than this: give it more time, or lower minDuration")
    section.close()
    return (None if bp is None else step), share


def _overrides(step: Section, metrics: Sequence[DecisionMetric]) -> list[StepOverride]:
    """Rollback margins of one step; each in the kind of its metric's."""
    element = step.take("overrides")
    found: list[StepOverride] = []
    for item in () if element is None else element.items():
        section = item.section()
        name = section.required("name", _one_of(metrics), "error_rate")
        misplaced = section.take("promotionMargin")
        if misplaced is not None:
            misplaced.complain(
                "promotion is asked once, of all steps together: write promotionMargin under metrics"
            )
        metric = next((one for one in metrics if one.name == name), None)
        known = None if metric is None else find(metric.name)
        if metric is None or known is None:
            section.take("rollbackMargin")
        else:
            margin = section.required("rollbackMargin", quantities.margin(known), "1.5 odds")
            if any(other.metric == name for other in found):
                item.complain(f"{name} is listed twice: keep one")
            elif margin is not None and _fits(margin, metric, known, section.take("rollbackMargin") or item):
                found.append(StepOverride(metric=metric.name, rollback_margin=margin.value))
        section.close()
    return found


def _fits(margin: Margin, metric: DecisionMetric, known: Metric, where: Element) -> bool:
    if margin.kind != metric.margin_kind:
        where.complain(
            f"{metric.name} has {metric.margin_kind} margins: write this one alike, such as "
            f"{quantities.written(known, Margin(metric.margin_kind, metric.rollback_margin))}"
        )
    elif margin.value > metric.promotion_margin:
        widest = quantities.written(known, Margin(metric.margin_kind, metric.promotion_margin))
        where.complain(
            f"it tolerates more than {widest}, which must be excluded before promotion: tolerate at most that"
        )
    else:
        return True
    return False


def _one_of(metrics: Sequence[DecisionMetric]) -> Callable[[str], str]:
    names = list(dict.fromkeys(metric.name for metric in metrics))  # one twice is told where it stands

    def parse(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is none of the rollout's metrics: {suggestion(value, names)}")
        return value

    return parse


def _sharing(step: Step, strategy: str) -> Step:
    """Make the share of a step one of copies where the candidate serves nobody."""
    return replace(step, weight_bp=0, mirror_bp=step.weight_bp) if strategy == "shadow" else step


def _sized(section: Section, weight_bp: int) -> Step:
    warm_up = section.take("warmUp")
    return Step(
        weight_bp=weight_bp,
        min_calls=section.optional("minCalls", quantities.some, DEFAULT_MIN_CALLS),
        min_units=section.optional("minUsers", quantities.count, 0),
        warmup_us=None if warm_up is None else warm_up.value(quantities.duration),
    )


def _rising(section: Section) -> list[Step]:
    by = section.required("by", quantities.share, "20%")
    every = section.required("every", quantities.time_limit, "10m")
    sized = _sized(section, 0)
    section.close()
    if by is None or every is None:
        return []
    return [replace(sized, weight_bp=bp, min_duration_us=every) for bp in range(by, _WHOLE_BP, by)]


def _check_switch(step: Step, item: Element, weight: Element) -> None:
    if step.weight_bp < LEAST_SWITCH_BP:
        weight.complain(
            f"a switch sends at least {LEAST_SWITCH_BP / 100:g}%, such as 95%: the rest stays behind to be "
            f"compared with"
        )
    if not step.min_duration_us:
        item.complain("minDuration is missing: say how long it bakes after the switch, such as 30m")
