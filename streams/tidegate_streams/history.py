"""What is kept of closed panes: only as long as a window that is not final needs it.

Panes of 10 s make minutes, minutes make hours; each is added up once, when it closes. What comes later is
appended to every grain that is closed already, so that all grains agree.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from tidegate_streams import commonest, rollups
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollups import Frames
from tidegate_streams.windows import GRAINS, MINUTE_US, WINDOWS

_NEEDED_US = {
    grain: max(window.length_us for window in WINDOWS if window.grain_us == grain) for grain in GRAINS
}
_PANE_ROLLUPS = sorted({window.rollup for window in WINDOWS if window.grain_us == PANE_US})


@dataclass(slots=True)
class History:
    """Rolled-up rows by grain."""

    tables: dict[int, Frames] = field(default_factory=lambda: dict.fromkeys(GRAINS, rollups.EMPTY))

    @property
    def is_empty(self) -> bool:
        """Whether no window holds anything."""
        return not any(rows.height for table in self.tables.values() for rows in table.values())

    def close(self, panes: Frames, late: Frames, before_us: int, until_us: int) -> None:
        """Take in the panes that close, and rows that came late.

        Parameters
        ----------
        panes
            Rolled-up rows of panes that end in (before_us, until_us].
        late
            Rolled-up rows of panes that had ended by before_us.
        before_us, until_us
            Event time before which everything was closed, and now is.
        """
        self.tables[PANE_US] = rollups.concat([self.tables[PANE_US], panes, late])
        for fine_us, coarse_us in pairwise(GRAINS):
            end = _end(coarse_us)
            late_here = rollups.coarsen(rollups.where(late, end <= before_us), coarse_us)
            added = [_with_late(self.tables[coarse_us], late_here)]
            if before_us // coarse_us < until_us // coarse_us:
                closing = rollups.where(self.tables[fine_us], (end > before_us) & (end <= until_us))
                added.append(commonest.few(rollups.merge(rollups.coarsen(closing, coarse_us))))
            self.tables[coarse_us] = rollups.concat(added)

    def forget(self, until_us: int, allowed_lateness_us: int) -> None:
        """Drop rows that are in final windows only."""
        for grain_us, table in self.tables.items():
            needed = pl.col("start_us") + _NEEDED_US[grain_us] + allowed_lateness_us > until_us
            if grain_us == PANE_US:
                needed = (needed & pl.col("rollup").is_in(_PANE_ROLLUPS)) | (_end(MINUTE_US) > until_us)
            self.tables[grain_us] = rollups.where(table, needed)

    def with_open(self, panes: Frames, closed_us: int, coarsest_us: int) -> dict[int, Frames]:
        """Tables in which open panes, and the minute and hour that they are in, count as far as they are.

        Parameters
        ----------
        panes
            Rolled-up rows of open panes.
        closed_us
            Event time up to which panes are closed.
        coarsest_us
            Grain to stop at.
        """
        tables = {PANE_US: rollups.concat([self.tables[PANE_US], panes])}
        for fine_us, coarse_us in pairwise(grain for grain in GRAINS if grain <= coarsest_us):
            unfinished = rollups.where(tables[fine_us], _end(coarse_us) > closed_us)
            tables[coarse_us] = rollups.concat(
                [self.tables[coarse_us], rollups.coarsen(unfinished, coarse_us)]
            )
        return tables


def _with_late(table: Frames, late: Frames) -> Frames:
    is_near = pl.col("start_us").is_in(rollups.distinct(late, ["start_us"]).to_series().implode())
    together = rollups.concat([rollups.where(table, is_near), late])
    # Adding up wide rows at every close would cost more than keeping some of them apart.
    if commonest.outgrow(together):
        together = commonest.few(rollups.merge(together))
    return rollups.concat([rollups.where(table, ~is_near), together])


def _end(length_us: int) -> pl.Expr:
    return (pl.col("start_us") // length_us + 1) * length_us
