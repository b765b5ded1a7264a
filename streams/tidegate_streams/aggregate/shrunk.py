"""What ranges of events have shrunk to, before it is packed."""

from dataclasses import dataclass, field

import polars as pl

RANGE = "_range"
"""Column with the number of a row's range: several are shrunk at once, and never mixed."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What ranges of one topic add.

    Parameters
    ----------
    kind
        Of the frame: calls, feedback or evaluations.
    frame
        `_range` and one row a (shard, pane, series), merged and sorted.
    latest_us
        Latest event time of each range that has events, in microseconds since the epoch.
    unresolved
        Ratings without a series, by range and shard: they wait for a resolver.
    """

    kind: str
    frame: pl.DataFrame
    latest_us: dict[int, int] = field(default_factory=dict)
    unresolved: dict[tuple[int, str], int] = field(default_factory=dict)
