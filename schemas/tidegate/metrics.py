"""The metrics that a rollout may decide on, with the margins that hold when a rollout file names none.

Two margins a metric: harm within `rollback_margin` is tolerated; harm beyond `promotion_margin` must be
excluded before promotion.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["rate", "quantile", "mean"]
Harm = Literal["bad", "good", "both"]
MarginKind = Literal["odds", "relative", "absolute"]

LEVELS = (0.5, 0.9, 0.95, 0.99)
"""Quantile levels whose e-values are averaged."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the catalogue.

    Parameters
    ----------
    name
        What a rollout file and the evidence call it. A name that ends in ``.`` is a family:
        ``evaluation.`` stands for ``evaluation.faithful`` and every other evaluation.
    kind
        ``rate``: bad events among observations. ``quantile``: a distribution, by its quantiles.
    unit
        Unit of the observations.
    increase_is
        ``bad``: an increase is harm.
    margin_kind, rollback_margin, promotion_margin
        ``odds``: odds ratios of at least 1. ``relative``: a share, 0.05 is +5 %. ``absolute``: a
        difference of rates, 0.02 is two points.
    meaning
        What is counted, in a sentence.
    """

    name: str
    kind: Kind
    unit: str
    increase_is: Harm
    margin_kind: MarginKind
    rollback_margin: float
    promotion_margin: float
    meaning: str


def _rate(name: str, rollback: float, promotion: float, meaning: str) -> Metric:
    return Metric(name, "rate", "1", "bad", "odds", rollback, promotion, meaning)


def _rare(name: str, meaning: str) -> Metric:
    # In points: where hardly anything fails, odds have nothing to compare, and would never let it pass.
    return Metric(name, "rate", "1", "bad", "absolute", 0.005, 0.02, meaning)


def _quantile(name: str, unit: str, promotion: float, meaning: str) -> Metric:
    return Metric(name, "quantile", unit, "bad", "relative", 0.05, promotion, meaning)


CATALOGUE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _rare("error_rate", "Calls that ended in error, timeout or rate limit, among all calls."),
        _rare("timeout_rate", "Calls that timed out, among all calls."),
        _rate("abstain_rate", 1.10, 1.5, "Calls that said they do not know, among classified calls."),
        _rate("refusal_rate", 1.10, 1.5, "Calls that refused, among classified calls."),
        _rare("empty_rate", "Calls with an empty answer, among classified calls."),
        _quantile("latency_us", "us", 0.20, "From the request to the last byte."),
        _quantile("ttft_us", "us", 0.20, "From the request to the first chunk of content."),
        _quantile("tpot_us", "us", 0.20, "Time per output token after the first."),
        _quantile("cost_usd", "USD", 0.20, "Cost of a priced call."),
        _quantile("input_tokens", "1", 0.20, "Tokens in."),
        _quantile("output_tokens", "1", 0.20, "Tokens out."),
        _rate("feedback.", 1.10, 1.5, "Ratings that were not satisfied, among ratings of that name."),
        _rate("evaluation.", 1.10, 1.5, "Answers that failed, among evaluations of that name."),
        _rare("guardrail.", "Calls that triggered it, among calls that it checked."),
    )
}
"""Name, or family, -> metric."""


def find(name: str) -> Metric | None:
    """Return the metric, or the family, of a name; None when the catalogue does not know it."""
    if name in CATALOGUE:
        return None if name.endswith(".") else CATALOGUE[name]
    family, dot, member = name.partition(".")
    return CATALOGUE.get(family + dot) if member else None
