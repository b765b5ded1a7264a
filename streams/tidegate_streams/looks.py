"""What a rollout is shown: one look a pane, in pane order, however many panes close at once."""

from collections.abc import Callable, Collection, Iterable, Iterator

import polars as pl

from tidegate_streams import partials
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollups import KINDS, Frames
from tidegate_streams.windows import DAY_US, HOUR_US

KEY = pl.concat_str("tenant", "environment", "deployment", separator="/")
"""Of the deployment that a row is about."""

_RELEASE = ("tenant", "environment", "deployment", "variant", "assignment_revision", "aa", "pane_us")


def _all(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


def _columns(kind: str) -> list[str]:
    return [*_RELEASE, *(name for name in partials.SCHEMAS[kind] if name not in partials.SERIES_KEY)]


_NOTHING = {
    kind: partials.empty(kind).select(_columns(kind)).with_columns(is_late=pl.Series(dtype=pl.Boolean))
    for kind in KINDS
}


def panes_between(from_us: int, until_us: int, filled: Collection[int], quiet_since_us: int) -> Iterator[int]:
    """Starts of the panes to look at, ascending.

    A rollout's deadlines pass in silence too, so empty panes are looked at; but when nothing has come for an
    hour, only at those that end an hour, and after a day only at those that end a day: the watermark may jump
    over years.

    Parameters
    ----------
    from_us, until_us
        Bounds of what closes.
    filled
        Starts of the panes that hold rows.
    quiet_since_us
        End of the last pane that held rows.
    """
    ahead = iter(sorted(filled))
    following = next(ahead, None)
    pane_us = from_us
    while pane_us < until_us:
        if pane_us == following:
            quiet_since_us = pane_us + PANE_US
            following = next(ahead, None)
        else:
            quiet_us = pane_us - quiet_since_us
            stride_us = PANE_US if quiet_us < HOUR_US else HOUR_US if quiet_us < DAY_US else DAY_US
            last_us = (pane_us // stride_us + 1) * stride_us - PANE_US
            if last_us != pane_us:
                pane_us = last_us if following is None else min(last_us, following)
                continue
        yield pane_us
        pane_us += PANE_US


def by_deployment(
    frames: Frames,
    keys: Iterable[str],
    *,
    late: bool,
    shadowed: Iterable[str] = (),
    passing: Callable[[pl.DataFrame], pl.DataFrame] = _all,
) -> dict[str, Frames]:
    """Rows that may decide, per deployment with a rollout, by variant, half of its units and stratum.

    Parameters
    ----------
    frames
        Rows of the finest series.
    keys
        Deployment keys of the rollouts.
    late
        Whether the rows come from panes that have been looked at; they are a stratum of their own.
    shadowed
        Keys of the rollouts whose candidate serves nobody: what copies of calls did counts there.
    passing
        Leaves out the rows that the filters of their rollout do, see `rollouts.filters`.
    """
    wanted = list(keys)
    copies = (
        (pl.col("traffic") == "shadow")
        & pl.col("assignment_revision").is_not_null()
        & KEY.is_in(list(shadowed))
    )
    shown: dict[str, Frames] = {}
    for kind in KINDS:
        if frames[kind].is_empty():
            continue
        may_decide = KEY.is_in(wanted) & (pl.col("comparable") | copies)
        rows = passing(frames[kind].filter(may_decide)).select(_columns(kind))
        if rows.is_empty():
            continue
        merged = partials.merge(rows).with_columns(pl.lit(late).alias("is_late"), KEY.alias("_key"))
        for (key,), part in merged.partition_by("_key", as_dict=True, include_key=False).items():
            shown.setdefault(str(key), {})[kind] = part
    return shown


def joined(tables: Iterable[Frames]) -> Frames:
    """Rows of several tables of one deployment, all kinds present."""
    tables = list(tables)
    return {
        kind: pl.concat([_NOTHING[kind], *(table[kind] for table in tables if kind in table)])
        for kind in KINDS
    }
