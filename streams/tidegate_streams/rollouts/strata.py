"""Merged release rows -> what each variant did in each stratum of a look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import polars as pl

from tidegate.metrics import CATALOGUE
from tidegate_streams.statistics.exceedances import ZERO

_CLASSIFIED = ("outcome_answered", "outcome_abstained", "outcome_refused", "outcome_empty")
RATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "error_rate": (("calls",), ("status_error", "status_timeout", "status_rate_limited")),
    "timeout_rate": (("calls",), ("status_timeout",)),
    "abstain_rate": (_CLASSIFIED, ("outcome_abstained",)),
    "refusal_rate": (_CLASSIFIED, ("outcome_refused",)),
    "empty_rate": (_CLASSIFIED, ("outcome_empty",)),
}
"""Rate of calls -> the columns whose sum is its units, and those whose sum is its bad events."""

K = TypeVar("K")
T = TypeVar("T", bound=tuple[int, ...])

QUANTILES = frozenset(name for name, metric in CATALOGUE.items() if metric.kind == "quantile")


class Stratum(NamedTuple):
    """What is compared with each other, and nothing else.

    Parameters
    ----------
    revision
        Revision of the command that assigned the calls; None for calls that no command assigned: they
        decide nothing, and tell what is usual.
    pane_us
        Start of the pane, or for ratings of the block, that the calls ended in.
    is_late
        Whether they came after the look at their pane. Late ones are never added to what was looked at.
    wait
        Of ratings, which of `waits.WAITS` they are compared at.
    """

    revision: int | None
    pane_us: int
    is_late: bool
    wait: int = 0


@dataclass(frozen=True, slots=True)
class VariantPane:
    """What one variant did in one stratum, or in many of them added up.

    Parameters
    ----------
    calls
        Comparable calls.
    users
        Sketch of distinct users: register -> rank; empty where users are not reported.
    rates
        Metric -> (units, bad events).
    histograms
        Metric -> bucket index -> units, in the unit of the histogram.
    failures
        Metric -> measurements that failed, such as a judge that gave no verdict.
    sums
        Metric -> (values, their sum, the sum of their squares), in the unit of the histogram, of ratings in
        millionths: what means are reported from.
    rated
        Metric -> (ratings, bad ones) that came with the calls, where `rates` holds those that are compared,
        which are of earlier calls.
    """

    calls: int = 0
    users: Mapping[int, int] = field(default_factory=dict)
    rates: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    rated: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __add__(self, other: "VariantPane") -> "VariantPane":
        histograms = dict(self.histograms)
        for name, counts in other.histograms.items():
            histograms[name] = _added(histograms.get(name, {}), counts)
        return VariantPane(
            calls=self.calls + other.calls,
            users=largest(self.users, other.users),
            rates=_summed(self.rates, other.rates),
            histograms=histograms,
            failures=_added(self.failures, other.failures),
            sums=_summed(self.sums, other.sums),
            rated=_summed(self.rated, other.rated),
        )


class Rating(NamedTuple):
    """Ratings of one variant's calls of one pane or block, as a look finds them.

    Parameters
    ----------
    revision
        Of the command that assigned the calls, None without one.
    metric
        Name of the metric, such as ``feedback.thumbs``.
    variant
        Of the calls.
    call_us
        Start of the pane or block that the calls ended in, in microseconds since the epoch.
    n, bad
        How many they are, and how many say that the answer was bad.
    """

    revision: int | None
    metric: str
    variant: str
    call_us: int
    n: int
    bad: int


Strata = dict[Stratum, dict[str, VariantPane]]
"""Stratum -> variant -> what it did."""


def _added(one: Mapping[K, int], other: Mapping[K, int]) -> dict[K, int]:
    total = dict(one)
    for key, count in other.items():
        total[key] = total.get(key, 0) + count
    return total


def _summed(one: Mapping[str, T], other: Mapping[str, T]) -> dict[str, T]:
    total = dict(one)
    for name, counts in other.items():
        before = total.get(name, (0,) * len(counts))
        total[name] = cast("T", tuple(a + b for a, b in zip(before, counts, strict=True)))
    return total


def largest(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Merge two sketches of users."""
    merged = dict(one)
    for register, rank in other.items():
        if rank > merged.get(register, 0):
            merged[register] = rank
    return merged


