"""What the machine remembers of one deployment: plain data, never changed in place."""

import copy
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tidegate import codec
from tidegate.errors import InvariantBroken
from tidegate.records import Alert, Rollout, RolloutAction
from tidegate_streams.rollouts.reference import Reference
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.verdicts import MetricEvidence
from tidegate_streams.statistics.emix import Counts


class Counting(NamedTuple):
    """What calls that obeyed one revision count for.

    Parameters
    ----------
    step
        Step of the rollout.
    from_us
        Calls of panes before it belong to the warm-up and do not count.
    """

    step: int
    from_us: int


_PLAIN = (
    "key",
    "state",
    "held_for",
    "deleted",
    "step",
    "revision",
    "reason",
    "started_us",
    "clock_us",
    "step_clock_us",
    "settled_us",
    "anchored",
    "looks",
    "looked_until_us",
)


@dataclass(frozen=True, slots=True)
class State:
    """Where the rollout of one deployment stands.

    Parameters
    ----------
    key
        tenant/environment/deployment.
    spec
        The specification in force; None before the first, while actions wait for it.
    state
        One of `machine.STATES`; empty before the first specification.
    held_for
        In `holding`: ``approval``, ``time``, ``person`` or ``loss`` of its evidence; else empty.
    deleted
        Whether the specification was withdrawn.
    step
        Present step, from 0.
    revision
        Of the last command of the deployment, over all of its rollouts.
    reason
        Why this state, in a sentence.
    started_us
        Event time of the start; None while it waits, paused, before its first step.
    clock_us, step_clock_us
        What the time limits of the rollout and of the step are counted from.
    anchored
        Whether the times above are known to be of the same clock as the calls. A start before the first
        watermark is not, until the first call that obeys it.
    settled_us
        From when the last change of weights is complete: its event time plus warm-up.
    approved
        Step -> event time until which its approval holds; None has no end.
    revisions
        Revision of this generation -> what its calls count for.
    evidence
        Metric -> evidence.
    totals
        Variant -> what it did in all strata that count.
    step_calls
        Variant -> calls in the present step.
    step_users
        Sketch of the candidate's users in the present step.
    reference
        The past hour of each variant.
    looks, looked_until_us
        How often it was looked at, and the end of the last pane.
    acted
        Identities of the actions that have been answered.
    waiting
        Actions whose generation has not arrived.
    alert
        The alert that is firing, if any.
    """

    key: str
    spec: Rollout | None = None
    state: str = ""
    held_for: str = ""
    deleted: bool = False
    step: int = 0
    revision: int = 0
    reason: str = ""
    started_us: int | None = None
    clock_us: int = 0
    step_clock_us: int = 0
    anchored: bool = True
    settled_us: int = 0
    approved: Mapping[int, int | None] = field(default_factory=dict)
    revisions: Mapping[int, Counting] = field(default_factory=dict)
    evidence: Mapping[str, MetricEvidence] = field(default_factory=dict)
    totals: Mapping[str, VariantPane] = field(default_factory=dict)
    step_calls: Mapping[str, int] = field(default_factory=dict)
    step_users: Mapping[int, int] = field(default_factory=dict)
    reference: Reference = field(default_factory=Reference)
    looks: int = 0
    looked_until_us: int | None = None
    acted: frozenset[str] = frozenset()
    waiting: tuple[RolloutAction, ...] = ()
    alert: Alert | None = None

    @property
    def plan(self) -> Rollout:
        """The specification, where there must be one."""
        if self.spec is None:
            raise InvariantBroken(f"{self.key}: a rollout without its specification was acted on")
        return self.spec

    def to_dict(self) -> dict[str, Any]:
        """Return the state as what JSON can hold; `from_dict` gives back an equal state, to the last bit."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "spec": None if self.spec is None else codec.as_dict(self.spec),
            "approved": _pairs(self.approved),
            "revisions": [[revision, *counting] for revision, counting in self.revisions.items()],
            "evidence": {
                name: {
                    "curves": evidence.curves.tolist(),
                    "counts": [list(astuple(counts)) for counts in evidence.counts],
                    "failed": [evidence.failed_baseline, evidence.failed_candidate],
                }
                for name, evidence in self.evidence.items()
            },
            "totals": {variant: _pane_to_dict(pane) for variant, pane in self.totals.items()},
            "step_calls": dict(self.step_calls),
            "step_users": _pairs(self.step_users),
            "reference": [
                [number, {variant: _pane_to_dict(pane) for variant, pane in block.items()}]
                for number, block in self.reference.blocks.items()
            ],
            "acted": sorted(self.acted),
            "waiting": [codec.as_dict(action) for action in self.waiting],
            "alert": None if self.alert is None else codec.as_dict(self.alert),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "State":
        """Return the state that `to_dict` wrote."""
        return cls(
            **{name: values[name] for name in _PLAIN},
            spec=None if values["spec"] is None else codec.from_dict(Rollout, copy.deepcopy(values["spec"])),
            approved=dict(values["approved"]),
            revisions={revision: Counting(step, from_us) for revision, step, from_us in values["revisions"]},
            evidence={
                name: MetricEvidence(
                    np.array(evidence["curves"], dtype=np.float64),
                    tuple(Counts(*counts) for counts in evidence["counts"]),
                    *evidence["failed"],
                )
                for name, evidence in values["evidence"].items()
            },
            totals={variant: _pane_from_dict(pane) for variant, pane in values["totals"].items()},
            step_calls=dict(values["step_calls"]),
            step_users=dict(values["step_users"]),
            reference=Reference(
                {
                    number: {variant: _pane_from_dict(pane) for variant, pane in block.items()}
                    for number, block in values["reference"]
                }
            ),
            acted=frozenset(values["acted"]),
            waiting=tuple(codec.from_dict(RolloutAction, dict(action)) for action in values["waiting"]),
            alert=None if values["alert"] is None else codec.from_dict(Alert, copy.deepcopy(values["alert"])),
        )


def _pairs(values: Mapping[int, Any]) -> list[list[Any]]:
    return [[key, value] for key, value in values.items()]


def _pane_to_dict(pane: VariantPane) -> dict[str, Any]:
    return {
        "calls": pane.calls,
        "users": _pairs(pane.users),
        "rates": {name: list(counts) for name, counts in pane.rates.items()},
        "histograms": {name: _pairs(histogram) for name, histogram in pane.histograms.items()},
        "failures": dict(pane.failures),
    }


def _pane_from_dict(values: Mapping[str, Any]) -> VariantPane:
    return VariantPane(
        calls=values["calls"],
        users=dict(values["users"]),
        rates={name: (n, bad) for name, (n, bad) in values["rates"].items()},
        histograms={name: dict(pairs) for name, pairs in values["histograms"].items()},
        failures=dict(values["failures"]),
    )
