"""A margin of a rate as a person states it -> what it lets the candidate's rate be."""

from typing import NamedTuple

SMALLEST_REFERENCE = 100
"""Units of the baseline, seen before, that a margin in points or percent waits for: with fewer, its usual
rate would be mostly pseudo-counts, and evidence would be lost on alternatives that cannot be."""

_WIDEST = 1 - 1e-6
"""Of a line's offset: with an offset of 1 nothing would be left beyond the line."""


class Line(NamedTuple):
    """Largest rate of the candidate that a margin tolerates, at each rate of the baseline.

    Parameters
    ----------
    slope, offset
        slope * rate + offset; 1 and 0 tolerate nothing.
    """

    slope: float
    offset: float


def line(kind: str, margin: float) -> Line:
    """Line of a margin that is no odds ratio.

    Parameters
    ----------
    kind
        ``relative``: 0.05 is five percent more bad events. ``absolute``: 0.02 is two points more.
    margin
        At least 0.

    Examples
    --------
    >>> line("absolute", 0.02)
    Line(slope=1.0, offset=0.02)
    """
    return Line(1 + margin, 0.0) if kind == "relative" else Line(1.0, min(margin, _WIDEST))


def reference_rate(n: int, k: int) -> float | None:
    """Rate of the baseline in the past, with one pseudo-count each way; None while too little was seen.

    Parameters
    ----------
    n, k
        Units and bad events of the baseline *before* the stratum: stakes must not know the stratum.
    """
    return (k + 1) / (n + 2) if n >= SMALLEST_REFERENCE else None
