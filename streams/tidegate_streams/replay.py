"""The fold without Kafka: a journal as a list, for tests, notebooks and what-if questions."""

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from tidegate.records import WindowMetricsBatch
from tidegate_streams import fold, partials


def replay(
    journal: Iterable[tuple[int, Any]], partition: int = 0, rules: fold.Rules | None = None
) -> Iterator[tuple[int, list[Any]]]:
    """Fold one journal partition.

    Parameters
    ----------
    journal
        Offset and record of each message, in order.
    partition
        Its number; it stands in the evidence of commands.
    rules
        Those of the installation.

    Yields
    ------
    tuple
        Offset, and the records that the message causes.
    """
    state = fold.State(partition, rules or fold.Rules())
    for offset, record in journal:
        yield offset, fold.apply(state, offset, record)


def windows(outputs: Iterable[Any]) -> pl.DataFrame:
    """All rows of the windows among the outputs, in the order of their publication."""
    tables = [partials.unpack(batch.rows) for batch in outputs if isinstance(batch, WindowMetricsBatch)]
    return pl.concat(tables) if tables else pl.DataFrame()


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each window of each series the row with the highest version, as a store would show it."""
    key = ["rollup", "series_id", "window", "window_start"]
    return rows.sort("version").unique(key, keep="last").sort(key)
