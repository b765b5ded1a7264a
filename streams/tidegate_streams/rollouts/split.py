"""Did users fall to the variants as they were asked to: what all strata so far say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from tidegate_streams.rollouts.strata import VariantPane, largest
from tidegate_streams.statistics import sample_ratio
from tidegate_streams.statistics.emix import Floats


@dataclass(frozen=True, slots=True)
class Split:
    """Users that were seen for the first time, by variant, beside those that were asked for.

    Parameters
    ----------
    total
        Sum of the strata's log factors, see `statistics.sample_ratio`.
    seen
        Sketch of all users so far, of all variants.
    users, asked
        Variant -> newcomers that the sketch tells apart, and how many of them the shares ask for.
    """

    total: Floats = field(default_factory=lambda: np.zeros(1))
    seen: Mapping[int, int] = field(default_factory=dict)
    users: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)

    @property
    def log_e(self) -> float:
        """Log e-value against "users fell as they were asked to"."""
        return sample_ratio.log_e(self.total)

    def after(self, panes: Mapping[str, VariantPane], shares_bp: Mapping[str, int]) -> "Split":
        """Add one stratum.

        Parameters
        ----------
        panes
            Variant -> what it did.
        shares_bp
            Variant -> share that was asked for, in basis points.

        Returns
        -------
        Split
            The same where a variant has calls and reports no users: who does not report is not missing.
        """
        sketches = {name: panes[name].users if name in panes else {} for name in shares_bp}
        mute = any(pane.calls and not pane.users for pane in panes.values())
        if mute or not any(sketches.values()):
            return self
        newcomers = sample_ratio.first_seen(self.seen, list(sketches.values()))
        whole, n = sum(shares_bp.values()), sum(newcomers)
        return Split(
            self.total + sample_ratio.log_factors(newcomers, list(shares_bp.values())),
            largest(self.seen, reduce(largest, sketches.values())),
            {name: self.users.get(name, 0) + new for name, new in zip(shares_bp, newcomers, strict=True)},
            {name: self.asked.get(name, 0) + n * share / whole for name, share in shares_bp.items()},
        )

    def begun_anew(self) -> "Split":
        """Forget what was found; users that were seen stay seen, so that nobody is counted twice."""
        return replace(Split(), seen=self.seen)
