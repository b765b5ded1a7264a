"""Panes that end: looks at them, the sums they go into, and the windows that are due."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import polars as pl

from tidegate.records import Alert, WindowMetricsBatch
from tidegate.series import ROLLUPS
from tidegate_streams import alerts, emissions, looks, rollups, rows
from tidegate_streams.bag import Bag
from tidegate_streams.panes import Pool
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import filters, machine
from tidegate_streams.rollouts.halves import halves_of, serving
from tidegate_streams.rollouts.ripening import Unripe
from tidegate_streams.rollouts.state import State as Deployment
from tidegate_streams.rollouts.strata import Strata, ratings_of, strata_of
from tidegate_streams.rollups import Frames
from tidegate_streams.state import NEVER, State

EARLY_SERIES = 1_000
"""Most series shown at a tick before their windows end; with more, each is shown more seldom."""

PUT_OFF_ROWS = 10_000
"""Most rows that a replay puts off adding up: it is quicker done at once, and memory is bounded."""

BATCH_BYTES = 900_000
"""Largest Arrow stream in one message of llm.metrics; Kafka's own limit is 1 MiB."""


def close(
    state: State, offset: int, until_us: int, *, windows: bool
) -> tuple[list[emissions.Due], list[Any]]:
    """Close every pane that has ended: look, then add to minutes and hours, then see what is due."""
    before_us = state.closed_us
    if before_us is None:
        before_us = min(min(state.panes, default=until_us), until_us)
    closing = {start: state.panes.pop(start) for start in sorted(state.panes) if start < until_us}
    decided = _look(state, offset, closing, before_us, until_us)
    state.late = Pool(state.rules.series_cap)
    state.closed_us = until_us
    arrived, state.arrived = state.arrived, []
    due = []
    # Which names are the commonest depends on what was known then: late rows are added up when they were.
    if windows or _any_before(arrived, before_us):
        _catch_up(state, before_us)
        late = _settle(state, arrived, before_us, until_us)
        lateness_us = state.rules.allowed_lateness_us
        if windows and not state.history.is_empty:
            due = emissions.at_close(state.history, late, before_us, until_us, lateness_us)
        state.history.forget(until_us, lateness_us)
    else:
        if state.put_off_since_us is None:
            state.put_off_since_us = before_us
        state.put_off += arrived
        if _height(state.put_off) > PUT_OFF_ROWS:
            _catch_up(state, until_us)
    return due, [*decided, *_overflows_resolved(state, until_us)]


def _settle(state: State, arrived: list[Frames], before_us: int, until_us: int) -> Frames:
    """Add to panes, minutes and hours what has ended; return the rows that came after their pane's close."""
    _roll_up(state, arrived)
    ended, unclosed = rollups.split(state.unclosed.rows(), until_us)
    state.unclosed = Bag([unclosed])
    late, on_time = rollups.split(rollups.merge(ended), before_us)
    state.history.close(on_time, late, before_us, until_us)
    return late


def _roll_up(state: State, arrived: list[Frames]) -> None:
    if arrived:
        state.unclosed.add(rollups.roll_up(rollups.concat(arrived)))


def _catch_up(state: State, until_us: int) -> None:
    """Add up what a replay has put off, having nothing to show."""
    if state.put_off_since_us is None:
        return
    _settle(state, state.put_off, state.put_off_since_us, until_us)
    state.history.forget(until_us, state.rules.allowed_lateness_us)
    state.put_off, state.put_off_since_us = [], None


def show(state: State, *, windows: bool) -> list[emissions.Due]:
    """Show what changed since the last tick; a replay marks it, so that the next tick shows the same."""
    unshown, state.unshown = state.unshown, []
    if not windows and state.changed.is_empty() and _height(unshown) * len(ROLLUPS) <= EARLY_SERIES:
        return []
    changed = pl.concat([state.changed, rollups.series_in(unshown)])
    changed = changed.unique(maintain_order=True, keep="first")
    shown, state.changed = changed.head(EARLY_SERIES), changed.slice(EARLY_SERIES)
    if not windows or shown.is_empty():
        return []
    closed_us = NEVER if state.closed_us is None else state.closed_us
    _catch_up(state, closed_us)
    _roll_up(state, state.arrived)
    state.arrived = []
    return [emissions.in_between(state.history, state.unclosed.rows(), shown, closed_us)]


