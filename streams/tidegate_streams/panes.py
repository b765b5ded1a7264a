"""Rows that have arrived and that no look has seen: an open pane, or the late ones since the last look."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from tidegate.series import DIMENSIONS, OVERFLOW
from tidegate_streams import partials
from tidegate_streams.bag import Bag
from tidegate_streams.rollups import KINDS, Frames

_SERIES = ["shard", *DIMENSIONS]

EMPTY: Frames = {kind: partials.empty(kind) for kind in KINDS}
"""No rows of the finest series; to those of stage 1, stage 2 adds `late`."""
EMPTY["calls"] = EMPTY["calls"].with_columns(late=pl.Series(dtype=pl.Int64))


@dataclass(frozen=True, slots=True)
class Overflow:
    """A shard that has more live series in a pane than the cap allows."""

    shard: str
    tenant: str
    series: int
    """Series of this message that went to the overflow series."""


@dataclass(slots=True)
class Pool:
    """Rows of the finest series, in the order of the journal.

    Parameters
    ----------
    series_cap
        Live series a shard may have here. What comes above goes to one overflow series a tenant: counted,
        never lost. Which series are first is the journal's order, so a replay decides the same.
    """

    series_cap: int
    bag: Bag = field(default_factory=lambda: Bag([EMPTY]))
    _at_most: int = 0

    def add(self, frames: Frames) -> tuple[Frames, list[Overflow]]:
        """Take in the rows of a message; return them as they count, and which shards are over the cap."""
        overflows: list[Overflow] = []
        # No shard has more series than there are rows: up to the cap, nothing need be compared.
        self._at_most += sum(rows.height for rows in frames.values())
        if self._at_most > self.series_cap:
            frames, overflows = self._within_cap(frames)
        self.bag.add(frames)
        return frames, overflows

    def _within_cap(self, frames: Frames) -> tuple[Frames, list[Overflow]]:
        known = _series(self.bag.rows().values())
        fresh = _series(frames.values()).join(known, on=_SERIES, how="anti", maintain_order="left")
        counted = known.group_by("shard").agg(pl.len().cast(pl.Int64).alias("known"))
        place = pl.int_range(1, pl.len() + 1).over("shard") + pl.col("known").fill_null(0)
        over = (
            fresh.join(counted, on="shard", how="left", maintain_order="left")
            .filter(place > self.series_cap)
            .select(*_SERIES, pl.lit(value=True).alias("_over"))
        )
        live = pl.concat([known, fresh.join(over, on=_SERIES, how="anti")])
        self._at_most = max((n for _, n in live.group_by("shard").agg(pl.len()).iter_rows()), default=0)
        if over.is_empty():
            return frames, []
        overflows = over.group_by("shard", "tenant").agg(pl.len()).sort("shard", "tenant")
        return (
            {kind: _overflowed(rows, over) for kind, rows in frames.items()},
            [Overflow(shard, tenant, n) for shard, tenant, n in overflows.iter_rows()],
        )


def _series(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    distinct = pl.concat([rows.select(_SERIES).unique() for rows in tables]).unique()
    return distinct.filter(pl.col("app") != OVERFLOW).sort(_SERIES)


def _overflowed(rows: pl.DataFrame, over: pl.DataFrame) -> pl.DataFrame:
    marked = rows.join(over, on=_SERIES, how="left", maintain_order="left")
    spill = pl.col("_over").fill_null(value=False)
    spilled = {name: pl.lit(OVERFLOW) for name in DIMENSIONS if name != "tenant"}
    spilled |= {"comparable": pl.lit(value=False), "assignment_revision": pl.lit(None), "aa": pl.lit(None)}
    return marked.with_columns(
        pl.when(spill).then(value).otherwise(pl.col(name)).alias(name) for name, value in spilled.items()
    ).drop("_over")
