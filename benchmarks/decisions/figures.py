"""A measured figure beside what it must not exceed, with the uncertainty of the simulation."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

Z = 1.96


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Parameters
    ----------
    goal
        Such as G1.
    case
        What was simulated.
    rule
        What decided: ``tidegate`` or the name of a rule that others use.
    value
        The figure, in `unit`.
    low, high
        95 % confidence interval of it.
    bound
        What it must not exceed; None where it is only beside others.
    is_met
        Whether it does not; None without a bound.
    """

    goal: str
    case: str
    rule: str
    unit: str
    value: float
    low: float
    high: float
    bound: float | None = None
    is_met: bool | None = None

    def cells(self) -> list[str]:
        """Write it as the cells of a table."""
        scale, suffix = (100, " %") if self.unit == "share" else (1, "")
        digits = 2 if scale * self.high < 20 else 1 if scale * self.high < 1_000 else 0

        def number(value: float) -> str:
            if math.isnan(value):
                return "-"
            return f"{value:.1g}" if 0 < value < 1e-6 else f"{scale * value:,.{digits}f}{suffix}"

        bound = "" if self.bound is None else f"<= {scale * self.bound:,.6g}{suffix}"
        met = {None: "", True: "met", False: "MISSED"}[self.is_met]
        between = f"{number(self.low)} to {number(self.high)}"
        unit = "" if self.unit in ("share", "times") else f" {self.unit}"
        return [self.goal, self.case, self.rule, number(self.value) + unit, between, bound, met]

    def written(self) -> str:
        """Write it as a line."""
        goal, case, rule, value, between, bound, met = self.cells()
        return f"{goal:4} {case:54} {rule:22} {value:>18} {between:>24} {bound:>12} {met}"


def share(
    goal: str,
    case: str,
    hits: npt.NDArray[np.bool_],
    bound: float | None = None,
    *,
    rule: str = "tidegate",
) -> Figure:
    """How often something happened, with Clopper and Pearson's interval.

    A bound on a probability is missed when it is exceeded by more than two standard errors of a rule that is
    exactly at the bound.
    """
    runs, n = len(hits), int(hits.sum())
    low = float(beta.ppf(0.025, n, runs - n + 1)) if n else 0.0
    high = float(beta.ppf(0.975, n + 1, runs - n)) if n < runs else 1.0
    met = None if bound is None else n / runs <= bound + 2 * math.sqrt(bound * (1 - bound) / runs)
    return Figure(goal, case, rule, "share", n / runs, low, high, bound, met)


def mean(
    goal: str,
    case: str,
    values: npt.NDArray[np.float64],
    bound: float | None = None,
    *,
    rule: str = "tidegate",
    unit: str = "requests",
) -> Figure:
    """Mean of what took so many requests; NaN, and a bound missed, when a run was not decided at all."""
    if not np.isfinite(values).all():
        case, unknown = _undecided(case, values), math.nan
        return Figure(
            goal, case, rule, unit, unknown, unknown, unknown, bound, None if bound is None else False
        )
    middle, error = float(values.mean()), Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    met = None if bound is None else middle <= bound
    return Figure(goal, case, rule, unit, middle, middle - error, middle + error, bound, met)


def ratio(
    goal: str, case: str, values: npt.NDArray[np.float64], others: npt.NDArray[np.float64], bound: float
) -> Figure:
    """Ratio of two means over the same runs, by linearisation."""
    if not (np.isfinite(values) & np.isfinite(others)).all():
        case, unknown = _undecided(case, values + others), math.nan
        return Figure(goal, case, "tidegate", "times", unknown, unknown, unknown, bound, is_met=False)
    middle = float(values.mean() / others.mean())
    spread = float((values - middle * others).std(ddof=1) / others.mean())
    error = Z * spread / math.sqrt(len(values))
    return Figure(
        goal, case, "tidegate", "times", middle, middle - error, middle + error, bound, middle <= bound
    )


def _undecided(case: str, values: npt.NDArray[np.float64]) -> str:
    return f"{case} ({int((~np.isfinite(values)).sum())} of {len(values)} undecided)"
