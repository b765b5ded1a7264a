"""Calls of one unit resemble each other: how much noise that adds, and evidence that allows for it.

Variants are assigned to units (users, sessions), while metrics count calls. Ten calls of one user are then
less than ten witnesses. The *design effect* is the variance of a rate over what it were with independent
calls; a curve divided by it (*tempered*) is as steep as so much less evidence, so that its e-values err as
seldom as those of independent calls.

It is known from traffic that serves one variant (A/A), by the spread of differences between random halves of
the units, which needs no unit to be followed. Never take it from the rollout that it is to judge: a harmful
candidate changes it.

Assumptions and limits: tempering is right for many units, none of which dominates (it matches mean and
variance, not the exact law), and for history that resembles what comes. It lies with fewer than some hundred
units, or when a few of them make most calls. A design effect is at least 1: less would sharpen evidence on
the word of noise.

References
----------
J. N. K. Rao, A. J. Scott, "A simple method for the analysis of clustered binary data", Biometrics 48, 1992,
section 2 (design effects, and dividing by them). F. E. Satterthwaite, "An approximate distribution of
estimates of variance components", Biometrics Bulletin 2, 1946 (blocks of unequal weight). E. B. Wilson, M. M.
Hilferty, "The distribution of chi-square", PNAS 17, 1931.
"""

import math
from dataclasses import dataclass
from typing import Self

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics.emix import Counts, Floats

FEWEST_BLOCKS = 30
"""With which the standard error of a design effect from halves is a quarter of it."""

_LIKELY = 0.842
"""Standard deviations that a normal variable is below with probability 0.8."""


@dataclass(frozen=True, slots=True)
class Excess:
    """By how much one random half of the units had more bad events than its share; adds up within a block.

    Parameters
    ----------
    excess
        Bad events above what the totals of each stratum give it.
    variance
        Of it, if calls were independent.
    """

    excess: float = 0.0
    variance: float = 0.0

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """Excess in one stratum.

        Parameters
        ----------
        counts
            With one half of the units as baseline and the other as candidate. They are compared within strata
            only, as variants are.
        """
        n, k = counts.n_baseline + counts.n_candidate, counts.k_baseline + counts.k_candidate
        if n < 2:
            return cls()
        expected = counts.n_candidate * k / n
        return cls(counts.k_candidate - expected, expected * counts.n_baseline * (n - k) / (n * (n - 1)))

    def __add__(self, other: "Excess") -> "Excess":
        return Excess(self.excess + other.excess, self.variance + other.variance)


@dataclass(frozen=True, slots=True)
class HalfSums:
    """What blocks of time say of two random halves of the units that had the same variant.

    Parameters
    ----------
    squares
        Sum over blocks of the squared excess. A block must be long beside the time that a unit stays: what
        one unit does in two blocks is missed.
    variance
        Sum of the variances that the excesses had if calls were independent.
    variance_squared
        Sum of the squares of these.
    """

    squares: float = 0.0
    variance: float = 0.0
    variance_squared: float = 0.0

    @classmethod
    def of(cls, block: Excess) -> Self:
        """Sums of one block that is complete."""
        return cls(block.excess**2, block.variance, block.variance**2)

    def __add__(self, other: "HalfSums") -> "HalfSums":
        return HalfSums(
            self.squares + other.squares,
            self.variance + other.variance,
            self.variance_squared + other.variance_squared,
        )

    def faded(self, share: float) -> "HalfSums":
        """Let each block count for so much of what it did, a share in [0, 1]."""
        return HalfSums(self.squares * share, self.variance * share, self.variance_squared * share**2)

    @property
    def blocks(self) -> float:
        """Blocks of equal weight that would tell as much: those of a quiet night count for little."""
        return self.variance**2 / self.variance_squared if self.variance_squared > 0 else 0.0

    def estimate(self) -> float | None:
        """Spread of the halves over that of independent calls, at least 1; None before `FEWEST_BLOCKS`.

        Its standard error is sqrt(2 / blocks) of it.
        """
        return None if self.blocks < FEWEST_BLOCKS else max(1.0, self.squares / self.variance)

    def design_effect(self) -> float | None:
        """Return what the spread is below with probability 0.8, at least 1; None before `FEWEST_BLOCKS`.

        Tempering by an estimate would err too often whenever it is too low. Squared excesses of many units
        are in the limit a multiple of chi-squared variables (`blocks` degrees of freedom, Satterthwaite), and
        Wilson and Hilferty's root of such a variable is nearly normal. 1.28 times the estimate with 30
        blocks, 1.08 times with 250. Evidence of independent calls then needs so many times as many of them.
        """
        if self.blocks < FEWEST_BLOCKS:
            return None
        ninth = 2 / (9 * self.blocks)
        return max(1.0, self.squares / self.variance / (1 - ninth - _LIKELY * math.sqrt(ninth)) ** 3)


def tempered(curve: Floats, design_effect: float) -> Floats:
    """Take from a curve what dependence lends it.

    Parameters
    ----------
    curve
        Log-likelihoods or log factors, any shape; a stratum's or a sum.
    design_effect
        At least 1, known before the strata were seen. While none is known, 1 says that calls are independent.

    Returns
    -------
    numpy.ndarray
        Of the same shape; e-values, estimate and confidence sequence are read from it as from any curve.

    Notes
    -----
    Where calls are independent after all, an e-value stays one (Jensen): tempering then costs time, never
    truth.
    """
    if not 1 <= design_effect < math.inf:
        raise InvariantBroken(
            f"a design effect of {design_effect} is refused: it is at least 1, and 1 where none is known"
        )
    return curve / design_effect
