"""Many streams at once, with a change that is known or none: run lengths and delays (G11)."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from benchmarks.decisions.latencies import ALL, LEVELS, MEDIAN_US, SAME, SIGMA, TAIL, Slowness
from benchmarks.drift.detectors import Detector
from tidegate_streams.statistics import e_detector
from tidegate_streams.statistics.emix import Counts, Floats

WINDOW, RUN_LENGTH = 10, 100_000
"""Samples looked at together, and windows between false alarms: what the goal speaks of."""
REFERENCE = 20_000
GROWN = 1.05
"""A reference that grew by so much is used anew; in between the factors of a count are computed once."""
BEFORE = 5_000
"""Samples before a change, after those of the reference."""
HALF_SLOWER = Slowness("all x1.5", 1.5)


class Stream(NamedTuple):
    """What is watched.

    Parameters
    ----------
    name
        In the tables.
    bad
        Chance of a sample to be bad; of latencies, None.
    slowness
        Of latencies.
    """

    name: str
    bad: float | None = None
    slowness: Slowness = SAME

    def drawn(self, rng: np.random.Generator, n: int) -> list[float]:
        """Samples as the other detectors take them: zeros and ones, or logarithms of latencies."""
        if self.bad is not None:
            return (rng.random(n) < self.bad).astype(float).tolist()
        return np.log(self.slowness.drawn(rng, (n,))).tolist()


def rate(p: float) -> Stream:
    return Stream(f"{p:.0%} bad", bad=p)


def latency(slowness: Slowness) -> Stream:
    return Stream(f"latency {slowness.name}", slowness=slowness)


CHANGES = (
    (rate(0.05), rate(0.10), 600.0),
    (rate(0.20), rate(0.25), None),
    (rate(0.01), rate(0.02), None),
    (latency(SAME), latency(HALF_SLOWER), 120.0),
    (latency(SAME), latency(ALL), None),
    (latency(SAME), latency(TAIL), None),
)
"""Before, after, and the samples that the goal allows for finding it."""
QUIET = (rate(0.05), rate(0.20), latency(SAME))


def _factors(n: int, k: int) -> Floats:
    """Of windows by their bad events, shape (11, 16)."""
    return np.array([e_detector.log_factors(Counts(n, WINDOW, k, bad)) for bad in range(WINDOW + 1)])


class Runs:
    """Our detector on many streams at once, each with a reference of its own that grows."""

    def __init__(self, rng: np.random.Generator, usual: Stream, runs: int) -> None:
        self._rng, self._runs = rng, runs
        self._n, self._used = np.full(runs, REFERENCE), np.zeros(runs, dtype=np.int64)
        if usual.bad is not None:
            self.chances = np.full((runs, 1), usual.bad)
            self._k = rng.binomial(REFERENCE, self.chances)
        else:
            # An edge is the reference's own quantile; what is above it in truth varies from run to run.
            ranks = [math.ceil(level * REFERENCE) for level in LEVELS]
            ordered = np.sort(rng.random((runs, REFERENCE)), axis=1)
            self.chances = 1 - ordered[:, [rank - 1 for rank in ranks]]
            self._k = np.tile([REFERENCE - rank for rank in ranks], (runs, 1))
        self._log_r = e_detector.started(runs, self._k.shape[1])
        self._rows = np.zeros((*self._k.shape, WINDOW + 1, e_detector.N_FACTORS))

    def changed(self, after: Stream) -> Floats:
        """Chances of each run once the stream has changed, shape (runs, levels)."""
        if after.bad is not None:
            return np.full(self.chances.shape, after.bad)
        return after.slowness.exceeding(MEDIAN_US * np.exp(SIGMA * norm.isf(self.chances)))

    def step(self, chances: Floats) -> Floats:
        """Take a window of each stream in; return the evidence of each."""
        for run in np.flatnonzero(self._n >= GROWN * self._used):
            self._used[run] = self._n[run]
            for level, k in enumerate(self._k[run].tolist()):
                self._rows[run, level] = _factors(int(self._n[run]), k)
        bad = self._counts(chances)
        rows = self._rows[np.arange(self._runs)[:, None], np.arange(bad.shape[1]), bad]
        self._log_r = e_detector.advanced(self._log_r, rows)
        self._n += WINDOW
        self._k += bad
        return e_detector.log_evidence(self._log_r)

    def _counts(self, chances: Floats) -> np.ndarray:
        """Samples above each level; those above a higher one are among those above a lower one."""
        left, last, counts = np.full(self._runs, WINDOW), np.ones(self._runs), []
        for chance in chances.T:
            left = self._rng.binomial(left, np.minimum(chance / last, 1.0))
            last = chance
            counts.append(left)
        return np.stack(counts, axis=1)

    def restart(self, which: np.ndarray) -> None:
        self._log_r[which] = -np.inf


class Quiet(NamedTuple):
    """Alarms of a detector where nothing changed, and the samples it saw."""

    alarms: int
    samples: int


def quiet(rng: np.random.Generator, usual: Stream, runs: int, windows: int) -> Quiet:
    """Our false alarms; after each one a stream goes on from no evidence."""
    ours, alarms = Runs(rng, usual, runs), 0
    for _ in range(windows):
        found = ours.step(ours.chances) >= math.log(RUN_LENGTH)
        if found.any():
            alarms += int(found.sum())
            ours.restart(found)
    return Quiet(alarms, runs * windows * WINDOW)


def delays(rng: np.random.Generator, usual: Stream, after: Stream, runs: int, most: int) -> Floats:
    """Samples of each run from the change to our alarm; infinite where there was none, NaN when too early."""
    ours, found = Runs(rng, usual, runs), np.full(runs, np.inf)
    for _ in range(BEFORE // WINDOW):
        early = ours.step(ours.chances) >= math.log(RUN_LENGTH)
        found[early] = np.nan
    chances = ours.changed(after)
    for window in range(1, most // WINDOW + 1):
        hit = (ours.step(chances) >= math.log(RUN_LENGTH)) & np.isinf(found)
        found[hit] = window * WINDOW
        if not np.isinf(found).any():
            break
    return found


def quiet_of(
    rng: np.random.Generator, make: Callable[[], Detector], usual: Stream, runs: int, n: int
) -> Quiet:
    """False alarms of another detector."""
    alarms = 0
    for _ in range(runs):
        one = make()
        alarms += sum(one.update(value) for value in usual.drawn(rng, n))
    return Quiet(alarms, runs * n)


def delays_of(
    rng: np.random.Generator,
    make: Callable[[], Detector],
    usual: Stream,
    after: Stream,
    runs: int,
    before: int,
    most: int,
) -> Floats:
    """Samples from the change to another detector's alarm."""
    return np.array(list(itertools.islice(_delays(rng, make, usual, after, before, most), runs)))


def _delays(
    rng: np.random.Generator,
    make: Callable[[], Detector],
    usual: Stream,
    after: Stream,
    before: int,
    most: int,
) -> Iterator[float]:
    while True:
        one = make()
        for value in usual.drawn(rng, before):
            one.update(value)
        changed = enumerate(after.drawn(rng, most), 1)
        yield next((float(i) for i, value in changed if one.update(value)), math.inf)
