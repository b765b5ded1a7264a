"""Nodes of a rollout file -> `Rollout`, with every check across keys."""

from collections.abc import Sequence
from dataclasses import replace

import xxhash
from ruamel.yaml.nodes import SequenceNode

from tidegate import codec
from tidegate.metrics import CATALOGUE, LEVELS, Metric, find
from tidegate.records import DecisionMetric, Filter, Rollout, Variant
from tidegate.series import FILTERED
from tidegate_infra.document import Element, FileError, Section, suggestion
from tidegate_infra.rollout_file import quantities
from tidegate_infra.rollout_file.freezes import freezes_of, written_out
from tidegate_infra.rollout_file.quantities import Margin
from tidegate_infra.rollout_file.steps import steps_of

API_VERSION = "tidegate/v1"
STRATEGIES = ("canary", "blue_green", "rolling", "shadow", "ab")

DEFAULT_MAX_DURATION_US = 24 * 3_600_000_000
DEFAULT_ALPHAS = {"rollback": 0.01, "promotion": 0.05, "sampleRatio": 0.001}

_DEFINITION = {
    "promptName": "prompt_name",
    "promptVersion": "prompt_version",
    "provider": "provider",
    "model": "request_model",
    "modelVersion": "model_version",
    "configVersion": "config_version",
    "appVersion": "app_version",
}
"""Key of a variant -> field of the record."""


def specification(root: Element, text: str, applied_us: int) -> Rollout:
    """Read a rollout.

    Parameters
    ----------
    root
        Of the document.
    text
        The file as written.
    applied_us
        When it is applied, in microseconds since the epoch: recurring freezes are written out from there.

    Returns
    -------
    Rollout
        With generation 0, ts 0 and no actor.

    Raises
    ------
    FileError
        With all problems.
    """
    top = root.section()
    top.required("apiVersion", quantities.one_of(API_VERSION), API_VERSION)
    top.required("kind", quantities.one_of("Rollout"), "Rollout")
    head = _head(top)
    strategy = top.optional("strategy", quantities.one_of(*STRATEGIES), "canary")
    variants = _variants(top, strategy)
    effect = top.optional("designEffect", quantities.design_effect, None)
    metrics = [replace(one, design_effect=one.design_effect or effect) for one in _metrics(top, strategy)]
    steps = steps_of(top, strategy, metrics)
    alphas = _alphas(top)
    single, recurring = freezes_of(top)
    spec = Rollout(
        name=head["name"],
        tenant=head["tenant"],
        environment=head["environment"],
        deployment=head["deployment"],
        generation=0,
        spec_hash="",
        source_yaml=text,
        actor="",
        ts=0,
        strategy=strategy,
        assignment_unit=top.optional(
            "assignBy", quantities.one_of("user", "session", "tenant", "request"), "user"
        ),
        salt=top.optional("salt", quantities.text, head["name"]),
        dry_run=top.optional("dryRun", quantities.flag, False),
        paused=top.optional("paused", quantities.flag, False),
        min_calls=top.optional("minCalls", quantities.count, 0),
        min_units=top.optional("minUsers", quantities.count, 0),
        max_duration_us=top.optional("maxDuration", quantities.time_limit, DEFAULT_MAX_DURATION_US),
        on_inconclusive=top.optional(
            "onInconclusive", quantities.one_of("hold", "rollback", "promote"), "hold"
        ),
        alpha_rollback=alphas["rollback"],
        alpha_promotion=alphas["promotion"],
        alpha_srm=alphas["sampleRatio"],
        freezes=single,
        filters=_filters(top),
        variants=variants,
        steps=steps,
        metrics=metrics,
    )
    ends = top.take("onInconclusive")
    if strategy == "shadow" and ends is not None and spec.on_inconclusive == "promote":
        ends.complain("a shadow promotes nobody: write hold or rollback")
    several = sum(variant.role == "candidate" for variant in variants)
    if ends is not None and several > 1 and spec.on_inconclusive == "promote":
        ends.complain(f"of {several} candidates it cannot promote one undecided: write hold or rollback")
    least_us = sum(step.min_duration_us for step in steps)
    if least_us >= spec.max_duration_us:
        (top.take("maxDuration") or top.key("steps")).complain(
            f"the steps last at least {least_us / 60_000_000:g} minutes together, which leaves no time to "
            f"decide: let maxDuration be longer"
        )
    top.close()
    if root.problems.found:
        raise FileError(root.problems.found)
    plan = codec.as_json(replace(spec, source_yaml=""))
    if recurring:
        # Of what is written, not of when it comes: the same file applied again is the same plan.
        plan += repr([(*one[:3], one.zone.key) for one in recurring])
    coming = [freeze for one in recurring for freeze in written_out(one, applied_us)]
    return replace(spec, freezes=[*single, *coming], spec_hash=xxhash.xxh64_hexdigest(plan.encode()))


