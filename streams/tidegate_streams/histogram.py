"""Log-bucket histograms of whole numbers: merge by adding counts, read quantiles within one percent.

Bucket i holds the integers in (1.02^(i-1), 1.02^i]. Its edges are computed once with exact integers and
values are placed by comparing integers, so the same value lands in the same bucket on every machine, whatever
its logarithm does.
"""

import numpy as np
import numpy.typing as npt

GAMMA = 1.02
"""Ratio of neighbouring bucket edges; half of it is the relative error of a quantile."""

LARGEST = 2**63 - 1


def _edges() -> npt.NDArray[np.int64]:
    edges = []
    power, scale = 1, 1
    while (edge := power // scale) <= LARGEST:
        edges.append(edge)
        power, scale = power * 102, scale * 100
    return np.array([*edges, LARGEST], dtype=np.int64)


EDGES = _edges()
"""Largest integer of each bucket, ascending; the last bucket ends at the largest int64."""


# A cell is a 256th of a doubling, by the leading bits of a float64: it meets at most two buckets.
_CELL_BITS = 44
_FIRST_CELL = int(np.float64(1).view(np.int64)) >> _CELL_BITS
_EXACT_FLOAT = 2**53


def _cell_buckets() -> npt.NDArray[np.int64]:
    cells = (np.arange(53 * 256, dtype=np.int64) + _FIRST_CELL) << _CELL_BITS
    lowest = np.ceil(cells.view(np.float64)).astype(np.int64)
    return np.searchsorted(EDGES, lowest, side="left")


_CELL_BUCKETS = _cell_buckets()


def bucket(values: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Bucket index of each value.

    Parameters
    ----------
    values
        Integers of at least 1. Zeros are counted beside the histogram, and negative values have no bucket.
    """
    whole = np.asarray(values, dtype=np.int64)
    if whole.size and whole.max() >= _EXACT_FLOAT:
        return np.searchsorted(EDGES, whole, side="left").astype(np.int16)
    cells = (whole.astype(np.float64).view(np.int64) >> _CELL_BITS) - _FIRST_CELL
    index: npt.NDArray[np.int64] = _CELL_BUCKETS[cells]
    return (index + (whole > EDGES[index])).astype(np.int16)


def representative(index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The value of least relative error to everything in a bucket: exact where a bucket holds one integer."""
    high = EDGES[index].astype(np.float64)
    low = np.where(index > 0, EDGES[np.maximum(index - 1, 0)].astype(np.float64) + 1, 1.0)
    return 2 * low * high / (low + high)


def quantiles(
    q: npt.ArrayLike,
    index: npt.ArrayLike,
    counts: npt.ArrayLike,
    zeros: int = 0,
    smallest: int | None = None,
    largest: int | None = None,
) -> npt.NDArray[np.float64]:
    """Quantiles of a histogram, each within one percent of the value of its rank.

    Parameters
    ----------
    q
        Quantiles asked for, in [0, 1]. The one of q is the value of rank ceil(q n), at least the first:
        always a value that occurred, never a point between two (numpy calls it ``inverted_cdf``).
    index, counts
        Bucket indexes, ascending, and how many values each holds.
    zeros
        How many values were zero.
    smallest, largest
        Smallest and largest value, zeros included, if known; estimates never leave them.

    Returns
    -------
    numpy.ndarray
        One estimate per q, in the unit of the values; NaN when nothing was counted.
    """
    wanted = np.atleast_1d(np.asarray(q, dtype=np.float64))
    buckets = np.asarray(index, dtype=np.int64)
    below = zeros + np.cumsum(np.asarray(counts, dtype=np.int64))
    n = int(below[-1]) if len(below) else zeros
    if n == 0:
        return np.full(wanted.shape, np.nan)
    rank = np.clip(np.ceil(wanted * n).astype(np.int64), 1, n)
    estimate = np.zeros(wanted.shape)
    positive = rank > zeros
    estimate[positive] = representative(buckets[np.searchsorted(below, rank[positive], side="left")])
    return np.clip(estimate, smallest, largest)
