"""Which variant serves a unit: a pure function of the unit and the command in force."""

from dataclasses import dataclass, replace

import xxhash

from tidegate.records import DeploymentCommand, LLMCall, Weight
from tidegate.vocabulary import ASSIGNMENT_UNIT, OTHER

WHOLE_BP = 10_000

_BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a unit of traffic is served with.

    Parameters
    ----------
    deployment
        The routed thing.
    variant
        Name of the variant.
    reason
        ``split`` where variants are compared, ``static`` where one variant serves all, ``default`` where
        nothing is known: no command yet, or no unit to assign by.
    definition
        The variant's prompt, model and configuration, as the rollout defines them; None by default.
    revision
        Revision of the command obeyed.
    hash
        Salted hash of the unit, as a signed 64-bit integer.
    experiment
        The rollout that assigned.
    assignment_unit
        What the unit is: user, session, tenant or request.
    is_shadow
        Whether it serves nobody: a copy of a call is made to see what the variant would have done.
    """

    deployment: str
    variant: str
    reason: str
    definition: Weight | None = None
    revision: int | None = None
    hash: int | None = None
    experiment: str | None = None
    assignment_unit: str | None = None
    is_shadow: bool = False

    def mark(self, call: LLMCall) -> None:
        """Say on a call how it was assigned."""
        call.deployment = self.deployment
        call.variant = self.variant
        call.experiment = self.experiment
        unit = self.assignment_unit
        # A newer release's command may name a unit that is unknown here: no reason to refuse the call.
        call.assignment_unit = unit if unit is None or unit in ASSIGNMENT_UNIT else OTHER
        call.assignment_hash = self.hash
        call.assignment_reason = self.reason
        call.assignment_revision = self.revision
        if self.is_shadow:
            call.traffic = "shadow"


def assignment_hash(salt: str, unit: str) -> int:
    """Return the salted hash of a unit, 64 bits without sign."""
    return xxhash.xxh64_intdigest(f"{salt}/{unit}".encode(errors="surrogatepass"))


def signed(value: int) -> int:
    """Return 64 bits as the signed integer that Avro has."""
    return value - 2**64 if value >= 2**63 else value


def assign(command: DeploymentCommand, unit: str) -> Assignment:
    """Return the variant that a command gives to a unit.

    The lower half of the hash says which candidate a unit may get, the upper half whether it gets it or the
    baseline: raising shares moves units from the baseline to a candidate and no other way, giving up a
    candidate moves its own units to the baseline and nobody else.
    """
    value = assignment_hash(command.salt, unit)
    weight = choose(command.weights, value)
    compared = sum(w.weight_bp > 0 or w.mirror_bp > 0 for w in command.weights) > 1
    return Assignment(
        deployment=command.deployment,
        variant=weight.variant,
        reason="split" if compared else "static",
        definition=weight,
        revision=command.revision,
        hash=signed(value),
        experiment=command.rollout,
        assignment_unit=command.assignment_unit,
    )


def mirror(command: DeploymentCommand, unit: str) -> Assignment | None:
    """Return the variant that a copy of a unit's calls goes to, which serves nobody; None without one.

    By the same half of the hash that decides who is served: raising the share adds units and drops none.
    """
    value = assignment_hash(command.salt, unit)
    mirrored = next((w for w in command.weights if w.mirror_bp > 0), None)
    if mirrored is None or (value >> 32) * WHOLE_BP >> 32 >= mirrored.mirror_bp:
        return None
    return replace(assign(command, unit), variant=mirrored.variant, definition=mirrored, is_shadow=True)


def choose(weights: list[Weight], value: int) -> Weight:
    """Return the weight under a 64-bit hash; `unusable` must have found nothing wrong with them."""
    candidates = [w for w in weights if w.role != _BASELINE]
    place_bp, lower = (value >> 32) * WHOLE_BP >> 32, value & 0xFFFF_FFFF
    n = len(candidates)
    if all(w.weight_bp * n <= WHOLE_BP for w in candidates):
        own = candidates[lower * n >> 32] if n else None
        if own is not None and place_bp < own.weight_bp * n:
            return own
        return next(w for w in weights if w.role == _BASELINE)
    # One has more than an even part of everything: then they divide their share as it is divided.
    share_bp = sum(w.weight_bp for w in candidates)
    if place_bp >= share_bp:
        return next(w for w in weights if w.role == _BASELINE)
    within_bp = lower * share_bp >> 32
    for weight in candidates:
        if within_bp < weight.weight_bp:
            return weight
        within_bp -= weight.weight_bp
    raise AssertionError("the candidates' weights sum to their share")


def unusable(command: DeploymentCommand) -> str | None:
    """Return why a command cannot be routed by; None when it can."""
    if any(w.weight_bp < 0 for w in command.weights):
        return "a weight is negative"
    total_bp = sum(w.weight_bp for w in command.weights)
    if total_bp != WHOLE_BP:
        return f"its weights sum to {total_bp} basis points, not {WHOLE_BP}"
    baselines = sum(w.role == _BASELINE for w in command.weights)
    if baselines != 1:
        return f"it has {baselines} baselines, not one"
    return None
