"""The cases of Argo's tests of its analysis: counters of measurements, and the phase that follows.

A measurement there is a query compared with a constant; failures, successes in a row and measurements are
counted against limits. There is no baseline in it.
"""

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.real_cases.judging import Judged, judge

_DATA = Path(__file__).parent / "data" / "argo.jsonl.gz"
METRIC = "evaluation.measurement"


class Case(NamedTuple):
    """One of its test cases.

    Parameters
    ----------
    name, limits
        As the test has them.
    failed, succeeded
        Measurements.
    expected, when_ended
        Phase while it runs, and when it is being ended.
    alone
        What we say of the candidate's measurements by themselves.
    beside
        What we say of them beside a baseline with as many, all successful.
    """

    name: str
    limits: str
    failed: int
    succeeded: int
    expected: str
    when_ended: str
    alone: Judged
    beside: Judged


def cases() -> list[Case]:
    """Judge its cases."""
    with gzip.open(_DATA, "rt") as lines:
        return [_case(json.loads(line)) for line in lines]


def _case(given: dict[str, Any]) -> Case:
    result = given["result"]
    failed, succeeded = result.get("failed", 0), result.get("successful", 0)
    measured = np.repeat([1, 0], [failed, succeeded])
    limits = ", ".join(f"{name} {limit}" for name, limit in given["metric"].items() if name != "interval")
    return Case(
        given["test"],
        limits,
        failed,
        succeeded,
        given["expected"],
        given["expected_when_terminating"] or "",
        judge(f"[{METRIC}]", {}, {METRIC: measured}),
        judge(f"[{METRIC}]", {METRIC: np.zeros_like(measured)}, {METRIC: measured}),
    )


def reason(case: Case) -> str:
    """Why we say something else, or that we do not."""
    measured = case.failed + case.succeeded
    if not measured:
        return "nothing was measured: no verdict running; success when ended is more than anybody knows"
    if case.expected == "Failed":
        return (
            "a constant number of failures is too many there; here only what is more than the baseline's, "
            "which is not known, and even beside a flawless one chance is not excluded"
        )
    if case.expected == "Successful" and case.failed:
        return (
            f"successes in a row, or few enough failures, end it; "
            f"{case.failed} failures of {measured} exclude no harm"
        )
    if case.expected == "Successful":
        return f"{measured} successes are no proof that harm is excluded, and the baseline is not known"
    if case.expected == "Inconclusive":
        return "the same: neither harm nor safety is shown"
    return "the same while it runs; ending it does not make it a success here"
