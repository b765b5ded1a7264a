"""Sliding windows over panes, minutes and hours: which exist, which are due, and what is in them.

A window slides by the grain that it is made of: 1 m and 5 m of releases by panes of 10 s, those of other
roll-ups and 1 h by minutes, 1 d by hours. So a late event touches some hundred windows of its own series, and
never thousands.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tidegate.series import DIMENSIONS, ROLLUPS
from tidegate_streams import rollups
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollups import Frames

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
GRAINS = (PANE_US, MINUTE_US, HOUR_US)

PHASES = ("early", "on_time", "late", "final")
"""In the order of their version numbers."""


@dataclass(frozen=True, slots=True)
class Window:
    """A length of time that a roll-up is summed over.

    Parameters
    ----------
    rollup, name
        As in the output: `release`, `5m`.
    length_us
        Length in microseconds.
    grain_us
        Length of the rows that it is made of, and by which it slides.
    """

    rollup: str
    name: str
    length_us: int
    grain_us: int


def _windows() -> tuple[Window, ...]:
    windows = []
    for rollup in ROLLUPS:
        short_us = PANE_US if rollup == "release" else MINUTE_US
        windows += [
            Window(rollup, "1m", MINUTE_US, short_us),
            Window(rollup, "5m", 5 * MINUTE_US, short_us),
            Window(rollup, "1h", HOUR_US, MINUTE_US),
            Window(rollup, "1d", DAY_US, HOUR_US),
        ]
    return (Window("release", "10s", PANE_US, PANE_US), *windows)


WINDOWS = _windows()

DUE = {
    "rollup": pl.String,
    "window": pl.String,
    "window_start": pl.Int64,
    "window_end": pl.Int64,
    "grain_us": pl.Int64,
    "phase": pl.String,
}
"""Columns of a table of windows to be formed; with the dimensions too, only those series are formed."""

_LENGTHS = pl.DataFrame(
    [(window.rollup, window.name, window.length_us, window.grain_us) for window in WINDOWS],
    schema={"rollup": pl.String, "window": pl.String, "length_us": pl.Int64, "grain_us": pl.Int64},
    orient="row",
)

Tables = Mapping[int, Frames]
"""Grain (us) -> rolled-up rows of that grain."""


def ending(tables: Tables, spans: Mapping[str, tuple[int, int]]) -> pl.DataFrame:
    """Windows that hold something and end in a span of time.

    Parameters
    ----------
    tables
        Rolled-up rows by grain.
    spans
        Phase -> the times that its windows end after, and until which they end.
    """
    held = {grain_us: _starts(table) for grain_us, table in tables.items()}
    due = []
    for window in WINDOWS:
        starts = held.get(window.grain_us, {}).get(window.rollup, [])
        ends = np.unique(np.array(starts, dtype=np.int64)[:, np.newaxis] + _reach(window))
        for phase, (after_us, until_us) in spans.items():
            due += [_due(window, end, phase) for end in ends[(ends > after_us) & (ends <= until_us)].tolist()]
    return pl.DataFrame(due, schema=DUE, orient="row")


def _reach(window: Window) -> npt.NDArray[np.int64]:
    """Distance from the start of a row to the end of every window that holds it."""
    return np.arange(window.grain_us, window.length_us + 1, window.grain_us, dtype=np.int64)


def _starts(table: Frames) -> dict[str, list[int]]:
    """Starts of the rows of each roll-up."""
    starts = pl.concat([rows.select("rollup", "start_us") for rows in table.values()])
    return dict(starts.group_by("rollup").agg(pl.col("start_us").unique()).iter_rows())


def _due(window: Window, end_us: int, phase: str) -> tuple[str, str, int, int, int, str]:
    return window.rollup, window.name, end_us - window.length_us, end_us, window.grain_us, phase


def touched(late: Frames, after_us: int, until_us: int) -> pl.DataFrame:
    """Windows, per series, that late rows fall into and that end in (after_us, until_us].

    Parameters
    ----------
    late
        Rolled-up rows of panes that are closed.
    after_us, until_us
        Windows that end later have not been on time yet; those that end earlier are final.
    """
    grain = pl.col("grain_us")
    floor = pl.col("start_us") // grain * grain
    last_end = (floor + pl.col("length_us")).clip(upper_bound=until_us)
    return (
        rollups.distinct(late, [*rollups.SERIES_COLUMNS, "start_us"])
        .join(_LENGTHS, on="rollup")
        .with_columns(pl.int_ranges(floor + grain, last_end + 1, grain, dtype=pl.Int64).alias("window_end"))
        .explode("window_end")
        .filter(pl.col("window_end") > after_us)
        .with_columns(
            (pl.col("window_end") - pl.col("length_us")).alias("window_start"), pl.lit("late").alias("phase")
        )
        .select(*DUE, *DIMENSIONS)
        .unique()
    )


def trailing(series: pl.DataFrame, windows: Iterable[Window], now_us: int) -> pl.DataFrame:
    """The window of each length that is being filled, for the series given.

    Parameters
    ----------
    series
        Distinct roll-ups and dimensions.
    windows
        The lengths wanted.
    now_us
        End of the newest pane.
    """
    due = [_due(window, -(-now_us // window.grain_us) * window.grain_us, "early") for window in windows]
    ends = pl.DataFrame(due, schema=DUE, orient="row")
    return ends.join(series, on="rollup", how="inner").select(*DUE, *DIMENSIONS)


def form(due: Iterable[tuple[Tables, pl.DataFrame]]) -> Frames:
    """Add up what is in the windows that are due.

    Parameters
    ----------
    due
        Rolled-up rows by grain, rows of one key may be many; and which windows of them, as `ending`,
        `touched` or `trailing` list them. No window is in two of the lists.

    Returns
    -------
    Frames
        One row a (window, series), with the columns of `DUE` in place of `start_us`.
    """
    held = [_NOTHING]
    for tables, listed in due:
        if listed.is_empty():
            continue
        on = ["rollup", "start_us", *(name for name in DIMENSIONS if name in listed.columns)]
        cells = listed.with_columns(
            pl.int_ranges("window_start", "window_end", "grain_us", dtype=pl.Int64).alias("start_us")
        ).explode("start_us")
        for (grain_us,), wanted in cells.partition_by("grain_us", as_dict=True).items():
            held.append(
                {
                    kind: rows.join(wanted, on=on).select(_NOTHING[kind].columns)
                    for kind, rows in tables[grain_us].items()
                    if rows.height
                }
            )
    return rollups.merge(rollups.concat(held))


_NOTHING = {
    kind: rows.drop("start_us").with_columns(
        pl.Series(name, dtype=dtype) for name, dtype in DUE.items() if name != "rollup"
    )
    for kind, rows in rollups.EMPTY.items()
}
