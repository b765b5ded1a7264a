"""Several metrics -> one decision, and which metric is to blame.

References
----------
V. Vovk, R. Wang, "E-values: calibration, combination and applications", Annals of Statistics 49, 2021,
arXiv:1912.06116: section 3 (averages, valid under any dependence) and section 4 (closed testing).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tidegate.errors import InvariantBroken


def average(log_e: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Log of the weighted mean of e-values: again an e-value, whatever the dependence between them.

    Parameters
    ----------
    log_e
        Log e-values; -inf for one that must not count.
    weights
        Non-negative; they are normalised. Equal by default.

    Raises
    ------
    InvariantBroken
        When an e-value is no number: it would compare as no evidence.
    """
    if not len(log_e):
        return 0.0
    values = np.asarray(log_e, dtype=np.float64)
    if np.isnan(values).any():
        raise InvariantBroken(f"e-values are refused because one is no number: {list(log_e)}")
    shares = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    peak = float(values.max())
    if peak == -math.inf:
        return peak
    return peak + math.log(float((shares * np.exp(values - peak)).sum() / shares.sum()))


def weights(wanted: Mapping[str, float], critical: frozenset[str]) -> dict[str, float]:
    """Normalised weights of metrics: critical ones share one half, so that each pays a small factor.

    Parameters
    ----------
    wanted
        Metric -> weight, as the rollout states it.
    critical
        Which of them are critical. The halves exist only when there are metrics of both sorts.
    """
    total = {
        sort: sum(weight for name, weight in wanted.items() if (name in critical) == sort)
        for sort in (True, False)
    }
    share = 0.5 if total[True] and total[False] else 1.0
    return {name: share * weight / total[name in critical] for name, weight in wanted.items() if weight > 0}


def to_blame(log_e: Mapping[str, float], shares: Mapping[str, float], alpha: float) -> list[str]:
    """Name the metrics that are harmful beyond doubt: all of them true with probability at least 1 - alpha.

    Closed testing: a metric is named when every group of metrics that it belongs to has a weighted mean
    e-value of 1/alpha. The lowest mean joins the metric with the smallest e-values of the others.

    Parameters
    ----------
    log_e
        Metric -> log e-value.
    shares
        Metric -> weight.
    alpha
        Probability that any metric is named wrongly.

    Returns
    -------
    list of str
        In the order of falling evidence.
    """
    return [metric for metric in _by_evidence(log_e) if _is_certain([metric], log_e, shares, alpha)]


def to_blame_together(log_e: Mapping[str, float], shares: Mapping[str, float], alpha: float) -> list[str]:
    """Fewest of the strongest metrics of which at least one is harmful beyond doubt; none without doubt.

    Whenever the average of all metrics has reached 1/alpha there are some, even if none can be named alone.
    Holds together with `to_blame` with probability at least 1 - alpha: it is the same closed testing.

    Parameters
    ----------
    log_e, shares, alpha
        See `to_blame`.
    """
    names = _by_evidence(log_e)
    groups = (names[:n] for n in range(1, len(names) + 1))
    return next((group for group in groups if _is_certain(group, log_e, shares, alpha)), [])


def _by_evidence(log_e: Mapping[str, float]) -> list[str]:
    return sorted(log_e, key=lambda name: (log_e[name], name), reverse=True)


def _is_certain(
    group: Sequence[str], log_e: Mapping[str, float], shares: Mapping[str, float], alpha: float
) -> bool:
    """Whether every set of metrics that holds the group has a mean e-value of 1/alpha."""
    others = [name for name in reversed(_by_evidence(log_e)) if name not in group]
    return all(
        average([log_e[name] for name in together], [shares[name] for name in together])
        >= math.log(1 / alpha)
        for together in ([*group, *others[:n]] for n in range(len(others) + 1))
    )
