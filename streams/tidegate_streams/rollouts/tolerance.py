"""How much harm each step tolerates: a step may have rollback margins of its own."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from tidegate.records import DecisionMetric, Step
from tidegate_streams.rollouts import words


def in_step(metric: DecisionMetric, step: Step) -> DecisionMetric:
    """Return a metric with the rollback margin that a step gives it.

    Parameters
    ----------
    metric
        As the rollout states it.
    step
        Of the command that assigned the calls which are compared: its margin is known before they are seen.
    """
    for override in step.overrides:
        if override.metric == metric.name and override.rollback_margin is not None:
            return replace(metric, rollback_margin=override.rollback_margin)
    return metric


def margins(metric: DecisionMetric, steps: Iterable[Step]) -> int:
    """Count the rollback margins that steps have for a metric.

    The strata of each have an e-process of their own, and their mean decides: again one, by which a candidate
    that is within the margin of every step is rolled back as seldom as with one margin. One sum over all of
    them would be valid too, but what is harmless by the margin of a loose step would outweigh what is
    harmful by that of the next.
    """
    return len({in_step(metric, step).rollback_margin for step in steps})


def tolerated(metric: DecisionMetric, steps: Iterable[Step]) -> str:
    """Write what the steps so far tolerate of a metric: ``2 points, then 0.5 points``."""
    margins = (in_step(metric, step).rollback_margin for step in steps)
    return ", then ".join(words.margin(metric, margin) for margin, _ in groupby(margins))
