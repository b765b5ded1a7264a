"""The judge of Kayenta as its documentation and tests have it, and ours on the cases of its tests.

It compares two time series of a metric, a point a minute: an interval for the shift between them (Hodges and
Lehmann, by the ranks of Mann and Whitney), and *high* or *low* where that lies beyond a part of the shift.
"""

import gzip
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from benchmarks.real_cases.judging import Judged, judge

DATA = Path(__file__).parent / "data" / "kayenta.jsonl.gz"
_INCREASE_IS = {"Either": "both", "Increase": "bad", "Decrease": "good"}
_SCALE = 1_000_000
"""Values of the cases have no unit; ours are whole numbers."""

_ENOUGH = 2_000
"""Points to go on with, at least."""

Points = npt.NDArray[np.float64]


def classify(
    control: Points,
    experiment: Points,
    direction: str = "Increase",
    tolerance: float = 0.25,
    level: float = 0.98,
    effect_sizes: tuple[float, float] | None = None,
    missing: str = "Nodata",
) -> str:
    """``Pass``, ``High``, ``Low`` or ``Nodata``; the defaults are those of its Netflix judge."""
    if not len(control) or not len(experiment):
        return missing
    if np.array_equal(control, experiment):
        return "Pass"
    low, shift, high = _shift(control, experiment, level)
    least, most = effect_sizes or (1.0, 1.0)
    mean = control.mean()
    ratio = experiment.mean() / mean if mean else math.inf
    if direction != "Decrease" and low > tolerance * abs(shift) and ratio >= most:
        return "High"
    if direction != "Increase" and high < -tolerance * abs(shift) and ratio <= least:
        return "Low"
    return "Pass"


def _shift(control: Points, experiment: Points, level: float) -> tuple[float, float, float]:
    """Lower end, estimate and upper end of the shift: where ranks tell the shifted series apart no more."""
    least, most = float(experiment.min() - control.max()), float(experiment.max() - control.min())
    if least == most:
        return least, least, least

    def beyond(shift: float, z: float) -> float:
        m, n = len(experiment), len(control)
        ranks = rankdata(np.concatenate([experiment - shift, control]))
        excess = ranks[:m].sum() - m * (m + 1) / 2 - m * n / 2
        _, tied = np.unique(ranks, return_counts=True)
        ties = float((tied.astype(float) ** 3 - tied).sum()) / ((m + n) * (m + n - 1))
        spread = math.sqrt(m * n / 12 * (m + n + 1 - ties))
        return float((excess - math.copysign(0.5, excess) * bool(excess)) / spread - z)

    def root(z: float) -> float:
        if beyond(least, z) <= 0:
            return least
        if beyond(most, z) >= 0:
            return most
        return float(brentq(beyond, least, most, args=(z,), xtol=1e-4))

    z = float(norm.ppf((1 + level) / 2))
    return root(z), root(0.0), root(-z)


class Case(NamedTuple):
    """One of its test cases.

    Parameters
    ----------
    name, points
        As the test has them; points of the experiment.
    expected
        By the test.
    rendered
        By `classify`.
    ours, later
        What we say of the points, and of the same points again and again. None where nothing is compared.
    """

    name: str
    points: int
    expected: str
    rendered: str
    ours: Judged | None
    later: Judged | None


def cases() -> list[Case]:
    """Judge its cases."""
    with gzip.open(DATA, "rt") as lines:
        return [_case(json.loads(line)) for line in lines]


def _case(given: dict[str, Any]) -> Case:
    if given["suite"] != "classifier":
        expected = given.get("expected_summary_score")
        says = f"marks {sum(given['expected_outlier'])}" if expected is None else f"{expected:.0f}"
        return Case(given["name"], 0, says, "", None, None)
    control, experiment = (np.array(given[one], float) for one in ("control", "experiment"))
    sizes = given["params"].get("effectSizeThresholds")
    metric = f"[{{name: latency_us, increaseIs: {_INCREASE_IS[given['direction']]}{_margins(sizes)}}}]"
    baseline, candidate = (np.rint(one * _SCALE).astype(np.int64) for one in (control, experiment))

    def judged(times: int) -> Judged:
        # A point of a time series is a pane.
        one, other = ({"latency_us": np.tile(points, times)} for points in (baseline, candidate))
        return judge(metric, one, other, size=1)

    later = judged(-(-_ENOUGH // len(experiment))) if len(experiment) else None
    expected = given["expected_classification"]
    return Case(given["name"], len(experiment), expected, rendered(given), judged(1), later)


def rendered(given: dict[str, Any]) -> str:
    """What `classify` says of a test case."""
    params = given["params"]
    sizes = params.get("effectSizeThresholds")
    return classify(
        np.array(given["control"], float),
        np.array(given["experiment"], float),
        given["direction"],
        params["tolerance"],
        params["confLevel"],
        None if sizes is None else tuple(sizes),
        missing="Pass" if given["nan_strategy"] == "Replace" else "Nodata",
    )


def _margins(sizes: list[float] | None) -> str:
    """What a case says that it tolerates; else the margins are the usual ones."""
    if sizes is None:
        return ""
    tolerated = f"+{100 * (sizes[1] - 1):.0f}%"
    return f", rollbackMargin: {tolerated}, promotionMargin: {tolerated}"


def reason(case: Case) -> str:
    """Why we say something else, or that we do not."""
    if case.name.startswith("IQR"):
        return "we drop no outliers: slow calls are the harm that is looked for, and quantiles stand them"
    if case.name.startswith("Weighted"):
        return "we make no score: one metric beyond its margin is enough to go back, all must pass to go on"
    if "Replacement" in case.name:
        return "they let pass what is missing where told to replace it; missing data never decides here"
    if case.expected == "Nodata":
        return (
            "the same: nothing was seen, nothing is decided; theirs may fail at once if critical, ours waits"
        )
    if case.expected == "Pass":
        return "their pass means that no harm was seen; ours that harm beyond the margin is excluded"
    if case.ours is not None and case.ours.decision == "rolled back":
        return "the same, before the last point"
    return (
        f"{case.points} points are {case.points} observations here, and an error of 1 % is for all looks "
        f"together; theirs is 5 % a look"
    )
