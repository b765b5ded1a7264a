"""Latency, cost and tokens as counts: how many units lie above an earlier quantile of the baseline.

The threshold is the edge of the histogram bucket that held the baseline's quantile in *past* panes, and the
candidate's is the same edge, moved by its margin. So "the candidate is at most 5 % slower at that level" is
"the candidate's share above the moved edge is at most the baseline's share above the edge": a statement
about two shares, tested by E-mix at odds 1. Edges are compared, values never interpolated: no error of the
histogram enters the guarantee.

Rejecting it means "slower at that level in at least some panes", not "the overall quantile differs".
"""

import math
from collections.abc import Mapping

Histogram = Mapping[int, int]
"""Bucket index -> units; `ZERO` counts zeros."""

GAMMA = 1.02
"""Ratio of neighbouring edges: bucket i holds values in (1.02^(i-1), 1.02^i]."""

ZERO = -(2**15)
"""Index of the values that are zero, below every bucket. Moving it by a factor leaves it where it is."""

_TOLERANCE = 1e-9
"""So that a margin which is exactly a power of gamma is that power, whatever its logarithm rounds to."""


def threshold(reference: Histogram, level: float) -> int | None:
    """Bucket that holds a quantile of the baseline's past; None when too little was seen to have one.

    Parameters
    ----------
    reference
        Values of the baseline in past panes.
    level
        Of the quantile, in (0, 1). One value beyond the quantile must be expected: p99 needs a hundred.
    """
    n = sum(reference.values())
    if n * min(level, 1 - level) < 1 - _TOLERANCE:
        return None
    rank, seen = level * n, 0
    for index in sorted(reference):
        seen += reference[index]
        if seen >= rank - _TOLERANCE:
            return index
    raise AssertionError("the last bucket holds the last rank")


def below_limit(reference: Histogram, index: int) -> int:
    """Return the threshold at which a promotion is tested: one lower where nothing was ever above it.

    Values that stand at a limit, as of time or of tokens, have nothing above, neither of the baseline nor of
    the candidate, and nothing can be shown of nothing. What reaches the limit can be compared. For harm the
    threshold stays: above what never was, little is enough.

    Parameters
    ----------
    reference
        Values of the baseline in past panes.
    index
        Bucket of the quantile.
    """
    highest = max((bucket for bucket, count in reference.items() if count), default=index)
    return index - 1 if index >= highest else index


def shifted(index: int, kind: str, margin: float, *, strict: bool) -> int:
    """Bucket of the candidate's threshold.

    Parameters
    ----------
    index
        Bucket of the baseline's.
    kind
        ``relative``: 0.05 is five percent above. ``absolute``: in the metric's own unit. ``odds``: the same
        bucket, the margin is in the odds.
    margin
        Negative margins move the threshold down: for harm that is a decrease.
    strict
        Round towards the baseline's threshold, away from it otherwise. A promotion margin is rounded to be
        no wider than it was stated, a rollback margin to be no narrower.
    """
    if kind == "odds" or (kind == "relative" and index == ZERO):
        return index
    if kind == "relative":
        steps = math.log(abs(margin) + 1, GAMMA)
        rounded = math.floor(steps + _TOLERANCE) if strict else math.ceil(steps - _TOLERANCE)
        return index + rounded if margin >= 0 else index - rounded
    value = (0.0 if index == ZERO else GAMMA**index) + margin
    if value < 1:
        return ZERO
    position = math.log(value, GAMMA)
    towards_below = strict == (margin >= 0)
    return math.floor(position + _TOLERANCE) if towards_below else math.ceil(position - _TOLERANCE)


def above(histogram: Histogram, index: int) -> int:
    """Count the units above a bucket."""
    return sum(count for bucket, count in histogram.items() if bucket > index)
