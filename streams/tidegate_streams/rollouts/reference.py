"""The past hour of each variant, which thresholds and margins are taken from before a pane is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tidegate_streams.rollouts.strata import Strata, VariantPane

BLOCK_US = 600_000_000
"""Ten minutes: the past is forgotten in blocks, so that a rolling hour is six sums and not 360."""

BLOCKS = 6

_NOTHING = VariantPane()


@dataclass(frozen=True, slots=True)
class Reference:
    """Sums of a rolling hour by variant.

    Parameters
    ----------
    blocks
        Number of the block -> variant -> what it did, all revisions and warm-ups included: any past pane
        may set a threshold, because it is known before the pane that is judged by it.
    """

    blocks: Mapping[int, Mapping[str, VariantPane]] = field(default_factory=dict)

    def of(self, variant: str) -> VariantPane:
        """Sum of the hour of one variant."""
        return sum((block[variant] for block in self.blocks.values() if variant in block), _NOTHING)

    def after(self, strata: Strata, pane_end_us: int) -> "Reference":
        """Return the reference for the next look: this look's strata in, what is over an hour old out."""
        present = (pane_end_us - 1) // BLOCK_US
        blocks = {number: dict(block) for number, block in self.blocks.items() if number > present - BLOCKS}
        block = blocks.setdefault(present, {})
        for variants in strata.values():
            for variant, pane in variants.items():
                block[variant] = block.get(variant, _NOTHING) + replace(pane, users={})
        return Reference(blocks)
