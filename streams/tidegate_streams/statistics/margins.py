"""A margin as a person states it -> the odds ratio that a stratum is tested against."""

import math

SMALLEST_REFERENCE = 100
"""Units of the baseline, seen before, that a margin in points or percent needs: with fewer, the stated odds
would be mostly pseudo-counts."""

_CEILING = 1 - 1e-9
"""A rate that a margin reaches at most; beyond it, no harm of that size exists."""


def reference_rate(n: int, k: int) -> float | None:
    """Rate of the baseline in the past, with one pseudo-count each way; None while too little was seen.

    Parameters
    ----------
    n, k
        Units and bad events of the baseline *before* the stratum: the margin must not know the stratum.
    """
    return (k + 1) / (n + 2) if n >= SMALLEST_REFERENCE else None


def log_odds_ratio(kind: str, margin: float, reference: float | None) -> float | None:
    """Log odds ratio of a rate margin in one stratum.

    Parameters
    ----------
    kind
        ``odds``: margin is an odds ratio. ``relative``: 0.05 is five percent more bad events. ``absolute``:
        0.02 is two points more.
    margin
        See kind; at least 1 for odds, else at least 0.
    reference
        What `reference_rate` returned; odds do without.

    Returns
    -------
    float or None
        At least 0; None when the margin cannot be stated yet, so that the stratum must be left out.

    Examples
    --------
    >>> round(math.exp(log_odds_ratio("absolute", 0.02, 0.01)), 2)
    3.06
    """
    if kind == "odds":
        return math.log(margin)
    if reference is None:
        return None
    tolerated = reference * (1 + margin) if kind == "relative" else reference + margin
    tolerated = max(min(tolerated, _CEILING), reference)
    return math.log(tolerated / (1 - tolerated)) - math.log(reference / (1 - reference))
