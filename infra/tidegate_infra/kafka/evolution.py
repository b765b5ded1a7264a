"""Rows of every writer's schema in the reader's columns: Avro's schema resolution, for whole columns."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from tidegate.versions import Version
from tidegate.vocabulary import CLOSED, OTHER
from tidegate_infra.kafka import blocks

_NESTED = {"guardrails": "Guardrail", "series": "Series"}


def shared(version: Version, columns: Sequence[str]) -> list[str]:
    """Return the columns that a writer knew, under any of their names."""
    written = {field["name"] for field in version.source["fields"]}
    return [column for column in columns if column in written]


def aligned(frame: pl.DataFrame, version: Version, reader: Version, columns: Sequence[str]) -> pl.DataFrame:
    """Give rows of an older or newer writer the reader's columns: what was not written has its default."""
    if version.fingerprint == reader.fingerprint:
        return frame
    schema = blocks.schema_of(reader, columns)
    fields = {field["name"]: field for field in _inlined(reader.source)["fields"]}
    return frame.select(
        "_row",
        *(
            _resolve(pl.col(name) if name in frame.columns else None, frame.schema.get(name), schema[name],
            fields[name]) .alias(name) for name in columns
        ),
    )  # fmt: skip


def _resolve(expr: pl.Expr | None, have: Any, want: Any, field: dict[str, Any]) -> pl.Expr:
    if expr is None:
        return pl.lit(field.get("default"), dtype=want)
    return expr if have == want else _cast(expr, have, want, field["type"])


def _cast(expr: pl.Expr, have: Any, want: Any, kind: Any) -> pl.Expr:
    """Convert a column whose type has changed: numbers widen, records gain and lose fields."""
    if isinstance(kind, list):
        kind = next(branch for branch in kind if branch != "null")
    if isinstance(want, pl.List):
        return expr.list.eval(_cast(pl.element(), have.inner, want.inner, kind["items"]))
    if isinstance(want, pl.Struct):
        old = {f.name: f.dtype for f in have.fields}
        fields = {field["name"]: field for field in kind["fields"]}
        parts = (
            _resolve(
                expr.struct.field(f.name) if f.name in old else None, old.get(f.name), f.dtype, fields[f.name]
            ).alias(f.name)
            for f in want.fields
        )
        return pl.when(expr.is_not_null()).then(pl.struct(*parts))
    return expr.cast(want)


def _inlined(schema: Any, named: dict[str, Any] | None = None) -> Any:
    """Return a schema with every named type written out where it is used."""
    named = {} if named is None else named
    if isinstance(schema, list):
        return [_inlined(branch, named) for branch in schema]
    if isinstance(schema, str):
        return named.get(schema, schema)
    if schema["type"] == "record":
        fields = [{**field, "type": _inlined(field["type"], named)} for field in schema["fields"]]
        named[schema["name"]] = {**schema, "fields": fields}
        return named[schema["name"]]
    if schema["type"] == "array":
        return {**schema, "items": _inlined(schema["items"], named)}
    return schema


def closed(frame: pl.DataFrame, record: str) -> pl.DataFrame:
    """Replace values outside the contract's closed lists by `other`: those of newer writers still count."""
    changes = []
    for column, allowed in CLOSED.get(record, {}).items():
        if column in frame.columns and not _known(frame.get_column(column), allowed):
            changes.append(_or_other(pl.col(column), allowed).alias(column))
    for column, nested in _NESTED.items():
        if column in frame.columns and isinstance(dtype := frame.schema[column], pl.List | pl.Struct):
            changes += _nested_changes(frame.get_column(column), dtype, nested)
    return frame.with_columns(changes) if changes else frame


def _nested_changes(values: pl.Series, dtype: Any, record: str) -> list[pl.Expr]:
    records = values.explode(empty_as_null=False) if isinstance(dtype, pl.List) else values
    wrong = {
        field: allowed
        for field, allowed in CLOSED[record].items()
        if not _known(records.struct.field(field), allowed)
    }
    if not wrong:
        return []
    column = pl.col(values.name)
    each = pl.element() if isinstance(dtype, pl.List) else column
    changed = each.struct.with_fields(
        _or_other(each.struct.field(field), allowed).alias(field) for field, allowed in wrong.items()
    )
    if isinstance(dtype, pl.List):
        return [column.list.eval(changed)]
    return [pl.when(column.is_not_null()).then(changed).alias(values.name)]


def _known(values: pl.Series, allowed: tuple[str, ...]) -> bool:
    return values.is_in(allowed).all()


def _or_other(value: pl.Expr, allowed: tuple[str, ...]) -> pl.Expr:
    return pl.when(value.is_null() | value.is_in(allowed)).then(value).otherwise(pl.lit(OTHER))