def _head(top: Section) -> dict[str, str]:
    keys = {"name": "june-snapshot", "tenant": "acme", "environment": "prod", "deployment": "answers"}
    element = top.take("metadata")
    if element is None:
        top.element.complain(f"metadata is missing: add `metadata:` with {', '.join(keys)}")
        return dict.fromkeys(keys, "")
    section = element.section()
    head = {key: section.required(key, quantities.name, example) or "" for key, example in keys.items()}
    section.close()
    return head


def _alphas(top: Section) -> dict[str, float]:
    element = top.take("alpha")
    if element is None:
        return DEFAULT_ALPHAS
    section = element.section()
    alphas = {key: section.optional(key, quantities.alpha, usual) for key, usual in DEFAULT_ALPHAS.items()}
    section.close()
    return alphas


def _filters(top: Section) -> list[Filter]:
    element = top.take("filters")
    found = []
    for item in () if element is None else element.items():
        section = item.section()
        dimension = section.required("dimension", quantities.one_of(*FILTERED), FILTERED[0])
        given = {op: section.take(key) for key, op in (("in", "in"), ("notIn", "not_in"))}
        section.close()
        asked = {op: values for op, values in given.items() if values is not None}
        if len(asked) != 1:
            item.complain("a filter says `in` or `notIn`, one of them: write such as `in: [chat]`")
            continue
        ((op, values),) = asked.items()
        names = [one for value in values.items() if (one := value.value(quantities.text)) is not None]
        if not values.items() and isinstance(values.node, SequenceNode):
            values.complain("no value: name at least one, such as [chat]")
        if dimension is not None:
            found.append(Filter(dimension=dimension, op=op, value=names))
    return found


def _variants(top: Section, strategy: str) -> list[Variant]:
    element = top.take("variants")
    if element is None:
        top.element.complain("variants is missing: add one with `role: baseline`, one with `role: candidate`")
        return []
    section = element.section()
    variants = [variant for key, value in section if (variant := _variant(section.key(key), key, value))]
    if len(variants) < len(list(section)):
        return variants
    named = {role: [one.name for one in variants if one.role == role] for role in ("baseline", "candidate")}
    for role, names in named.items():
        if not names:
            element.complain(f"no variant is the {role}: give one `role: {role}`")
            return variants
    if len(named["baseline"]) > 1:
        element.complain(
            f"{' and '.join(named['baseline'])} are each the baseline: a rollout has one, choose"
        )
    if len(named["candidate"]) > 1 and strategy != "ab":
        element.complain(
            f"{' and '.join(named['candidate'])} are each the candidate: {strategy} brings in one, because "
            f"every step asks whether it gets more; compare them by `strategy: ab` first"
        )
    alike: dict[tuple[str | None, ...], str] = {}
    for variant in variants:
        first = alike.setdefault(_definition(variant), variant.name)
        if first != variant.name and any(_definition(variant)):
            section.key(variant.name).complain(
                f"{first} and {variant.name} are the same thing: a rollout onto itself decides nothing, "
                f"change what the candidate should change"
            )
    return variants


def _variant(key: Element, name: str, value: Element) -> Variant | None:
    key.value(quantities.name)
    section = value.section()
    role = section.required("role", quantities.one_of("baseline", "candidate"), "candidate")
    definition: dict[str, str | None] = {}
    for yaml_key, field in _DEFINITION.items():
        element = section.take(yaml_key)
        definition[field] = None if element is None else element.value(quantities.text)
    section.close()
    return None if role is None else Variant(name=name, role=role, **definition)


def _definition(variant: Variant) -> tuple[str | None, ...]:
    return tuple(getattr(variant, field) for field in _DEFINITION.values())


