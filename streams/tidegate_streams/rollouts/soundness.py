"""Which specifications cannot run. Whatever wrote them, nothing that would break a decision is taken in."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches

from tidegate.metrics import CATALOGUE, find
from tidegate.records import DecisionMetric, Rollout, Step
from tidegate_streams.rollouts import filters, words
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.variants import identity

_UNITS = ("user", "session", "tenant", "request")
_LEAST_MARGINS = {"odds": 1, "relative": 0, "absolute": 0}
_ENDS = ("hold", "rollback", "promote")


def objection(spec: Rollout) -> str | None:
    """Return why a specification cannot run, all reasons at once in a sentence; None when it can."""
    return "; ".join(_objections(spec)) or None


def _objections(spec: Rollout) -> Iterator[str]:
    if spec.strategy not in STRATEGIES:
        yield f"strategy {spec.strategy} is not there yet: use {_or(STRATEGIES)}"
    if spec.assignment_unit not in _UNITS:
        yield f"variants cannot be assigned by {spec.assignment_unit!r}: use {_or(_UNITS)}"
    if spec.on_inconclusive not in _ENDS:
        yield f"an inconclusive end cannot mean {spec.on_inconclusive!r}: use {_or(_ENDS)}"
    yield from filters.objections(spec.filters)
    if spec.max_duration_us <= 0:
        yield f"a longest duration of {spec.max_duration_us} us leaves no time: give a positive one"
    if 0 < spec.max_duration_us <= (least_us := sum(step.min_duration_us for step in spec.steps)):
        yield (
            f"its steps last at least {words.duration(least_us)}, and it may last "
            f"{words.duration(spec.max_duration_us)}: give it more time"
        )
    if spec.min_calls < 0 or spec.min_units < 0:
        yield "fewer than no calls or users are asked for: give counts from 0"
    for name in ("alpha_rollback", "alpha_promotion", "alpha_srm"):
        if not 0 < getattr(spec, name) < 0.5:
            yield f"{name} is {getattr(spec, name)}: error probabilities lie above 0 and below 0.5"
    if any(freeze.ends_at <= freeze.starts_at for freeze in spec.freezes):
        yield "a freeze ends before it begins: exchange its ends"
    yield from _of_variants(spec)
    yield from _of_steps(spec.strategy, spec.steps)
    yield from _of_metrics(spec.metrics)
    yield from _of_overrides(spec)
    if spec.strategy in STRATEGIES and not STRATEGIES[spec.strategy].serves:
        yield from (
            f"{metric.name}: nobody rates what nobody is served; leave it out of a {spec.strategy}"
            for metric in spec.metrics
            if metric.name.startswith("feedback.")
        )
        if spec.on_inconclusive == "promote":
            yield f"a {spec.strategy} promotes nobody: let an inconclusive end hold or roll back"


def _of_variants(spec: Rollout) -> Iterator[str]:
    roles = Counter(variant.role for variant in spec.variants)
    if roles["baseline"] != 1 or not roles["candidate"] or len(roles) > 2:
        here = ", ".join(sorted(roles.elements())) or "none"
        yield f"one baseline is compared with one candidate or more, here are {here}"
    definitions = Counter(identity(replace(variant, name="")) for variant in spec.variants)
    if any(times > 1 for what, times in definitions.items() if what):
        yield "some of its variants are the same thing: a rollout onto itself decides nothing"
    if roles["candidate"] > 1:
        yield from _of_several(spec, roles["candidate"])
    for name in _repeated(variant.name for variant in spec.variants):
        yield f"two variants are called {name}: a variant cannot be compared with itself, rename one"


def _of_several(spec: Rollout, n: int) -> Iterator[str]:
    if spec.strategy in STRATEGIES and not STRATEGIES[spec.strategy].several:
        able = _or(name for name, strategy in STRATEGIES.items() if strategy.several)
        yield f"{spec.strategy} brings in one candidate, here are {n}: use {able}, or one after the other"
    if spec.on_inconclusive == "promote":
        yield f"an inconclusive end cannot promote one of {n} candidates: let it hold or roll back"
    for number, step in enumerate(spec.steps, 1):
        if 0 < step.weight_bp < n:
            yield f"step {number} sends {words.weight(step.weight_bp)}, which {n} candidates cannot share"


def _of_steps(name: str, steps: list[Step]) -> Iterator[str]:
    strategy = STRATEGIES.get(name, STRATEGIES["canary"])
    if not steps:
        yield "there are no steps: give at least one with the candidate's share"
    if strategy.most_steps is not None and len(steps) > strategy.most_steps:
        yield f"{name} takes {strategy.most_steps} step, here are {len(steps)}"
    for number, step in enumerate(steps, 1):
        share, other = step.weight_bp, step.mirror_bp
        if not strategy.serves:
            share, other = other, share
        if not 0 < share < 10_000:
            yield f"step {number} sends {words.weight(share)}: shares lie above 0 and below 100 %"
        elif share < strategy.least_bp:
            least = words.weight(strategy.least_bp)
            yield f"step {number} sends {words.weight(share)}: {name} sends at least {least}"
        if other:
            yield f"step {number} both serves and mirrors: only shadow mirrors, and it serves nobody"
        least_counts = min(step.min_calls, step.min_units, step.min_duration_us, step.warmup_us or 0)
        if step.max_duration_us is not None and step.max_duration_us <= step.min_duration_us:
            yield f"step {number} must last longer than it may: let it last less, or give it more time"
        if least_counts < 0:
            yield f"step {number} has a negative count or time: give counts and times from 0"
    shares = [step.weight_bp + step.mirror_bp for step in steps]
    for one, following in itertools.pairwise(shares):
        if following <= one:
            yield f"{words.weight(following)} does not increase on {words.weight(one)}"


def _of_overrides(spec: Rollout) -> Iterator[str]:
    known = {metric.name: metric for metric in spec.metrics}
    for number, step in enumerate(spec.steps, 1):
        for name in _repeated(one.metric for one in step.overrides):
            yield f"step {number} has two margins for {name}: keep one"
        for override in step.overrides:
            metric, margin = known.get(override.metric), override.rollback_margin
            if metric is None:
                yield f"step {number} has a margin for {override.metric}, which is none of the metrics"
            elif override.promotion_margin is not None:
                yield (
                    f"step {number} has a promotion margin for {metric.name}: promotion is asked once, of "
                    f"all steps together, at the margin of the metric"
                )
            elif (
                margin is None
                or not _LEAST_MARGINS.get(metric.margin_kind, 0) <= margin <= metric.promotion_margin
            ):
                yield (
                    f"step {number} tolerates {margin} of {metric.name}: margins lie from "
                    f"{_LEAST_MARGINS.get(metric.margin_kind, 0)} up to what must be excluded for promotion, "
                    f"{metric.promotion_margin}"
                )


def _of_metrics(metrics: list[DecisionMetric]) -> Iterator[str]:
    if all(metric.muted for metric in metrics):
        yield "no metric has effect: name at least one that is not muted"
    for name in _repeated(metric.name for metric in metrics):
        yield f"{name} is listed twice: keep one"
    for metric in metrics:
        yield from (f"{metric.name}: {problem}" for problem in _of_metric(metric))


def _of_metric(metric: DecisionMetric) -> Iterator[str]:
    known = find(metric.name)
    if known is None:
        near = get_close_matches(metric.name, CATALOGUE, n=1)
        yield "there is no such metric" + (f", did you mean {near[0]}?" if near else "")
        return
    if metric.kind not in ("rate", "quantile"):
        yield "only rates and quantiles decide"
    elif metric.kind != known.kind:
        yield f"it is a {known.kind}, not a {metric.kind}"
    if metric.kind == "quantile" and not metric.quantiles:
        yield "no quantiles are named"
    if not all(0 < level < 1 for level in metric.quantiles):
        yield f"quantiles lie above 0 and below 1, not at {metric.quantiles}"
    if metric.increase_is not in ("bad", "good", "both"):
        yield f"an increase cannot be {metric.increase_is!r}: use bad, good or both"
    least = _LEAST_MARGINS.get(metric.margin_kind)
    if least is None:
        yield f"margins cannot be {metric.margin_kind!r}: use odds, relative or absolute"
    elif not least <= metric.rollback_margin <= metric.promotion_margin < math.inf:
        yield (
            f"the margins {metric.rollback_margin} and {metric.promotion_margin} must rise from {least}: "
            f"what is tolerated, then what must be excluded"
        )
    elif metric.kind == "rate" and metric.margin_kind == "absolute" and metric.promotion_margin >= 1:
        yield f"a margin of {100 * metric.promotion_margin:g} points tolerates everything"
    if not 0 < metric.weight < math.inf:
        yield f"its weight is {metric.weight}: give a positive number"
    if metric.design_effect is not None and not 1 <= metric.design_effect < math.inf:
        yield f"its design effect is {metric.design_effect}: give a number from 1, which says none"
    if metric.min_n < 0:
        yield f"it asks for {metric.min_n} observations: give a count from 0"


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _or(allowed: Iterable[str]) -> str:
    return " or ".join(allowed)
