"""Frames to Arrow tables that ClickHouse takes as they are: one block, few strings as dictionaries."""

from collections.abc import Mapping

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc


def table(frame: pl.DataFrame, types: Mapping[str, str]) -> pa.Table:
    """Return a frame's rows in the columns of a ClickHouse table.

    Parameters
    ----------
    frame
        With at least the columns of the table; times are integers of the column's unit, or times.
    types
        Column -> ClickHouse type, in the table's order.

    Returns
    -------
    pyarrow.Table
        One record batch. Columns of type LowCardinality are dictionary-encoded: that halves the time of an
        insert.
    """
    selected = frame.select(_cast(name, type_) for name, type_ in types.items())
    arrow = selected.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    columns = [_fitted(arrow.column(name), type_) for name, type_ in types.items()]
    return pa.table(columns, names=list(types))


def _cast(name: str, type_: str) -> pl.Expr:
    column = pl.col(name)
    if "DateTime64(6" in type_:
        return column.cast(pl.Datetime("us", "UTC"))
    if "DateTime64(3" in type_:
        return column.cast(pl.Datetime("ms", "UTC"))
    if type_.startswith("UInt"):
        return column.cast(pl.UInt16 if type_ == "UInt16" else pl.UInt64)
    return column


def _fitted(column: pa.ChunkedArray, type_: str) -> pa.Array:
    array = (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )
    if type_.startswith("LowCardinality"):
        return pc.dictionary_encode(array)
    if type_.startswith("Map"):
        return _map(array)
    return array


def _map(pairs: pa.Array) -> pa.Array:
    entries = pairs.flatten()
    offsets = pc.subtract(pairs.offsets, pairs.offsets[0]).cast(pa.int32())
    key, value = entries.type.field(0).name, entries.type.field(1).name
    return pa.MapArray.from_arrays(offsets, entries.field(key), entries.field(value))
