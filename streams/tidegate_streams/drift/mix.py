"""What calls are made of: models of an app, apps of a tenant, block after block beside the rolling past.

A block is far from the past when its distance is both more than chance allows, calls that come in bursts
allowed for, and large enough to matter. What the blocks say is summed up as `e_detector` does it. The change
ends when four blocks in a row are within half of what matters, or when the past has become the time since.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tidegate_streams.drift.past import LAG_BLOCKS
from tidegate_streams.drift.policy import Policy
from tidegate_streams.statistics.dependence import FEWEST_BLOCKS
from tidegate_streams.statistics.distances import distance, log_e

Shares = Mapping[str, int]
"""Category -> calls."""

QUIET_BLOCKS = 4


class Shift(NamedTuple):
    """A mix that is another, as far as it is known.

    Parameters
    ----------
    phase, version
        How far it has come, and the number of this record of it.
    started_us, at_us
        End of the block that raised it, and of the one that this record is about.
    changed_us
        Start of the block that it began with, most likely.
    psi
        Population stability index of the newest block, or of the one that raised it.
    log_e, run_length
        Evidence when it started, and the blocks between false alarms that it stands for.
    from_us, to_us
        Event time of the reference.
    before, since
        Calls by category, of the reference and of the block.
    """

    phase: str
    version: int
    started_us: int
    at_us: int
    changed_us: int
    psi: float
    log_e: float
    run_length: float
    from_us: int
    to_us: int
    before: Shares
    since: Shares

    def carriers(self) -> list[tuple[str, float]]:
        """Categories by their part of the index, the largest first."""
        m, n = sum(self.before.values()), sum(self.since.values())
        parts = {}
        for name in sorted(self.before.keys() | self.since.keys()):
            p, q = max(self.before.get(name, 0), 0.5) / m, max(self.since.get(name, 0), 0.5) / n
            parts[name] = (q - p) * math.log(q / p)
        total = sum(parts.values()) or 1.0
        return sorted(
            ((name, part / total) for name, part in parts.items()), key=lambda one: (-one[1], one[0])
        )


@dataclass(slots=True)
class Mix:
    """State of one mix."""

    blocks: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    filling: tuple[int, dict[str, int]] | None = None
    log_r: float = -math.inf
    rise: float = 0.0
    """Sum of what blocks said since it last was below nothing."""
    rise_us: int = 0
    shift: Shift | None = None
    quiet: int = 0
    fresh: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    seen_us: int = 0


def step(one: Mix, policy: Policy, start_us: int, calls: Shares, watches: int = 1) -> Shift | None:
    """Take in a window; a block is looked at when the next one begins.

    Parameters
    ----------
    one
        Changed in place.
    policy, start_us, watches
        As `watch.step` takes them.
    calls
        Of the window.
    """
    block_us = start_us // policy.block_us * policy.block_us
    told = None
    if one.filling is not None and one.filling[0] != block_us:
        told = _look(one, policy, *one.filling, watches)
        one.filling = None
    one.filling = (block_us, dict(calls) if one.filling is None else _sum(one.filling[1], calls))
    one.seen_us = start_us
    return told


def _look(one: Mix, policy: Policy, start_us: int, block: dict[str, int], watches: int) -> Shift | None:
    past = one.blocks if one.shift else one.blocks[:-LAG_BLOCKS]
    if len(past) < max(FEWEST_BLOCKS, policy.blocks // 2):
        one.blocks.append((start_us, block))
        return None
    before: dict[str, int] = {}
    for _, other in past:
        before = _sum(before, other)
    stretches = [found.stretch for _, other in past if (found := distance(before, other)) is not None]
    found = distance(before, block, max(1.0, float(np.mean(stretches))) if stretches else 1.0)
    if found is None:
        return None
    run_length = policy.run_length(watches) * policy.window_us / policy.block_us
    gain, end_us = log_e(found, policy.least_psi), start_us + policy.block_us
    reach = (past[0][0], past[-1][0] + policy.block_us, before, block)
    if one.shift is None:
        one.log_r = gain + float(np.logaddexp(one.log_r, 0.0))
        if one.rise <= 0:
            one.rise, one.rise_us = 0.0, start_us
        one.rise += gain
        if one.log_r >= math.log(run_length):
            told = Shift("started", 1, end_us, end_us, one.rise_us, found.psi, one.log_r, run_length, *reach)
            one.shift, one.blocks, one.fresh, one.quiet = told, past, [(start_us, block)], 0
            return told
        one.blocks = [*one.blocks, (start_us, block)][-(policy.blocks + LAG_BLOCKS) :]
        return None
    one.fresh.append((start_us, block))
    one.quiet = one.quiet + 1 if found.psi < policy.least_psi / 2 else 0
    is_usual = len(one.fresh) >= policy.blocks
    if one.quiet < QUIET_BLOCKS and not is_usual:
        return None
    one.blocks = one.fresh if is_usual else one.blocks
    told = one.shift._replace(psi=found.psi, since=block)
    return _over(one, told, end_us)


def abandoned(one: Mix, at_us: int) -> Shift | None:
    """End what lasts, since the series is no longer seen; None where nothing does."""
    return _over(one, one.shift, at_us) if one.shift else None


def _over(one: Mix, told: Shift, at_us: int) -> Shift:
    one.shift, one.fresh, one.log_r, one.rise = None, [], -math.inf, 0.0
    return told._replace(phase="ended", version=2, at_us=at_us)


def _sum(one: Shares, other: Shares) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted(one.keys() | other.keys())}