def _metrics(top: Section, strategy: str) -> list[DecisionMetric]:
    element = top.take("metrics")
    if element is None:
        top.element.complain("metrics is missing: add a list of what decides, such as `- error_rate`")
        return []
    items = element.items()
    metrics: list[DecisionMetric] = []
    for item in items:
        metric = _metric(item)
        if metric is None:
            continue
        if any(metric.name == other.name for other in metrics):
            item.complain(f"{metric.name} is listed twice: keep one")
        if strategy == "shadow" and metric.name.startswith("feedback."):
            item.complain(f"{metric.name}: nobody rates what nobody is served, remove it from the shadow")
        metrics.append(metric)
    if not any(not metric.muted for metric in metrics) and len(metrics) == len(items):
        element.complain("no metric has effect: add one that is not muted, such as `- error_rate`")
    return metrics


def _metric(item: Element) -> DecisionMetric | None:
    if item.is_scalar:
        known = item.value(_known_metric)
        return None if known is None else _default(item.node.value, known)
    section = item.section()
    known = section.required("name", _known_metric, "error_rate")
    name = section.take("name")
    if known is None or name is None:
        return None
    metric = _default(name.node.value, known)
    margins = _margins(section, item, known)
    if margins is not None:
        rollback, promotion = margins
        metric = replace(
            metric,
            margin_kind=rollback.kind,
            rollback_margin=rollback.value,
            promotion_margin=promotion.value,
        )
    if known.kind == "quantile":
        metric = replace(metric, quantiles=_quantiles(section, metric.quantiles))
    metric = replace(
        metric,
        increase_is=section.optional(
            "increaseIs", quantities.one_of("bad", "good", "both"), metric.increase_is
        ),
        weight=section.optional("weight", quantities.factor, metric.weight),
        critical=section.optional("critical", quantities.flag, False),
        muted=section.optional("muted", quantities.flag, False),
        min_n=section.optional("minObservations", quantities.count, 0),
        design_effect=section.optional("designEffect", quantities.design_effect, None),
    )
    section.close()
    return metric


def _known_metric(name: str) -> Metric:
    quantities.text(name.partition(".")[2] or name)
    known = find(name)
    if known is None:
        names = [f"{name}NAME" if name.endswith(".") else name for name in CATALOGUE]
        raise ValueError(f"unknown metric {name!r}: {suggestion(name, names)}")
    return known


def _default(name: str, known: Metric) -> DecisionMetric:
    return DecisionMetric(
        name=name,
        kind=known.kind,
        quantiles=list(LEVELS) if known.kind == "quantile" else [],
        increase_is=known.increase_is,
        margin_kind=known.margin_kind,
        rollback_margin=known.rollback_margin,
        promotion_margin=known.promotion_margin,
    )


def _margins(section: Section, item: Element, known: Metric) -> tuple[Margin, Margin] | None:
    """Both margins, the catalogue's where the file names none; None when something is wrong."""
    parse = quantities.margin(known)
    given = {key: section.take(key) for key in ("rollbackMargin", "promotionMargin")}
    parsed = {key: None if element is None else element.value(parse) for key, element in given.items()}
    if any(given[key] is not None and parsed[key] is None for key in given):
        return None
    kinds = {margin.kind for margin in parsed.values() if margin is not None}
    if len(kinds) > 1:
        (section.take("promotionMargin") or item).complain(
            "both margins must be of one kind: write both as odds, both in percent, or both in the same unit"
        )
        return None
    kind = kinds.pop() if kinds else known.margin_kind
    defaults = {"rollbackMargin": known.rollback_margin, "promotionMargin": known.promotion_margin}
    for key, element in given.items():
        if element is None and kind != known.margin_kind:
            item.complain(
                f"{key} is missing: the other margin is {kind} and the default is {known.margin_kind}, "
                f"so give both"
            )
            return None
    rollback, promotion = (parsed[key] or Margin(kind, defaults[key]) for key in given)
    if promotion.value < rollback.value:
        (given["promotionMargin"] or given["rollbackMargin"] or item).complain(
            f"the promotion margin ({quantities.written(known, promotion)}) is tighter than the rollback "
            f"margin ({quantities.written(known, rollback)}): what is tolerated must not stand in the way of "
            f"promotion, widen it"
        )
        return None
    return rollback, promotion


def _quantiles(section: Section, defaults: Sequence[float]) -> list[float]:
    element = section.take("quantiles")
    if element is None:
        return list(defaults)
    items = element.items()
    levels = [level for item in items if (level := item.value(quantities.level)) is not None]
    if len(set(levels)) < len(levels):
        element.complain("a quantile is listed twice: keep one")
    if not items and isinstance(element.node, SequenceNode):
        element.complain("no quantile: write a list such as [p50, p95]")
    return sorted(levels)
