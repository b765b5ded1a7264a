"""Events of the store: what the sink wrote of the rollout's deployment, as columns."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import fields
from typing import Any

import polars as pl
from clickhouse_connect.driver.exceptions import ClickHouseError

from tidegate.errors import DependencyUnavailable
from tidegate.records import Rollout, Series
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.settings import Settings
from tidegate_streams.backtest import fitting
from tidegate_streams.backtest.fitting import ROW
from tidegate_streams.backtest.pieces import Piece

_TABLES = {"LLMCall": "calls", "Feedback": "feedback", "Evaluation": "evaluations"}
_TIMES = frozenset({"ts_start", "ts_end", "call_ts_end"})
_SERIES = [one.name for one in fields(Series)]
_BLOCK_ROWS = 100_000
_ARROW = {
    "max_block_size": _BLOCK_ROWS,
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
}

_WHERE = """
WHERE tenant = %(tenant)s AND environment = %(environment)s AND deployment = %(deployment)s
AND ts >= fromUnixTimestamp64Micro(%(since_us)s) AND ts < fromUnixTimestamp64Micro(%(until_us)s)"""
_EVER_US = (0, 10**16)


def read(settings: Settings, spec: Rollout, since_us: int | None, until_us: int | None) -> Iterator[Piece]:
    """Read the events of a rollout's deployment.

    Parameters
    ----------
    settings
        Where ClickHouse is.
    spec
        The rollout.
    since_us, until_us
        Event time from which and before which they are wanted, in microseconds since the epoch; None is all.

    Raises
    ------
    ConfigError
        It refuses the user, or has no such database.
    DependencyUnavailable
        It does not answer, or refuses.
    """
    asked = {
        "tenant": spec.tenant,
        "environment": spec.environment,
        "deployment": spec.deployment,
        "since_us": _EVER_US[0] if since_us is None else since_us,
        "until_us": _EVER_US[1] if until_us is None else until_us,
    }
    with closing(clickhouse.connect(settings, readonly=True)) as client:
        try:
            for record, table in _TABLES.items():
                yield from _table(client, record, table, asked)
        except (ClickHouseError, OSError) as error:
            raise DependencyUnavailable(
                f"ClickHouse does not give the events ({clickhouse.reason(error)}): see `tidegate doctor`"
            ) from error


def _table(client: Any, record: str, table: str, asked: Mapping[str, Any]) -> Iterator[Piece]:
    rows = int(client.query(f"SELECT count() FROM {table}{_WHERE}", asked).first_row[0])  # noqa: S608
    done = 0
    with client.query_arrow_stream(_query(record, table), asked, settings=_ARROW) as batches:
        for batch in batches:
            frame = pl.DataFrame(pl.from_arrow(batch)).with_row_index(ROW, done + 1).cast({ROW: pl.Int64})
            events, refused = fitting.fit(_nested(frame, record), record, {}, strict=False)
            done += frame.height
            append_us = frame.get_column("append_us").filter(
                frame.get_column(ROW).is_in(events.get_column(ROW))
            )
            yield Piece(record, events, refused, done / rows, table, append_us)


def _query(record: str, table: str) -> str:
    """Ask for the columns of a record; what is a record inside it stands in columns of its own."""
    names = [name for name in fitting.fields(record) if name not in ("retrieval", "series", "ts")]
    if record == "LLMCall":
        names += ["retrieval_count", "retrieval_duration_us"]
    else:
        names += [name for name in _SERIES if name not in names]
    columns = [f"toUnixTimestamp64Micro({name}) AS {name}_us" if name in _TIMES else name for name in names]
    if record != "LLMCall":
        columns.append("toUnixTimestamp64Micro(ts_reported) AS ts_us")
    columns.append("toUnixTimestamp64Milli(append_ts) * 1000 AS append_us")
    return f"SELECT {', '.join(columns)} FROM {table}{_WHERE}"  # noqa: S608


def _nested(frame: pl.DataFrame, record: str) -> pl.DataFrame:
    """Put together again the records inside an event."""
    frame = frame.rename({f"{name}_us": name for name in (*_TIMES, "ts") if f"{name}_us" in frame.columns})
    if record == "LLMCall":
        retrieval = pl.struct(count="retrieval_count", duration_us="retrieval_duration_us")
        return frame.with_columns(retrieval=pl.when(pl.col("retrieval_count").is_not_null()).then(retrieval))
    return frame.with_columns(series=pl.struct(_SERIES))
