"""What a metric of a series was like: the rolling past in blocks, and each hour of the week."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

from tidegate.metrics import LEVELS
from tidegate_streams.drift.policy import Policy
from tidegate_streams.drift.spread import design_effect
from tidegate_streams.statistics.dependence import FEWEST_BLOCKS, Excess, HalfSums
from tidegate_streams.statistics.emix import Counts
from tidegate_streams.statistics.exceedances import ZERO, Histogram, above, threshold

RATE_EDGES = (ZERO,)
"""A rate is a distribution of good events, which are zero, and bad ones above it."""

EDGE_BLOCKS = 6
FEWEST_VALUES = 100
"""From so many blocks, with so many values, the edges of a distribution are taken; others then count."""

LAG_BLOCKS = 4
"""The newest blocks are not the past yet: a change must not hide itself in what it is compared with."""

HOUR_US = 3_600_000_000
HOURS = 168
FEWEST_WEEKS, MOST_WEEKS = 2, 4
"""An hour of the week is compared with itself once it was seen so often; what is older counts half."""


class Tally(NamedTuple):
    """Observations, and how many of them are above each edge; those of several times add up."""

    n: int
    above: tuple[int, ...]

    @classmethod
    def of(cls, sample: Histogram, edges: tuple[int, ...]) -> "Tally":
        """Count a sample."""
        return cls(sum(sample.values()), tuple(above(sample, edge) for edge in edges))

    def plus(self, other: "Tally") -> "Tally":
        """Sum of both."""
        return Tally(self.n + other.n, tuple(a + b for a, b in zip(self.above, other.above, strict=True)))

    def halved(self) -> "Tally":
        """Half of it."""
        return Tally((self.n + 1) // 2, tuple(k // 2 for k in self.above))


class Usual(NamedTuple):
    """What a window is compared with.

    Parameters
    ----------
    tally
        Of the reference.
    design_effects
        Of each edge.
    from_us, to_us
        Event time that it reaches over.
    is_same_hour
        Whether it is of the same hour of the week.
    """

    tally: Tally
    design_effects: tuple[float, ...]
    from_us: int
    to_us: int
    is_same_hour: bool = False


@dataclass(slots=True)
class Past:
    """The rolling, or pinned, past of one metric of one series.

    Parameters
    ----------
    edges
        Buckets whose exceedances are counted; empty until enough was seen to take them from.
    """

    edges: tuple[int, ...] = ()
    first: dict[int, int] = field(default_factory=dict)
    """Values that the edges are taken from; they count in no block."""
    begun_us: int | None = None
    blocks: list[tuple[int, Tally]] = field(default_factory=list)
    """Start of each block, and what it held."""
    filling: tuple[int, Tally] | None = None
    usual: Usual | None = None
    """Of the blocks; None while they are too few."""

    def take(self, policy: Policy, start_us: int, sample: Histogram) -> None:
        """Take in a window that has been looked at."""
        if not self.edges:
            self._look_for_edges(policy, start_us, sample)
            return
        block_us = start_us // policy.block_us * policy.block_us
        tally = Tally.of(sample, self.edges)
        if self.filling is not None and self.filling[0] != block_us:
            self.blocks = [*self.blocks, self.filling][-(policy.blocks + LAG_BLOCKS) :]
            self.filling = None
            self._settle(policy)
        self.filling = (block_us, tally if self.filling is None else self.filling[1].plus(tally))

    def drop(self, policy: Policy, from_us: int) -> None:
        """Take out the blocks that a change may have begun in."""
        self.blocks = [one for one in self.blocks if one[0] + policy.block_us <= from_us]
        self.filling = None

    def _look_for_edges(self, policy: Policy, start_us: int, sample: Histogram) -> None:
        if self.begun_us is None:
            self.begun_us = start_us
        for bucket, count in sample.items():
            self.first[bucket] = self.first.get(bucket, 0) + count
        is_long = start_us - self.begun_us >= EDGE_BLOCKS * policy.block_us
        if is_long and sum(self.first.values()) >= FEWEST_VALUES:
            found = (threshold(self.first, level) for level in LEVELS)
            self.edges = tuple(edge for edge in found if edge is not None)
            self.first = {}

    def _settle(self, policy: Policy) -> None:
        blocks = self.blocks[:-LAG_BLOCKS]
        # Half of all: with less than a day, the night is a change.
        if len(blocks) < max(FEWEST_BLOCKS, policy.blocks // 2):
            return
        found = [design_effect([(one.n, one.above[i]) for _, one in blocks]) for i in range(len(self.edges))]
        effects = tuple(effect for effect in found if effect is not None)
        if len(effects) == len(found):
            tally = total([one for _, one in blocks])
            self.usual = Usual(tally, effects, blocks[0][0], blocks[-1][0] + policy.block_us)


@dataclass(slots=True)
class Week:
    """What each hour of the week was like, under the edges of a past."""

    cells: dict[int, Tally] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    """Hour of the week -> how often it was seen, up to `MOST_WEEKS`."""
    filling: tuple[int, Tally] | None = None
    spreads: tuple[HalfSums, ...] = ()
    """How far each hour was from the same hour before, by edge."""
    begun_us: int | None = None

    def take(self, start_us: int, tally: Tally) -> None:
        """Take in a window that has been looked at."""
        self.begun_us = start_us if self.begun_us is None else self.begun_us
        hour = start_us // HOUR_US
        if self.filling is not None and self.filling[0] != hour:
            self._close(*self.filling)
            self.filling = None
        self.filling = (hour, tally if self.filling is None else self.filling[1].plus(tally))

    def _close(self, hour: int, tally: Tally) -> None:
        place = hour % HOURS
        before = self.cells.get(place)
        if before is None:
            self.cells[place], self.seen[place] = tally, 1
            return
        apart = (
            HalfSums.of(Excess.of(Counts(before.n, tally.n, k_before, k)))
            for k_before, k in zip(before.above, tally.above, strict=True)
        )
        known = self.spreads or (HalfSums(),) * len(tally.above)
        self.spreads = tuple(one + more for one, more in zip(known, apart, strict=True))
        if self.seen[place] == MOST_WEEKS:
            before, self.seen[place] = before.halved(), MOST_WEEKS // 2
        self.cells[place] = before.plus(tally)
        self.seen[place] += 1

    def usual(self, start_us: int) -> Usual | None:
        """The same hour of the weeks before; None until it was seen twice, and often enough to compare."""
        place = start_us // HOUR_US % HOURS
        if self.seen.get(place, 0) < FEWEST_WEEKS or self.begun_us is None:
            return None
        cell = self.cells[place]
        effects = [spread.design_effect() for spread in self.spreads]
        if cell.n < FEWEST_VALUES or None in effects:
            return None
        known = tuple(effect for effect in effects if effect is not None)
        return Usual(cell, known, self.begun_us, start_us // HOUR_US * HOUR_US, is_same_hour=True)


def total(tallies: Sequence[Tally]) -> Tally:
    """Sum of at least one."""
    return reduce(Tally.plus, tallies)


def error_of(usual: Usual, edge: int) -> float:
    """Standard error of the log odds of a reference, calls that are alike allowed for."""
    n, k = usual.tally.n, usual.tally.above[edge]
    return math.sqrt(usual.design_effects[edge] * (1 / (k + 0.5) + 1 / (n - k + 0.5)))
