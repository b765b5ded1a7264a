"""Rows into ClickHouse, once: the token helps, the audit decides.

The engine writes its deduplication log before it makes a part visible, so that a kill in between leaves
"already inserted" for rows that are not there; and its token counts blocks. So a range is one block, and
whenever an insert may have been tried before, the rows that stand are counted, and exactly the missing ones
are inserted again.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from tidegate.errors import ConfigError, DependencyUnavailable, InvariantBroken
from tidegate.topics import TOPICS
from tidegate_consumers.sink import arrow
from tidegate_consumers.sink.facts import KEPT_DAYS, TABLES, UPSERTED, Frames
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.kafka.log import Log
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.settings import Settings

ANSWER_S = 60
"""How long an answer of the store is waited for."""

RANGE_ROWS = 100_000
"""Ranges may have had at least so many messages, though the setting allows fewer by now."""

_SKEW_S = 3_600
"""The store's clock may be so far from ours and from Kafka's, together."""

_ROUNDS = 5
"""Repairs of one range before the store is taken for broken."""

_COLUMNS = """SELECT table, name, type FROM system.columns WHERE database = currentDatabase() AND
default_kind NOT IN ('ALIAS', 'MATERIALIZED') ORDER BY table, position"""

# Bounded from below, so that the index by offset leaves out nearly all of a big table.
_LAST = """SELECT maxOrNull(_offset) FROM {table:Identifier}
WHERE _topic_id = {topic_id:String} AND _partition = {partition:UInt16} AND _offset >= {lo:UInt64}"""

_OF_RANGE = """FROM {table:Identifier} WHERE _topic_id = {topic_id:String} AND _partition = {partition:UInt16}
AND _offset BETWEEN {lo:UInt64} AND {hi:UInt64}"""
_COUNTED = "SELECT count(), uniqExact(_offset) " + _OF_RANGE
_STANDING = "SELECT _offset " + _OF_RANGE

_KNOWN = """SELECT max(last_offset), count() FROM log_losses
WHERE _topic_id = {topic_id:String} AND _partition = {partition:UInt16}"""

# One range is one block, and it stands when the answer comes.
_ONE_BLOCK = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "distributed_foreground_insert": 1,
    "wait_end_of_query": 1,
    "max_insert_block_size": 10_000_000,
    "min_insert_block_size_rows": 0,
    "min_insert_block_size_bytes": 0,
    # A replay of the past may touch more days than the default allows.
    "max_partitions_per_insert_block": 0,
    # What is unknown must not become zero.
    "input_format_null_as_default": 0,
}


@dataclass(slots=True)
class Stored:
    """What an effect did.

    Parameters
    ----------
    rows
        Rows of the range by table.
    audited
        Whether the rows that stand were counted.
    repaired
        Rows that were missing after the token was taken for known.
    """

    rows: dict[str, int] = field(default_factory=dict)
    audited: bool = False
    repaired: int = 0


class Store:
    """The fact tables of the store.

    Parameters
    ----------
    settings
        Where ClickHouse is.

    Raises
    ------
    DependencyUnavailable
        ClickHouse does not answer.
    ConfigError
        A table is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._client: Client = clickhouse.connect(settings, answer_seconds=ANSWER_S)
        self._range_rows = max(settings.sink_range_rows, RANGE_ROWS)
        self._types: dict[str, dict[str, str]] = {}
        for table, column, type_ in self._client.query(_COLUMNS).result_rows:
            self._types.setdefault(table, {})[column] = type_
        missing = sorted({table for tables in TABLES.values() for table in tables} - set(self._types))
        if missing:
            raise ConfigError(
                f"{settings.clickhouse} has no table {', '.join(missing)}: make them with `tidegate "
                "migration up`"
            )

    def put(self, range_: Range, frames: Frames, *, doubtful: bool) -> Stored:
        """Write a range's rows; when it returns, exactly they stand.

        Parameters
        ----------
        range_
            The range that the rows came from.
        frames
            Its rows by table.
        doubtful
            They may have been written before, wholly or in part: a redo, a try without a clean answer, or
            offsets below `end`.

        Raises
        ------
        InvariantBroken
            More rows stand than the range has.
        DependencyUnavailable
            The store did not answer, or refused; whether rows stand is not known.
        """
        stored = Stored(audited=doubtful)
        try:
            for table, frame in frames.items():
                stored.rows[table] = frame.height
                if doubtful and table not in UPSERTED:
                    stored.repaired += self._make_whole(table, range_, frame)
                else:
                    self._insert(table, frame, range_.name)
        except (ClickHouseError, OSError) as error:
            why = clickhouse.reason(error)
            raise DependencyUnavailable(f"range {range_.name} is not stored yet: {why}") from error
        return stored

    def end(self, range_: Range) -> int:
        """Offset behind the last row at or after a range's first offset; that offset when there is none.

        Of the tables that rows must not stand in twice.

        Raises
        ------
        DependencyUnavailable
            The store did not answer, or refused.
        """
        tables = [table for table in TABLES[range_.topic] if table not in UPSERTED]
        try:
            return self._end(tables, range_, range_.lo)
        except (ClickHouseError, OSError) as error:
            why = clickhouse.reason(error)
            raise DependencyUnavailable(f"range {range_.name} is not stored yet: {why}") from error

    def next_offset(self, log: Log) -> int:
        """Offset to go on from without offsets of the group: a range before the last one that has a row.

        The last range may stand in some tables and not in others, and its messages may lie far apart. So we
        go back until a table has rows of as many messages as a range may have, or the log begins.
        """
        tables = TABLES[log.topic]
        end = self._end(tables, log, log.low)
        lo = end - self._range_rows
        while lo > log.low and self._most(tables, log, lo, end) < self._range_rows:
            lo = end - 2 * (end - lo)
        return max(log.low, lo)

    def note_loss(self, log: Log, lo: int) -> None:
        """Record which offsets without rows the log's retention took, as far as that is not known.

        As many events are lost at most: nobody can tell any more which of the offsets were of marks of
        transactions, or of messages that have no rows.

        Parameters
        ----------
        log
            As it is now.
        lo
            First offset that was not settled: of a range that was claimed, rows may stand.
        """
        [(known, rows)] = self._client.query(_KNOWN, _place(log)).result_rows
        # Between two starts retention may have gone on: only what is gone since is new.
        lo = max(lo, known + 1 if rows else 0)
        where = {**_place(log), "lo": lo, "hi": log.low - 1}
        standing: set[int] = set()
        for table in TABLES[log.topic]:
            found = self._client.query(_STANDING, {"table": table, **where}).result_columns
            standing.update(found[0] if found else [])
        if gone := gaps(lo, log.low, standing):
            lost = pl.DataFrame(gone, schema=["first_offset", "last_offset"], orient="row").with_columns(
                topic=pl.lit(log.topic),
                _topic_id=pl.lit(log.topic_id),
                _partition=pl.lit(log.partition),
                noted_ts=pl.lit(datetime.now(UTC)),
            )
            self._insert("log_losses", lost, f"{log.topic_id}:{log.partition}:{lo}-{log.low - 1}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _end(self, tables: Iterable[str], source: Range | Log, lo: int) -> int:
        ends = [lo]
        for table in tables:
            [last] = self._one(_LAST, {"table": table, "lo": lo, **_place(source)})
            ends += [] if last is None else [last + 1]
        return max(ends)

    def _most(self, tables: Iterable[str], source: Log, lo: int, end: int) -> int:
        """Messages in [lo, end) that have rows in the table where most have."""
        where = {"lo": lo, "hi": end - 1, **_place(source)}
        return max(int(self._one(_COUNTED, {"table": table, **where})[1]) for table in tables)

    def _one(self, query: str, where: dict[str, object]) -> Sequence[Any]:
        """Ask for what is one row, whatever stands."""
        rows = self._client.query(query, where).result_rows
        if len(rows) != 1:
            raise DependencyUnavailable(
                f"{where['table']}: ClickHouse was asked for one row and answered {len(rows)}"
            )
        return rows[0]

    def _insert(self, table: str, frame: pl.DataFrame, token: str) -> None:
        done = self._client.insert_arrow(
            table,
            arrow.table(frame, self._types[table]),
            settings=_ONE_BLOCK | {"insert_deduplication_token": token},
        )
        # An answer that begins with 200 may hold an exception where its reader does not look. Rows that are
        # known by their token are in the sum too, and rows of views.
        if done.written_rows < frame.height:
            raise DependencyUnavailable(
                f"ClickHouse answered the insert of {frame.height} rows into {table} without saying that it "
                "wrote them: look at its log, and at what stands between it and the sink"
            )

    def _make_whole(self, table: str, range_: Range, frame: pl.DataFrame) -> int:
        """Insert what is missing until nothing is; return how many rows the token alone would have lost."""
        missing = self._missing(table, range_, frame)
        if missing.height:
            # Not all of its rows: those that stand may do so under the tokens of other ranges.
            self._insert(table, missing, range_.name)
            missing = self._missing(table, range_, frame)
        repaired, repairs = missing.height, 0
        while missing.height:
            if repairs == _ROUNDS:
                raise DependencyUnavailable(
                    f"{table}: {missing.height} rows of range {range_.name} are still missing after "
                    f"{_ROUNDS} repairs"
                )
            repairs += 1
            self._insert(table, missing, f"{range_.name}:r{repairs}")
            missing = self._missing(table, range_, frame)
        return repaired

    def _missing(self, table: str, range_: Range, frame: pl.DataFrame) -> pl.DataFrame:
        where = {"table": table, "lo": range_.lo, "hi": range_.hi, **_place(range_)}
        # Compaction may have taken messages since their rows were written, so that more may stand.
        compacted = "compact" in TOPICS[range_.topic].config.get("cleanup.policy", "")
        standing, distinct = self._one(_COUNTED, where)
        if standing == distinct == frame.height and not compacted:
            return frame.clear()
        found = self._client.query(_STANDING, where).result_columns
        offsets = pl.Series(found[0] if found else [], dtype=pl.Int64)
        if len(offsets) != standing:
            # Half an answer, or an earlier try that is still at work: neither says what is missing.
            raise DependencyUnavailable(
                f"{table}: ClickHouse counted {standing} rows of range {range_.name} and then gave "
                f"{len(offsets)}"
            )
        strange = offsets.filter(~offsets.is_in(frame.get_column("_offset").implode()))
        if standing != distinct or (len(strange) and not compacted):
            raise InvariantBroken(
                f"{table}: {standing} rows stand for range {range_.name}, which has {frame.height}: find out "
                "who else writes there. Nothing was changed"
            )
        missing = frame.filter(~pl.col("_offset").is_in(offsets.implode()))
        if table in KEPT_DAYS:
            # What the store has dropped for its age, or is about to, is not missing.
            old_ms = (time.time() - KEPT_DAYS[table] * 86_400 + _SKEW_S) * 1_000
            missing = missing.filter(pl.col("append_ts") > old_ms)
        return missing


def gaps(lo: int, end: int, standing: Collection[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of offsets in [lo, end) that are not standing."""
    behind = [lo, *(offset + 1 for offset in sorted(standing))]
    return [
        (first, stop - 1)
        for first, stop in zip(behind, [*sorted(standing), end], strict=True)
        if first < stop
    ]


def _place(source: Range | Log) -> dict[str, object]:
    return {"topic_id": source.topic_id, "partition": source.partition}
