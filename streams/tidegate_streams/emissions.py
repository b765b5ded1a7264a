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

Due = tuple[windows.Tables, pl.DataFrame]
"""Rolled-up rows, and the windows to be formed of them."""

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
) -> list[Due]:
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
    tables = dict(history.tables)
    final_us = until_us - allowed_lateness_us
    spans = {
        "on_time": (max(before_us, final_us), until_us),
        "final": (before_us - allowed_lateness_us, final_us),
    }
    due: list[Due] = [(tables, windows.ending(tables, spans))]
    if any(rows.height for rows in late.values()):
        due.append((tables, windows.touched(late, final_us, before_us)))
    if before_us // MINUTE_US < until_us // MINUTE_US and until_us % HOUR_US:
        due.append(_day_so_far(history, before_us, until_us))
    return due


def in_between(history: History, open_rows: Frames, changed: pl.DataFrame, closed_us: int) -> Due:
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
    newest_us: int = rollups.distinct(open_rows, ["start_us"]).max().item() or 0
    due = windows.trailing(changed, _SHORT, newest_us + PANE_US)
    return history.with_open(open_rows, closed_us, MINUTE_US), due


def _day_so_far(history: History, before_us: int, until_us: int) -> Due:
    """The day that is being filled, each time that minutes close, for the series in them."""
    closed = (pl.col("start_us") + MINUTE_US > before_us) & (pl.col("start_us") + MINUTE_US <= until_us)
    series = rollups.series(rollups.where(history.tables[MINUTE_US], closed))
    due = windows.trailing(series, _DAYS, until_us)
    return history.with_open(rollups.EMPTY, until_us, HOUR_US), due