def strata_of(calls: pl.DataFrame, feedback: pl.DataFrame, evaluations: pl.DataFrame) -> Strata:
    """Strata of one look at one deployment.

    Parameters
    ----------
    calls, feedback, evaluations
        Merged rows of the deployment that may decide, by `variant`, `assignment_revision`, `pane_us` (of the
        row's own time) and `is_late`, with the sums of the journal's frames. Ratings stand with the calls of
        their own time: `ripening` says what they are compared with.

    Returns
    -------
    dict
        Stratum -> variant -> `VariantPane`. Calls without an assignment revision stand under revision None.
    """
    strata: Strata = {}
    for frame, read in ((calls, _calls), (feedback, _feedback), (evaluations, _evaluations)):
        for row in frame.iter_rows(named=True):
            stratum = Stratum(row["assignment_revision"], row["pane_us"], row["is_late"])
            variants = strata.setdefault(stratum, {})
            variants[row["variant"]] = variants.get(row["variant"], VariantPane()) + read(row)
    return strata


def ratings_of(feedback: pl.DataFrame, evaluations: pl.DataFrame) -> Iterator[Rating]:
    """Yield the ratings of one look at one deployment by the calls that they are about, as far as known.

    Parameters
    ----------
    feedback, evaluations
        As `strata_of` takes them, by `call_us` as well.
    """
    for frame, read in ((feedback, _feedback), (evaluations, _evaluations)):
        for row in frame.filter(pl.col("call_us").is_not_null()).iter_rows(named=True):
            for metric, (n, bad) in read(row).rates.items():
                yield Rating(row["assignment_revision"], metric, row["variant"], row["call_us"], n, bad)


def _calls(row: Mapping[str, Any]) -> VariantPane:
    rates = {
        name: (sum(row[column] for column in units), sum(row[column] for column in bad))
        for name, (units, bad) in RATES.items()
    }
    for guardrail in row["guardrails"]:
        name = f"guardrail.{guardrail['name']}"
        n, bad = rates.get(name, (0, 0))
        rates[name] = (n + guardrail["checked"], bad + guardrail["triggered"])
    distributions = [one for one in row["distributions"] if one["metric"] in QUANTILES]
    return VariantPane(
        calls=row["calls"],
        users={user["register"]: user["rank"] for user in row["users"]},
        rates={name: counts for name, counts in rates.items() if counts[0]},
        histograms={one["metric"]: _histogram(one) for one in distributions},
        sums={one["metric"]: (one["n"], one["sum"], int(one["sumsq"])) for one in distributions},
    )


def _histogram(distribution: Mapping[str, Any]) -> dict[int, int]:
    counts = dict(zip(distribution["index"], distribution["counts"], strict=True))
    return counts | ({ZERO: distribution["zeros"]} if distribution["zeros"] else {})


def _feedback(row: Mapping[str, Any]) -> VariantPane:
    rated = row["positive"] + row["negative"]
    name = f"feedback.{row['name']}"
    return VariantPane(rates={name: (rated, row["negative"])} if rated else {})


def _evaluations(row: Mapping[str, Any]) -> VariantPane:
    evaluated = row["passed"] + row["failed"]
    name = f"evaluation.{row['name']}"
    valued = row["valued"], row["value_sum_micro"], int(row["value_sumsq_micro"])
    return VariantPane(
        rates={name: (evaluated, row["failed"])} if evaluated else {},
        sums={name: valued} if row["valued"] else {},
        failures={name: row["errors"]} if row["errors"] else {},
    )