def _height(tables: Iterable[Frames]) -> int:
    return sum(rows.height for table in tables for rows in table.values())


def _any_before(arrived: Iterable[Frames], at_us: int) -> bool:
    return any(rows.get_column("pane_us").lt(at_us).any() for table in arrived for rows in table.values())


def _look(state: State, offset: int, closing: dict[int, Pool], before_us: int, until_us: int) -> list[Any]:
    decided: list[Any] = []
    quiet_since_us = state.quiet_since_us
    if closing:
        state.quiet_since_us = max(closing) + PANE_US
    if not state.rollouts:
        return decided
    at = machine.Position(partition=state.partition, offset=offset, watermark_us=state.watermark.us)
    shadowed = [key for key, one in state.rollouts.items() if one.spec and one.spec.strategy == "shadow"]
    specs = {key: one.spec for key, one in state.rollouts.items() if one.spec}
    passing = partial(filters.passed, key=looks.KEY, specs=specs)
    late = looks.by_deployment(
        state.late.bag.rows(), state.rollouts, late=True, shadowed=shadowed, passing=passing
    )
    filled = set(closing) | ({before_us} if late else set())
    for start_us in looks.panes_between(before_us, until_us, filled, quiet_since_us):
        shown = {}
        if start_us in closing:
            seen = closing[start_us].bag.rows()
            shown = looks.by_deployment(seen, state.rollouts, late=False, shadowed=shadowed, passing=passing)
        for key in sorted(state.rollouts):
            tables = [source[key] for source in (shown, late) if key in source]
            rows = looks.joined(tables) if tables else None
            strata = _strata(state, key, rows, start_us + PANE_US)
            halves = _halves(state.rollouts[key], rows)
            state.rollouts[key], outputs = machine.on_look(
                state.rollouts[key], start_us + PANE_US, strata, at, halves
            )
            decided += outputs
        late = {}
    return decided


def _strata(state: State, key: str, rows: Frames | None, end_us: int) -> Strata:
    """Strata of one look at one deployment; ratings of its rollout when it is their turn."""
    unripe = state.unripe.get(key) or Unripe()
    if rows is None and unripe.is_empty:
        return {}
    spec, revisions = state.rollouts[key].spec, state.rollouts[key].revisions
    metrics = {metric.name for metric in spec.metrics} if spec else set()
    compared = {variant.name for variant in spec.variants} if spec else set()

    def is_judged(revision: int | None, metric: str) -> bool:
        is_ours = spec is not None and revision is not None and (spec.dry_run or revision in revisions)
        return is_ours and metric in metrics

    found = {} if rows is None else strata_of(**rows)
    ratings = [] if rows is None else ratings_of(rows["feedback"], rows["evaluations"])
    # Those of a variant that is none of the rollout's would have the others wait for them.
    strata = unripe.compared(end_us, found, (one for one in ratings if one.variant in compared), is_judged)
    if unripe.is_empty:
        state.unripe.pop(key, None)
    else:
        state.unripe[key] = unripe
    return strata


def _halves(known: Deployment, rows: Frames | None) -> Strata:
    if known.spec is None or rows is None:
        return {}
    return halves_of(rows, serving(known.spec, known.state, known.winner))


def _overflows_resolved(state: State, until_us: int) -> Iterable[Alert]:
    """An overflow is over when a pane closed without one."""
    for mark, pane_us in list(state.overflowed_us.items()):
        if pane_us + PANE_US < until_us:
            del state.overflowed_us[mark]
            if mark in state.alerts.firing:
                yield alerts.resolved(state.alerts.firing[mark], until_us)


def batches(state: State, offset: int, formed: Frames) -> list[WindowMetricsBatch]:
    """Return formed windows as records to publish."""
    table = rows.table(formed, offset, state.watermark.us)
    if table.is_empty():
        return []
    return [
        WindowMetricsBatch(partition=state.partition, offset=offset, watermark=state.watermark.us, rows=data)
        for data in rows.batches(table, BATCH_BYTES)
    ]
