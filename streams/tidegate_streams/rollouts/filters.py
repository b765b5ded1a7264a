"""Which calls of a deployment may decide, where the rollout does not ask all of them."""

from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from tidegate.records import Filter, Rollout
from tidegate.series import FILTERED

OPERATORS = ("in", "not_in")


def objections(filters: Iterable[Filter]) -> Iterator[str]:
    """Yield why filters cannot be applied, in sentences."""
    for one in filters:
        if one.dimension not in FILTERED:
            able = " or ".join(FILTERED)
            yield f"a filter asks for {one.dimension!r}: use {able}, which no variant changes"
        if one.op not in OPERATORS:
            yield f"a filter has the operator {one.op!r}: use {' or '.join(OPERATORS)}"
        if not one.value:
            yield f"the filter of {one.dimension} names no value: give at least one"


def condition(filters: Iterable[Filter]) -> pl.Expr:
    """Return which rows of the finest series pass every filter."""
    passes = pl.lit(True)
    for one in filters:
        among = pl.col(one.dimension).is_in(one.value)
        passes &= among if one.op == "in" else ~among
    return passes


def passed(rows: pl.DataFrame, key: pl.Expr, specs: Mapping[str, Rollout]) -> pl.DataFrame:
    """Leave out the rows that may not decide by the filters of their deployment's rollout.

    Parameters
    ----------
    rows
        Of the finest series.
    key
        Of a row's deployment.
    specs
        Key -> specification in force. Rows of other deployments pass.
    """
    asking = [name for name, spec in specs.items() if spec.filters]
    if not asking:
        return rows
    # Not one condition for all: it would be asked of every row, and grow with the rollouts.
    asked = rows.filter(key.is_in(asking)).with_columns(_key=key)
    parts = asked.partition_by("_key", as_dict=True)
    kept = [part.filter(condition(specs[name].filters)).drop("_key") for (name,), part in parts.items()]
    return pl.concat([rows.filter(~key.is_in(asking)), *kept])
