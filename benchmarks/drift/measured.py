"""Run lengths and delays with their uncertainty."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from tidegate_streams.statistics.emix import Floats

Z = 1.96


class Between(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def written(self) -> str:
        if math.isnan(self.value):
            return "-"
        if math.isinf(self.value):
            return f"over {_rounded(self.low)}"
        return f"{_rounded(self.value)} ({_rounded(self.low)} to {_rounded(self.high)})"


def _rounded(x: float) -> str:
    if math.isinf(x):
        return "∞"
    return f"{float(f'{x:.3g}'):,.10g}"


def run_length(alarms: int, samples: int) -> Between:
    """Samples between false alarms, by Poisson's law of their number; infinite where there was none."""
    if not samples:
        return Between(math.nan, math.nan, math.nan)
    most = float(chi2.ppf(0.975, 2 * (alarms + 1)) / 2)
    least = float(chi2.ppf(0.025, 2 * alarms) / 2) if alarms else 0.0
    return Between(
        samples / alarms if alarms else math.inf, samples / most, samples / least if least else math.inf
    )


def delay(samples: Floats) -> Between:
    """Mean of the delays that there were; NaN of fewer than two."""
    known = samples[np.isfinite(samples)]
    if len(known) < 2:
        return Between(math.nan, math.nan, math.nan)
    middle, error = float(known.mean()), Z * float(known.std(ddof=1)) / math.sqrt(len(known))
    return Between(middle, max(middle - error, 0.0), middle + error)


class Row(NamedTuple):
    """A detector on a case.

    Parameters
    ----------
    case, detector
        As in the tables.
    between
        Samples between false alarms.
    delay
        Samples from a change to its alarm, where there was one.
    found, changes
        How many changes were found, of how many.
    goals
        Samples between false alarms at least, and of delay at most; None without a goal.
    """

    case: str
    detector: str
    between: Between
    delay: Between
    found: int
    changes: int
    goals: tuple[float | None, float | None] = (None, None)

    @property
    def misses(self) -> list[str]:
        """Goals that were missed."""
        least, most = self.goals
        missed = []
        # The run length has a goal as its own interval allows: chance alone must not fail it.
        if least is not None and self.between.high < least:
            missed.append(f"{self.case}: false alarms {self.between.written()} apart, wanted {least:,.0f}")
        if most is not None and not self.delay.value <= most:
            missed.append(f"{self.case}: found after {self.delay.written()}, wanted {most:,.0f}")
        return missed

    def cells(self) -> list[str]:
        goals = [
            f"≥ {g:,.0f}" if i == 0 else f"≤ {g:,.0f}" for i, g in enumerate(self.goals) if g is not None
        ]
        return [
            self.case,
            self.detector,
            self.between.written(),
            self.delay.written(),
            f"{self.found} of {self.changes}" if self.changes else "",
            ", ".join(goals),
        ]


HEAD = ["case", "detector", "samples between false alarms", "samples until found", "found", "goal"]


def table(rows: list[Row]) -> str:
    """Rows as Markdown, without the last column where no row has a goal."""
    has_goals = any(row.cells()[-1] for row in rows)
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line if has_goals else line[:-1])} |" for line in lines)
