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
from tidegate_streams.rollups import KINDS, Frames

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

Tables = Mapping[int, Frames]
"""Grain (us) -> rolled-up rows of that grain."""


def ending(tables: Tables, after_us: int, until_us: int, phase: str) -> pl.DataFrame:
    """Windows that hold something and end in (after_us, until_us]."""
    due = [pl.DataFrame(schema=DUE)]
    starts = {
        (rollup, grain_us): _starts(table, rollup) for grain_us, table in tables.items() for rollup in ROLLUPS
    }
    for window in WINDOWS:
        held = starts.get((window.rollup, window.grain_us))
        if held is None or not len(held):
            continue
        ends = np.unique(held[:, np.newaxis] + _reach(window))
        due.append(_due(window, ends[(ends > after_us) & (ends <= until_us)], phase))
    return pl.concat(due)


def _reach(window: Window) -> npt.NDArray[np.int64]:
    """Distance from the start of a row to the end of every window that holds it."""
    return np.arange(window.grain_us, window.length_us + 1, window.grain_us, dtype=np.int64)


def _starts(table: Frames, rollup: str) -> npt.NDArray[np.int64]:
    held = [rows.filter(pl.col("rollup") == rollup).get_column("start_us") for rows in table.values()]
    return pl.concat(held).unique().to_numpy()


def _due(window: Window, ends: npt.NDArray[np.int64], phase: str) -> pl.DataFrame:
    return pl.DataFrame({"window_end": ends}, schema={"window_end": pl.Int64}).select(
        pl.lit(window.rollup).alias("rollup"),
        pl.lit(window.name).alias("window"),
        (pl.col("window_end") - window.length_us).alias("window_start"),
        "window_end",
        pl.lit(window.grain_us, dtype=pl.Int64).alias("grain_us"),
        pl.lit(phase).alias("phase"),
    )


def touched(late: Frames, after_us: int, until_us: int) -> pl.DataFrame:
    """Windows, per series, that late rows fall into and that end in (after_us, until_us].

    Parameters
    ----------
    late
        Rolled-up rows of panes that are closed.
    after_us, until_us
        Windows that end later have not been on time yet; those that end earlier are final.
    """
    columns = ["rollup", *DIMENSIONS, "start_us"]
    series = pl.concat([rows.select(columns) for rows in late.values()]).unique()
    due = [pl.DataFrame(schema=DUE | dict.fromkeys(DIMENSIONS, pl.String))]
    for window in WINDOWS:
        grain = window.grain_us
        first_end = (pl.col("start_us") // grain + 1) * grain
        last_end = ((pl.col("start_us") - pl.col("start_us") % grain) + window.length_us).clip(
            upper_bound=until_us
        )
        ends = (
            series.filter(pl.col("rollup") == window.rollup)
            .with_columns(pl.int_ranges(first_end, last_end + 1, grain).alias("window_end"))
            .explode("window_end")
            .filter(pl.col("window_end") > after_us)
        )
        due.append(
            ends.select(
                "rollup",
                pl.lit(window.name).alias("window"),
                (pl.col("window_end") - window.length_us).alias("window_start"),
                "window_end",
                pl.lit(grain, dtype=pl.Int64).alias("grain_us"),
                pl.lit("late").alias("phase"),
                *DIMENSIONS,
            )
        )
    return pl.concat(due).unique()


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
    due = [pl.DataFrame(schema=DUE)]
    for window in windows:
        end = -(-now_us // window.grain_us) * window.grain_us
        due.append(_due(window, np.array([end], dtype=np.int64), "early"))
    columns = [*DUE, *DIMENSIONS]
    return pl.concat(due).join(series, on="rollup", how="inner").select(columns)


def form(tables: Tables, due: pl.DataFrame) -> Frames:
    """Add up what is in the windows that are due.

    Parameters
    ----------
    tables
        Rolled-up rows by grain; rows of one key may be many.
    due
        Windows as `ending`, `touched` or `trailing` list them.

    Returns
    -------
    Frames
        One row a (window, series), with the columns of `due` in place of `start_us`.
    """
    series = [name for name in DIMENSIONS if name in due.columns]
    formed: dict[str, pl.DataFrame] = {}
    cells = due.with_columns(
        pl.int_ranges("window_start", "window_end", "grain_us", dtype=pl.Int64).alias("start_us")
    ).explode("start_us")
    for kind in KINDS:
        joined = [
            rows.join(cells.filter(pl.col("grain_us") == grain_us), on=["rollup", "start_us", *series]).drop(
                "start_us"
            )
            for grain_us, table in tables.items()
            if not (rows := table[kind]).is_empty()
        ]
        if not joined:
            joined = [rollups.EMPTY[kind].drop("start_us").join(due.clear(), on=["rollup", *series])]
        formed[kind] = pl.concat(joined)
    return rollups.merge(formed)
