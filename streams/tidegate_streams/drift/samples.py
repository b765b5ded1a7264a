"""Minutes of rolled-up rows -> what each metric of each series did, as histograms."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from tidegate.series import DIMENSIONS, OVERFLOW
from tidegate_streams import rollups
from tidegate_streams.rollouts.strata import strata_of
from tidegate_streams.rollups import SERIES_COLUMNS, Frames
from tidegate_streams.statistics.exceedances import ZERO, Histogram

BAD = 0
"""Bucket of bad events; good ones are `ZERO`, so that a rate is what lies above zero."""


class Series(NamedTuple):
    """A series of a roll-up.

    Parameters
    ----------
    rollup
        Such as ``model``.
    dimensions
        In the order of `tidegate.series.DIMENSIONS`; ``*`` where the roll-up does not keep one.
    """

    rollup: str
    dimensions: tuple[str, ...]

    def of(self, dimension: str) -> str:
        """Value of a dimension."""
        return self.dimensions[DIMENSIONS.index(dimension)]


Samples = Mapping[Series, Mapping[str, Histogram]]
"""Series -> metric -> bucket -> observations."""


def samples(rows: Frames) -> dict[int, dict[Series, dict[str, Histogram]]]:
    """Read closed minutes.

    Parameters
    ----------
    rows
        Rolled-up rows, added up: one a (series, minute). Live traffic counts, the overflow series do not.

    Returns
    -------
    dict
        Start of the minute -> `Samples`, in the order of time.
    """
    known = rollups.series(rows).filter(pl.col("traffic") == "live").with_row_index("row")
    held = [Series(rollup, tuple(dimensions)) for _, rollup, *dimensions in known.iter_rows()]
    # Each series stands as a variant of a stratum, which is how counts of rows are read already.
    frames = {
        kind: table.join(known, on=SERIES_COLUMNS).with_columns(
            pl.col("row").alias("variant"),
            pl.col("start_us").alias("pane_us"),
            pl.lit(None, pl.Int64).alias("assignment_revision"),
            pl.lit(value=False).alias("is_late"),
        )
        for kind, table in rows.items()
    }
    found: dict[int, dict[Series, dict[str, Histogram]]] = {}
    for stratum, done in sorted(strata_of(**frames).items(), key=lambda one: one[0].pane_us):
        minute = found.setdefault(stratum.pane_us, {})
        for row, pane in done.items():
            series = held[int(row)]
            if OVERFLOW not in series.dimensions:
                rates = {name: _as_histogram(*counts) for name, counts in pane.rates.items()}
                minute[series] = {**rates, **pane.histograms}
    return found


def _as_histogram(n: int, bad: int) -> Histogram:
    return {bucket: count for bucket, count in ((ZERO, n - bad), (BAD, bad)) if count}
