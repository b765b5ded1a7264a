"""Did the variants get the shares of units that were asked for: a check that may be made at every look.

A comparison rests on random assignment. When a variant has more or fewer units than its share, something
loses or adds units by variant (calls that crash before they are counted, a router that obeys an old
command), and whatever decides that may also decide who fails. Then nothing should be promoted on the
comparison.

Under the null each new unit falls to a variant with the share asked for at that moment, so tilting the odds
of one variant by e^theta multiplies the likelihood by e^theta for each of its units and by 1 / (1 + share
(e^theta - 1)) for every unit: mean 1 at each unit, at shares that may change from stratum to stratum. Logs
add up, in any order; the mean over all variants and `TILTS` is an e-process, so it exceeds 1/alpha at any
look, ever, with probability at most alpha (Ville).

Assumptions: units are assigned independently, and each is counted once in its life. It lies when units are
counted again in every stratum they appear in (the more so the more often they come), when calls are counted
instead of units (a bad variant causes retries), and when counts are estimates of a sketch (an error of 1.6 %
is an imbalance of 1.6 %): `first_seen` takes exact counts from sketches. Units whose answers take longer are
seen later; a difference of seconds between variants is a few units, once.

References
----------
M. Lindon, A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, arXiv:2011.03567,
section 2 (a Dirichlet mixture where this one is of tilts, which shares that ramp leave as it is).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics.emix import Floats
from tidegate_streams.users import REGISTERS

_CROWD = 1 / 2
"""Newcomers a register that `first_seen` allows: three of one rank share one in 1 case of 200, which moves a
share of 10 % by less than 0.02 points."""

TILTS: Floats = np.concatenate([-np.geomspace(0.02, 1.0, 8), np.geomspace(0.02, 1.0, 8)])
"""Changes of the log odds of one variant: from 2 % more or fewer units to 2.7 times as many."""


def log_factors(units: Sequence[float], shares: Sequence[float]) -> Floats:
    """Log of what a stratum multiplies the evidence by.

    Parameters
    ----------
    units
        New units of each variant, two variants or more: those of a stratum, or of all strata in which the
        same shares were asked for.
    shares
        What was asked for, in the same order and any unit, such as basis points. A share of 0 tolerates no
        unit at all.

    Returns
    -------
    numpy.ndarray
        Shape (variants, 16): for each variant the `TILTS` of its odds. Add over strata.

    Raises
    ------
    InvariantBroken
        When counts or shares are no such numbers.

    Examples
    --------
    >>> halves = log_factors([5_500, 4_500], [5_000, 5_000])
    >>> round(log_e(halves), 1)
    47.1
    >>> log_e(log_factors([5_050, 4_950], [5_000, 5_000])) < math.log(1_000)
    True
    """
    counts, asked = np.asarray(units, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if not (
        counts.ndim == 1
        and counts.shape == asked.shape
        and np.isfinite(counts).all()
        and np.isfinite(asked).all()
        and (counts >= 0).all()
        and (asked >= 0).all()
        and asked.sum() > 0
    ):
        raise InvariantBroken(
            f"the sample ratio of units {list(units)} at shares {list(shares)} cannot be checked: give one "
            f"count and one share a variant, none negative, and shares that are not all zero"
        )
    usual = np.log1p(np.multiply.outer(asked / asked.sum(), np.expm1(TILTS)))
    factors: Floats = np.multiply.outer(counts, TILTS) - counts.sum() * usual
    return factors


def log_e(total: Floats) -> float:
    """Log e-value against "units fell as they were asked to"; void the comparison at log(1/alpha).

    Parameters
    ----------
    total
        Sum of strata, shape (variants, 16).
    """
    peak = float(total.max())
    return peak + math.log(float(np.exp(total - peak).mean()))


def first_seen(seen: Mapping[int, int], sketches: Sequence[Mapping[int, int]]) -> list[float]:
    """Count units that no earlier stratum has seen, from sketches of distinct users.

    A register that rises above all that was seen rises by a newcomer, the one with the largest hash, and
    which variant that one got is as random as its hash. So these newcomers are counted, and no other unit:
    nothing is estimated and nobody is counted twice, at the price of a sample that grows by some 2,000 with
    each doubling of the units once there are more than some thousands.

    Parameters
    ----------
    seen
        Sketch of the units of all variants in earlier strata: register -> rank, see `users`.
    sketches
        Sketch of the units of each variant in this stratum.

    Returns
    -------
    list of float
        New units of each variant for `log_factors`. Half a unit each where two variants raise a register to
        the same rank: with two units of unknown variants, that is the right mean.

    Notes
    -----
    When a stratum fills so many registers that newcomers would meet in them, only those with rarer hashes
    count, each further rank halving their number. Where users are not what is assigned (tenants are), a
    sketch of users lies: those of one tenant go together.
    """
    highest: dict[int, int] = {}
    for sketch in sketches:
        for register, rank in sketch.items():
            highest[register] = max(rank, highest.get(register, 0))
    crowd = -math.log1p(-min(len(highest), REGISTERS - 1) / REGISTERS)
    least = 1 + max(0, math.ceil(math.log2(crowd / _CROWD))) if crowd else 1
    counts = [0.0] * len(sketches)
    for register, rank in highest.items():
        if rank > seen.get(register, 0) and rank >= least:
            holders = [i for i, sketch in enumerate(sketches) if sketch.get(register) == rank]
            for i in holders:
                counts[i] += 1 / len(holders)
    return counts
