"""Recorded series, what is known of their changes, and the alarms of each detector."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from benchmarks.drift.detectors import SLOW, Detector, Limit, Ours
from benchmarks.drift.measured import Row, delay, run_length
from tidegate_streams.drift.policy import MINUTE_US, Policy

DATA = Path(__file__).parent / "data"
FIVE_MINUTES = Policy(window_us=5 * MINUTE_US)
"""The default of the stream, for a value in five minutes: two days are the past, alarms 30 days apart."""
FEW = Policy(window_us=30 * MINUTE_US, blocks=60)
"""Of series with some hundred values: each is a block, false alarms are 1,440 values apart."""
CALLS = Policy(block_us=3 * MINUTE_US, days_between_false_alarms=1e4 / 1_440)
"""Of calls, looked at by tens: 30 are a block, false alarms are 100,000 calls apart."""


MOST_FOR_SLOW = 10_000
"""Values of a series above which the slow detector is not asked."""


class Recorded(NamedTuple):
    """A series.

    Parameters
    ----------
    group, name
        Where it comes from.
    values
        In their order.
    changes
        First and last value of each time in which something is known to have changed; None where that is
        not known.
    policy
        Of ours.
    learning
        Values in which no alarm counts.
    together
        Values that ours looks at together.
    """

    group: str
    name: str
    values: np.ndarray
    changes: list[tuple[int, int]] | None
    policy: Policy = FIVE_MINUTES
    learning: int = 420
    together: int = 1


def _lines(name: str) -> Iterator[dict]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as lines:
        yield from map(json.loads, lines)


def nab() -> Iterator[Recorded]:
    """Numenta's series, of which people marked the times of anomalies."""
    for one in _lines("nab"):
        yield Recorded("NAB", one["name"], np.array(one["values"], float), list(map(tuple, one["windows"])))


def tcpd() -> Iterator[Recorded]:
    """The Turing change point series; a change is one that half of the annotators marked within 5 values."""
    for one in _lines("tcpd"):
        annotators, n = one["annotations"], len(one["values"])
        marked = sorted(itertools.chain.from_iterable(annotators))
        agreed: list[int] = []
        for mark in marked:
            near = [any(abs(mark - other) <= 5 for other in marks) for marks in annotators]
            if sum(near) * 2 >= len(annotators) and (not agreed or mark - agreed[-1] > 5):
                agreed.append(mark)
        ends = [*(after - 1 for after in agreed[1:]), n - 1]
        changes = [(start, min(end, start + n // 10)) for start, end in zip(agreed, ends, strict=True)]
        yield Recorded("TCPD", one["name"], np.array(one["values"], float), changes, FEW, 140)


def mongodb() -> Iterator[Recorded]:
    """Performance tests of MongoDB: its own method finds four changes in the long one, not said where."""
    for one in _lines("mongodb"):
        yield Recorded("MongoDB", one["name"], np.array(one["values"], float), None, FEW, 140)


def azure() -> Iterator[Recorded]:
    """A chat service alone, and followed by a service that completes code, at several places."""
    chat, code = _lines("azure")
    for metric in ("input_tokens", "output_tokens"):
        talk, completion = (np.array(one[metric], float) for one in (chat, code))
        yield Recorded("Azure chat alone", metric, talk, [], CALLS, 1_800, 10)
        for start in range(0, 6_500, 2_000):
            values = np.concatenate([talk[start : start + 3_000], completion[:2_000]])
            yield Recorded(
                "Azure chat, then code", f"{metric} {start}", values, [(3_000, 4_999)], CALLS, 1_800, 10
            )


def simulated() -> Iterator[Recorded]:
    """Three weeks of a value in five minutes, one standard deviation more from the nineteenth day on."""
    n, day = 21 * 288, 288
    for seed in range(2):
        noise = np.random.default_rng(seed).standard_normal(n)
        alike = lfilter([np.sqrt(0.75)], [1, -0.5], noise)
        rhythm = noise + 1.5 * np.sin(np.arange(n) / day * 2 * np.pi)
        for name, values in (("neighbours alike", alike), ("a day's rhythm", rhythm)):
            changed = values + np.where(np.arange(n) >= 19 * day, 1.0, 0.0)
            yield Recorded(f"simulated, {name}", str(seed), changed, [(19 * day, n - 1)])


def detectors(one: Recorded, peers: Mapping[str, Callable[[], Detector]]) -> dict[str, Detector]:
    """All that are asked about a series."""
    asked = {name: make() for name, make in peers.items() if name != SLOW or len(one.values) <= MOST_FOR_SLOW}
    limit = Limit(60, 30, is_relative=not np.ptp(np.sign(one.values)))
    return {"tidegate": Ours(one.policy, one.together), **asked, "limit of 50 %": limit}


def alarms(one: Recorded, detector: Detector) -> list[int]:
    """Values at which a detector rang."""
    first = one.values[: one.learning]
    # Page and Hinkley's threshold is in the unit of the values, the limit is around their mean.
    middle = 0.0 if isinstance(detector, Limit) else float(first.mean())
    scaled = ((one.values - middle) / (float(first.std()) or 1.0)).tolist()
    return [i for i, value in enumerate(scaled) if detector.update(value) and i >= one.learning]


class Judged(NamedTuple):
    """Alarms of one detector on one series beside what is known."""

    one: Recorded
    detector: str
    at: list[int]

    @property
    def delays(self) -> list[float]:
        """Of each change after what was learnt; infinite where it was not found."""
        known = [change for change in self.one.changes or () if change[0] >= self.one.learning]
        return [
            min((float(at - first) for at in self.at if first <= at <= last), default=np.inf)
            for first, last in known
        ]

    @property
    def false(self) -> tuple[int, int]:
        """Alarms while nothing is known to have changed, and the values in which they could be."""
        quiet = np.ones(len(self.one.values), dtype=bool)
        quiet[: self.one.learning] = False
        for first, last in self.one.changes or ():
            quiet[first : last + 1] = False
        return int(quiet[self.at].sum()), int(quiet.sum())


def judged(series: Iterable[Recorded], peers: Mapping[str, Callable[[], Detector]]) -> list[Judged]:
    """What each detector says of each series."""
    return [
        Judged(one, name, alarms(one, detector))
        for one in series
        for name, detector in detectors(one, peers).items()
    ]


def rows(found: list[Judged]) -> list[Row]:
    """A row for each group and detector."""
    made = []
    for group in dict.fromkeys(one.one.group for one in found if one.one.changes is not None):
        of_group = [one for one in found if one.one.group == group]
        for name in dict.fromkeys(one.detector for one in of_group):
            mine = [one for one in of_group if one.detector == name]
            late = np.array([one for judge in mine for one in judge.delays])
            wrong, quiet = np.array([judge.false for judge in mine]).sum(axis=0).tolist()
            found_ones = int(np.isfinite(late).sum())
            made.append(Row(group, name, run_length(wrong, quiet), delay(late), found_ones, len(late)))
    return made
