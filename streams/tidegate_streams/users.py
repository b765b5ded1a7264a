"""Distinct users by HyperLogLog: a few bytes a user, merged by the largest rank of each register.

References
----------
O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284, 2017: the
estimator without bias tables used here.
"""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xxhash

PRECISION = 12
REGISTERS = 1 << PRECISION
"""4,096 registers: a standard error of 1.6 %."""

_RANK_BITS = 64 - PRECISION


def hash_users(scoped: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    """xxh64 of each user, scoped by tenant: the tenant, a zero byte, the user's hash.

    In ClickHouse: ``xxHash64(concat(tenant, char(0), user_hash))``.
    """
    digest = xxhash.xxh64_intdigest
    return np.array([digest(user) for user in scoped], dtype=np.uint64)


def registers(hashes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int8]]:
    """Register of each hash (its top 12 bits) and rank in it (leading zeros of the other 52, plus one)."""
    register = (hashes >> np.uint64(_RANK_BITS)).astype(np.int16)
    rest = hashes & np.uint64((1 << _RANK_BITS) - 1)
    # 52 bits are exact in a float64, so its exponent is the bit length.
    _, bit_length = np.frexp(rest.astype(np.float64))
    return register, (_RANK_BITS - bit_length + 1).astype(np.int8)


def estimate(ranks: npt.ArrayLike) -> int:
    """Distinct users seen by a sketch.

    Parameters
    ----------
    ranks
        The rank of every register that was touched; the others are empty.

    Returns
    -------
    int
        Estimate with a standard error of 1.6 %; nearly exact below a few hundred.
    """
    touched = np.asarray(ranks, dtype=np.int64)
    counts = np.bincount(touched, minlength=_RANK_BITS + 2)
    if not len(touched):
        return 0
    total = REGISTERS * _tau(1 - counts[_RANK_BITS + 1] / REGISTERS)
    for rank in range(_RANK_BITS, 0, -1):
        total = 0.5 * (total + counts[rank])
    total += REGISTERS * _sigma((REGISTERS - len(touched)) / REGISTERS)
    return round(REGISTERS * REGISTERS / (2 * math.log(2)) / total)


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z, previous = 1.0, x, -1.0
    while z != previous:
        x *= x
        previous = z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, previous = 1.0, 1.0 - x, -1.0
    while z != previous:
        x = math.sqrt(x)
        previous = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
    return z / 3
