"""What sources give: some events of one kind, and what was refused among them."""

from typing import NamedTuple

import polars as pl

from tidegate_streams.backtest.fitting import ROW

MOST_NAMED = 10
"""Refused lines and rows that are named; the others are counted."""


class Piece(NamedTuple):
    """Some events of one kind, and what was refused among them.

    Parameters
    ----------
    record
        Name of the events in the contract.
    events, refused
        As `fitting.fit` returns them; behind the first `MOST_NAMED` refused ones no detail need stand.
    share
        How much of the source has been read, 0 to 1.
    source
        Names the place of a row, together with its number.
    append_us
        When the broker got each event, in microseconds since the epoch; None where there was no broker.
    """

    record: str
    events: pl.DataFrame
    refused: pl.DataFrame
    share: float
    source: str
    append_us: pl.Series | None = None


def identified(table: pl.DataFrame) -> pl.DataFrame:
    """Give an id to rows that have none: they are no copies of anything."""
    own = pl.format("row {}", ROW)
    given = pl.coalesce("event_id", own) if "event_id" in table.columns else own
    return table.with_columns(given.alias("event_id"))
