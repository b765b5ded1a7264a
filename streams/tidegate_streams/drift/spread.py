"""How much more a rate varies from block to block than independent calls would let it."""

from collections.abc import Sequence

from tidegate_streams.statistics.dependence import FEWEST_BLOCKS, Excess, HalfSums
from tidegate_streams.statistics.emix import Counts

LONGER = (4, 16)
"""Blocks that are also looked at together: a night is one long deviation, and not sixteen short ones."""


def design_effect(blocks: Sequence[tuple[int, int]]) -> float | None:
    """Design effect of a reference: calls that are alike, bursts, days, and what else moves a rate.

    Each block is compared with all others, and so are runs of blocks. What makes them differ more than chance
    makes the detector slower, by as much, instead of wrong.

    Parameters
    ----------
    blocks
        Observations and bad events of each, in the order of time: long beside the time that calls of one user
        stay together.

    Returns
    -------
    float or None
        At least 1, and rather too large than too small: 1 where nothing bad ever was. None while blocks are
        fewer than 30, of equal size or as good as that.
    """
    n, k = sum(one for one, _ in blocks), sum(bad for _, bad in blocks)
    if len(blocks) >= FEWEST_BLOCKS and k in (0, n):
        return 1.0
    single = _spread(blocks, n, k).design_effect()
    if single is None:
        return None
    # Of few long runs an upper bound would say nothing; their plain estimate sees what is large.
    runs = (_spread(_joined(blocks, length), n, k) for length in LONGER)
    return max([single, *(one.squares / one.variance for one in runs if one.variance)])


def _joined(blocks: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    parts = (blocks[i : i + length] for i in range(0, len(blocks), length))
    return [(sum(n for n, _ in part), sum(k for _, k in part)) for part in parts]


def _spread(blocks: Sequence[tuple[int, int]], n: int, k: int) -> HalfSums:
    apart = (HalfSums.of(Excess.of(Counts(n - one, one, k - bad, bad))) for one, bad in blocks if one)
    return sum(apart, HalfSums())
