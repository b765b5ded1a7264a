"""Every window worked out anew from the events themselves, and a stored row in the same words.

The histograms follow the contract (buckets that grow by a factor of 1.02, the value of rank ceil(q n)) and
share no code with those under test.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from tests.faults.traffic import HOUR_US
from tests.faults.truth import Truth

from tidegate.records import Evaluation, LLMCall
from tidegate.series import ROLLUPS

_LENGTHS_S = {"10s": 10, "1m": 60, "5m": 300, "1h": 3600}
_SLIDES_S = {"release": {"10s": 10, "1m": 10, "5m": 10, "1h": 60}}
_OTHER_SLIDES_S = {"1m": 60, "5m": 60, "1h": 60}

Window = tuple[str, str, int, tuple[str, ...]]
"""Roll-up, length, start, dimensions of the roll-up."""

COUNTS = (
    "calls",
    "status_ok",
    "status_error",
    "outcome_answered",
    "outcome_abstained",
    "input_tokens",
    "output_tokens",
    "cost_usd_nano",
    "evaluations_n",
    "evaluations_passed",
    "feedback_n",
    "feedback_positive",
)
"""What is added up in a window."""

MEASURES = ("latency_us", "cost_usd", "input_tokens", "output_tokens")
"""What has a histogram in a window."""

_UNITS = {"cost_usd": 1e-9}
"""Measure -> what its whole numbers count; 1 where it is not named."""

_GPT_4_NANO = (30_000, 60_000)
"""Billionths of a dollar for a token read and one written, by the only model that answers here."""

_EDGES = [102**power // 100**power for power in range(1_200)]
"""Largest integer of each bucket."""

_QUANTILES = {"p50": (50, 100), "p90": (90, 100), "p95": (95, 100), "p99": (99, 100)}


class Histogram(NamedTuple):
    """What a window says of a measure."""

    n: int
    sum: int
    """Of whole numbers."""
    sumsq: float
    min: float
    max: float
    p50: float
    p90: float
    p95: float
    p99: float
    zeros: int
    buckets: tuple[tuple[int, int], ...]
    """Index and count of each that is not empty."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a window holds.

    Parameters
    ----------
    counts
        As `COUNTS` names them.
    histograms
        By measure; none of a measure that nothing has.
    """

    counts: tuple[int, ...]
    histograms: dict[str, Histogram]

    def differences(self, other: "Content") -> dict[str, tuple[Any, Any]]:
        """Name what differs, with what is here and what is there."""
        pairs = zip(COUNTS, zip(self.counts, other.counts, strict=True), strict=True)
        found = {name: pair for name, pair in pairs if pair[0] != pair[1]}
        for name in MEASURES:
            here, there = self.histograms.get(name), other.histograms.get(name)
            if here != there:
                found[name] = here, there
        return found


def recomputed(truth: Truth, until_us: int) -> Iterator[tuple[Window, Content]]:
    """Recompute every window that holds something and ends until then; those of a day are left out."""
    rows = sorted(_rows(truth), key=lambda row: row[0])
    for rollup, dimensions in ROLLUPS.items():
        series: dict[tuple[str, ...], list[tuple[int, list[int], list[int] | None]]] = {}
        for ts_us, fields, counts, measured in rows:
            name = tuple(fields[d] or "" for d in dimensions)
            series.setdefault(name, []).append((ts_us, counts, measured))
        for name, events in series.items():
            times = np.array([ts_us for ts_us, *_ in events])
            sums = np.cumsum([[0] * len(COUNTS), *(counts for _, counts, _ in events)], axis=0)
            # Calls among them, up to each event: a window's are a slice.
            calls = np.cumsum([0, *(measured is not None for *_, measured in events)])
            values = [measured for *_, measured in events if measured is not None]
            measures = {
                measure: Values([one[place] for one in values], _UNITS.get(measure, 1.0))
                for place, measure in enumerate(MEASURES)
            }
            for window, slide_s in _SLIDES_S.get(rollup, _OTHER_SLIDES_S).items():
                length_us, slide_us = _LENGTHS_S[window] * 1_000_000, slide_s * 1_000_000
                starts = _starts(times, length_us, slide_us)
                lows, highs = np.searchsorted(times, starts), np.searchsorted(times, starts + length_us)
                for start, low, high in zip(starts.tolist(), lows, highs, strict=True):
                    if start + length_us <= until_us:
                        histograms = {
                            measure: values.histogram(calls[low], calls[high])
                            for measure, values in measures.items()
                            if calls[high] > calls[low]
                        }
                        counts = tuple((sums[high] - sums[low]).tolist())
                        yield (rollup, window, start, name), Content(counts, histograms)


def _starts(times: Any, length_us: int, slide_us: int) -> Any:
    """Return the starts of all windows that hold one of the times."""
    latest = np.unique(times // slide_us * slide_us)
    return np.unique(np.concatenate([latest - back for back in range(0, length_us, slide_us)]))


def _rows(truth: Truth) -> Iterator[tuple[int, dict[str, Any], list[int], list[int] | None]]:
    """Event time, dimensions, what it adds and what is measured of it, of every event that counts."""
    names = {name for dimensions in ROLLUPS.values() for name in dimensions}
    for event, ts_us in truth.stored.values():
        adds = dict.fromkeys(COUNTS, 0)
        measured = None
        if isinstance(event, LLMCall):
            fields = {name: getattr(event, name) for name in names}
            adds |= {"calls": 1, f"status_{event.status}": 1, f"outcome_{event.outcome}": 1}
            tokens = [event.input_tokens or 0, event.output_tokens or 0]
            adds |= dict(zip(("input_tokens", "output_tokens"), tokens, strict=True))
            adds["cost_usd_nano"] = sum(n * nano for n, nano in zip(tokens, _GPT_4_NANO, strict=True))
            measured = [event.ts_end - event.ts_start, adds["cost_usd_nano"], *tokens]
        elif event.series is None:
            continue  # It counts when its series is known: as the copy that the resolver made.
        else:
            fields = {name: getattr(event.series, name, event.tenant) for name in names}
            if isinstance(event, Evaluation):
                adds |= {"evaluations_n": 1, "evaluations_passed": int(bool(event.passed))}
            else:
                adds |= {"feedback_n": 1, "feedback_positive": int(bool(event.positive))}
        yield ts_us, fields, [adds[name] for name in COUNTS], measured


class Values:
    """Values of a measure in the order of their times, in a unit of which windows tell the `unit`-fold."""

    def __init__(self, values: list[int], unit: float = 1.0) -> None:
        self._unit = unit
        self._values = np.array(values, dtype=np.int64)
        self._buckets = np.array([bisect_left(_EDGES, value) if value else -1 for value in values])

    def histogram(self, low: int, high: int) -> Histogram:
        """Return that of some neighbours."""
        unit = self._unit
        values = self._values[low:high]
        buckets, counts = np.unique(self._buckets[low:high], return_counts=True)
        pairs = list(zip(buckets.tolist(), counts.tolist(), strict=True))
        least, most, n = int(values.min()), int(values.max()), len(values)
        up_to = list(accumulate(count for _, count in pairs))
        quantiles = []
        for part, whole in _QUANTILES.values():
            bucket = pairs[bisect_left(up_to, -(-part * n // whole))][0]
            quantiles.append(min(max(_middle(bucket), float(least)), float(most)) * unit)
        return Histogram(
            n,
            int(values.sum()),
            sum(value * value for value in values.tolist()) * unit * unit,
            least * unit,
            most * unit,
            *quantiles,
            dict(pairs).get(-1, 0),
            tuple(pair for pair in pairs if pair[0] >= 0),
        )


def _middle(bucket: int) -> float:
    """Return what is relatively as far from the largest integer of a bucket as from the smallest."""
    if bucket < 0:
        return 0.0
    least, most = float(_EDGES[bucket - 1] + 1 if bucket else 1), float(_EDGES[bucket])
    return 2 * least * most / (least + most)


def stored(row: dict[str, Any]) -> Content:
    """Return what a row of the store says of its window."""
    rated = {f"evaluations_{name}": sum(e[name] for e in row["evaluations"]) for name in ("n", "passed")}
    rated |= {f"feedback_{name}": sum(f[name] for f in row["feedback"]) for name in ("n", "positive")}
    rated["cost_usd_nano"] = (row["cost_usd"] or 0) * 10**9
    counts = tuple(int(rated[name] if name in rated else row[name]) for name in COUNTS)
    histograms = {one["metric"]: one for one in row["distributions"] if one["metric"] in MEASURES}
    return Content(counts, {name: _told(one) for name, one in histograms.items()})


def _told(one: dict[str, Any]) -> Histogram:
    buckets = tuple(zip(one["index"], one["counts"], strict=True))
    plain = {name: one[name] for name in Histogram._fields if name != "buckets"}
    nano = 10**9 if one["metric"] in _UNITS else 1
    return Histogram(**plain | {"sum": int(one["sum"] * nano)}, buckets=buckets)


def is_long_past(window: Window, start_us: int) -> bool:
    """Whether a window may hold calls that came beyond the allowed lateness."""
    return window[2] + _LENGTHS_S[window[1]] * 1_000_000 <= start_us - HOUR_US // 2
