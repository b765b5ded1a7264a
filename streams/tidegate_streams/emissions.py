"""Which windows go out, and when.

At a heartbeat that closes panes: each window that ended with them, on time; each window that late rows have
changed; each window whose allowed lateness has passed, once more and for good. In between, about once a
second, the windows being filled: only the newest one of each short length, only for series that changed. So
one event, late or not, never sends thousands of windows.
"""

from dataclasses import dataclass, field

import polars as pl

from tidegate.records import Heartbeat
from tidegate_streams import rollups, windows
from tidegate_streams.history import History
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollups import Frames
from tidegate_streams.windows import HOUR_US, MINUTE_US, WINDOWS

_SHORT = tuple(window for window in WINDOWS if window.length_us <= 5 * MINUTE_US)
_DAYS = tuple(window for window in WINDOWS if window.grain_us == HOUR_US)


@dataclass(slots=True)
class Ticks:
    """About one tick a second, counted in heartbeats, since nothing here may read a clock."""

    heard: set[str] = field(default_factory=set)

    def tick(self, beat: Heartbeat) -> bool:
        """Whether a worker is heard for the second time since the last tick."""
        due = beat.worker in self.heard
        if due:
            self.heard.clear()
        self.heard.add(beat.worker)
        return due


def at_close(
    history: History, late: Frames, before_us: int, until_us: int, allowed_lateness_us: int
) -> Frames:
    """Windows that are due when everything before `until_us` has been closed.

    Parameters
    ----------
    history
        Closed panes, minutes and hours, the late rows included.
    late
        Rolled-up rows that came late since the last close.
    before_us, until_us
        Event time before which everything was closed before, and is now.
    allowed_lateness_us
        How long after its end a window is corrected.
    """
    tables = history.tables
    final_us = until_us - allowed_lateness_us
    due = pl.concat(
        [
            windows.ending(tables, max(before_us, final_us), until_us, "on_time"),
            windows.ending(tables, before_us - allowed_lateness_us, final_us, "final"),
        ]
    )
    corrected = windows.touched(late, final_us, before_us)
    return rollups.concat(
        [
            windows.form(tables, due),
            windows.form(tables, corrected),
            _day_so_far(history, before_us, until_us),
        ]
    )


def in_between(history: History, open_rows: Frames, changed: pl.DataFrame, closed_us: int) -> Frames:
    """The newest window of each short length, for the series that changed since the last time.

    Parameters
    ----------
    history
        Closed panes and minutes.
    open_rows
        Rolled-up rows of the open panes.
    changed
        The roll-ups and dimensions that changed.
    closed_us
        Event time before which everything is closed.
    """
    starts = pl.concat([rows.select("start_us") for rows in open_rows.values()])
    newest_us: int = starts.max().item() or 0
    due = windows.trailing(changed, _SHORT, newest_us + PANE_US)
    return windows.form(history.with_open(open_rows, closed_us, MINUTE_US), due)


def _day_so_far(history: History, before_us: int, until_us: int) -> Frames:
    """The day that is being filled, each time that minutes close, for the series in them."""
    closed = (pl.col("start_us") + MINUTE_US > before_us) & (pl.col("start_us") + MINUTE_US <= until_us)
    series = rollups.series(rollups.where(history.tables[MINUTE_US], closed))
    if until_us % HOUR_US == 0:
        series = series.clear()
    due = windows.trailing(series, _DAYS, until_us)
    return windows.form(history.with_open(rollups.EMPTY, until_us, HOUR_US), due)
