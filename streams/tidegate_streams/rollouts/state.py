"""What the machine remembers of one deployment: plain data, never changed in place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tidegate.errors import InvariantBroken
from tidegate.records import Alert, Rollout, RolloutAction
from tidegate_streams.rollouts.comparing import MetricEvidence
from tidegate_streams.rollouts.halves import Halves
from tidegate_streams.rollouts.reference import Reference
from tidegate_streams.rollouts.split import Split
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.variants import candidates


class Counting(NamedTuple):
    """What calls that obeyed one revision count for.

    Parameters
    ----------
    step
        Step of the rollout.
    from_us
        Calls of panes before it belong to the warm-up and do not count.
    dropped
        Candidates that had been given up: they are asked to serve nobody.
    """

    step: int
    from_us: int
    dropped: frozenset[str] = frozenset()


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
        In `holding`: ``approval``, ``time``, ``person``, ``split`` of users, or ``loss`` of its evidence.
        Before the first step: ``person`` or ``freeze``. Else empty.
    deleted
        Whether the specification was withdrawn.
    step
        Present step, from 0.
    dropped
        Candidates that were given up while others go on.
    winner
        The candidate that is promoted; empty before.
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
        Candidate -> metric -> evidence. That of a candidate that was given up stays as it was then.
    totals
        Variant -> what it did in all strata that count.
    silence
        Metric -> variant -> calls since it was last observed.
    step_calls
        Variant -> calls in the present step.
    step_users
        Candidate -> sketch of its users in the present step.
    split
        Whether users fell to the variants as they were asked to.
    reference
        The past hour of each variant.
    halves
        The serving variant compared with itself, over all of the deployment's rollouts.
    looks, looked_until_us
        How often it was looked at, and the end of the last pane.
    failed
        Variant, by what it is, -> the rollout that it was rolled back in; over all of the deployment's.
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
    dropped: frozenset[str] = frozenset()
    winner: str = ""
    revision: int = 0
    reason: str = ""
    started_us: int | None = None
    clock_us: int = 0
    step_clock_us: int = 0
    anchored: bool = True
    settled_us: int = 0
    approved: Mapping[int, int | None] = field(default_factory=dict)
    revisions: Mapping[int, Counting] = field(default_factory=dict)
    evidence: Mapping[str, Mapping[str, MetricEvidence]] = field(default_factory=dict)
    totals: Mapping[str, VariantPane] = field(default_factory=dict)
    silence: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    step_calls: Mapping[str, int] = field(default_factory=dict)
    step_users: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    split: Split = field(default_factory=Split)
    reference: Reference = field(default_factory=Reference)
    halves: Halves = field(default_factory=Halves)
    looks: int = 0
    looked_until_us: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    acted: frozenset[str] = frozenset()
    waiting: tuple[RolloutAction, ...] = ()
    alert: Alert | None = None

    @property
    def plan(self) -> Rollout:
        """The specification, where there must be one."""
        if self.spec is None:
            raise InvariantBroken(f"{self.key}: a rollout without its specification was acted on")
        return self.spec

    @property
    def tried(self) -> list[str]:
        """Names of the candidates that have not been given up; only the winner once there is one."""
        names = [one.name for one in candidates(self.plan) if one.name not in self.dropped]
        return [name for name in names if self.winner in ("", name)]
