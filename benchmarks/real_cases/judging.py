"""Observations of two variants -> what the rollout machine makes of them, pane by pane, as live."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import numpy.typing as npt

from tidegate.metrics import find
from tidegate_infra import rollout_file
from tidegate_streams.histogram import bucket
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import findings, machine
from tidegate_streams.rollouts.machine import Position
from tidegate_streams.rollouts.strata import Stratum, VariantPane
from tidegate_streams.rollouts.verdicts import Verdict
from tidegate_streams.statistics.exceedances import ZERO

PER_PANE = 20
"""Observations of each variant between two looks, in all cases: some ten calls in five seconds."""

START_US = 1_700_000_000_000_000

FILE = """
apiVersion: tidegate/v1
kind: Rollout
metadata: {{name: case, tenant: recorded, environment: past, deployment: case}}
variants:
  baseline: {{role: baseline, model: one}}
  candidate: {{role: candidate, model: other}}
steps: [{{weight: 50%, warmUp: 0s}}]
metrics: {metrics}
"""

Observations = Mapping[str, npt.NDArray[np.int64]]
"""Metric -> values in the order of observation, all of one length; for rates 1 is a bad event."""


@dataclass(frozen=True)
class Judged:
    """What came of a comparison.

    Parameters
    ----------
    decision
        ``promoted``, ``rolled back`` or ``undecided``.
    verdicts
        Metric -> verdict at the last look.
    odds_of_chance
        1 / e-value of harm, at most 1: how seldom chance alone shows so much.
    observations
        Of the candidate, until the decision or the end.
    reason
        In a sentence.
    """

    decision: str
    verdicts: Mapping[str, Verdict]
    odds_of_chance: float
    observations: int
    reason: str


def panes_of(observed: Observations, size: int) -> Iterator[VariantPane]:
    """What a variant did pane by pane."""
    n = max((len(values) for values in observed.values()), default=0)
    for start in range(0, n, size):
        rates, histograms = {}, {}
        for name, values in observed.items():
            some = values[start : start + size]
            metric = find(name)
            if metric is not None and metric.kind == "rate":
                rates[name] = (len(some), int(some.sum()))
            else:
                histograms[name] = _histogram(some)
        yield VariantPane(calls=min(size, n - start), rates=rates, histograms=histograms)


def _histogram(values: npt.NDArray[np.int64]) -> dict[int, int]:
    index, counts = np.unique(bucket(values[values > 0]), return_counts=True)
    found = dict(zip(index.tolist(), counts.tolist(), strict=True))
    zeros = int((values == 0).sum())
    return found | ({ZERO: zeros} if zeros else {})


def judge(metrics: str, baseline: Observations, candidate: Observations, size: int = PER_PANE) -> Judged:
    """Run a rollout over what was observed, until it is decided or nothing is left.

    Parameters
    ----------
    metrics
        As a rollout file has them, in one line of YAML.
    baseline, candidate
        What was observed. One half of the calls each, as the file asks for.
    size
        Observations of each variant in a pane.
    """
    spec = replace(
        rollout_file.load(FILE.format(metrics=metrics)), generation=1, ts=START_US, actor="recorded"
    )
    offsets = count()

    def at(watermark_us: int) -> Position:
        return Position(partition=0, offset=next(offsets), watermark_us=watermark_us)

    state, _ = machine.on_spec(None, spec, at(START_US))
    seen = 0
    for number, shown in enumerate(_side_by_side(panes_of(baseline, size), panes_of(candidate, size))):
        pane_us = START_US + number * PANE_US
        stratum = {Stratum(state.revision, pane_us, is_late=False): shown}
        state, _ = machine.on_look(state, pane_us + PANE_US, stratum, at(pane_us + PANE_US))
        seen += shown["candidate"].calls if "candidate" in shown else 0
        if state.state in ("promoting", "rolling_back"):
            break
    judgement = findings.judge(state)["candidate"]
    decided = {"promoting": "promoted", "rolling_back": "rolled back"}
    return Judged(
        decided.get(state.state, "undecided"),
        judgement.verdicts,
        math.exp(min(0.0, -judgement.log_e)),
        seen,
        state.reason,
    )


def _side_by_side(
    baseline: Iterable[VariantPane], candidate: Iterable[VariantPane]
) -> Iterator[dict[str, VariantPane]]:
    """Panes of both, and of one alone where the other has no more."""
    ours, theirs = iter(baseline), iter(candidate)
    while True:
        shown = {
            name: pane
            for name, pane in (("baseline", next(ours, None)), ("candidate", next(theirs, None)))
            if pane is not None
        }
        if not shown:
            return
        yield shown
