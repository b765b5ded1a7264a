"""What is compared with what: the variants of a rollout, their shares and their part of the errors."""

from dataclasses import asdict
from typing import NamedTuple

from tidegate.records import Rollout, Variant
from tidegate_streams.rollouts.strategies import STRATEGIES, share_bp

FULL_BP = 10_000


class Alphas(NamedTuple):
    """Error probabilities of one candidate.

    Parameters
    ----------
    rollback
        Of giving it up although it is within every rollback margin.
    promotion
        Of promoting it although it is at or beyond a promotion margin.
    """

    rollback: float
    promotion: float


def baseline(spec: Rollout) -> Variant:
    """Return the variant that traffic goes back to."""
    return next(variant for variant in spec.variants if variant.role == "baseline")


def candidates(spec: Rollout) -> list[Variant]:
    """Return the variants that are tried, each beside the baseline, in the order of the specification."""
    return [variant for variant in spec.variants if variant.role == "candidate"]


def alphas(spec: Rollout) -> Alphas:
    """Return what each candidate may err: what the rollout may, divided by the number of candidates.

    By the union bound the rollout then errs about any of them at most as often as it states, however they
    depend on each other through the baseline that they share. The parts of those that are given up stay
    spent.
    """
    n = len(candidates(spec))
    return Alphas(spec.alpha_rollback / n, spec.alpha_promotion / n)


def each_bp(spec: Rollout, step: int) -> int:
    """Share of one candidate in a step, served or mirrored: an even part of the step's, in basis points."""
    return share_bp(spec.strategy, spec.steps[step]) // len(candidates(spec))


def served_bp(spec: Rollout, step: int, dropped: frozenset[str] = frozenset()) -> dict[str, int]:
    """Share that each variant is asked to serve in a step: 10,000 basis points together.

    Parameters
    ----------
    spec
        The rollout.
    step
        From 0.
    dropped
        Candidates that were given up: the baseline serves their share.
    """
    serves = STRATEGIES[spec.strategy].serves
    shares = {
        variant.name: each_bp(spec, step) if serves and variant.name not in dropped else 0
        for variant in candidates(spec)
    }
    base = baseline(spec).name
    rest = FULL_BP - sum(shares.values())
    return {variant.name: rest if variant.name == base else shares[variant.name] for variant in spec.variants}


def identity(variant: Variant) -> str:
    """Return what a variant is, whatever its role; of two with one name that differ in it, two."""
    definition = asdict(variant)
    return " ".join(f"{key}={value}" for key, value in definition.items() if key != "role" and value)
