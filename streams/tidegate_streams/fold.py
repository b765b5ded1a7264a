"""The fold: one partition of the journal in its order, in; windows, commands and alerts, out.

Nothing here reads a clock or a topic: the same messages give the same outputs, in the running process, after
a restart and in a notebook.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

import polars as pl

from tidegate.codec import decode
from tidegate.errors import ContractError
from tidegate.records import (
    Alert,
    Heartbeat,
    JournalAction,
    JournalRollout,
    PartialBatch,
    Rollout,
    RolloutAction,
    RolloutProgress,
    WindowMetricsBatch,
)
from tidegate.series import ROLLUPS, deployment_key
from tidegate_streams import alerts, emissions, looks, partials, rollups, rows
from tidegate_streams.alerts import Alerts
from tidegate_streams.bag import Bag
from tidegate_streams.deletion import DELETE
from tidegate_streams.history import History
from tidegate_streams.panes import EMPTY, Overflow, Pool
from tidegate_streams.partials import PANE_US
from tidegate_streams.ranges import Ranges
from tidegate_streams.rollouts import machine, reference
from tidegate_streams.rollouts.outputs import is_news
from tidegate_streams.rollouts.past import Past
from tidegate_streams.rollouts.state import State as Deployment
from tidegate_streams.rollouts.strata import strata_of
from tidegate_streams.rollups import Frames
from tidegate_streams.watermark import Watermark
from tidegate_streams.windows import form

JOURNAL = (PartialBatch, Heartbeat, JournalRollout, JournalAction)
"""Records that may stand in the journal."""

_NEVER = -(2**62)

EARLY_SERIES = 1_000
"""Most series shown at a tick before their windows end; with more, each is shown more seldom."""

PUT_OFF_ROWS = 10_000
"""Most rows that a replay puts off adding up: it is quicker done at once, and memory is bounded."""

BATCH_BYTES = 900_000
"""Largest Arrow stream in one message of llm.metrics; Kafka's own limit is 1 MiB."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an installation chooses; the same for the life of a journal."""

    allowed_lateness_us: int = 600_000_000
    series_cap: int = 100_000


@dataclass(slots=True)
class State:
    """All that one journal partition has come to."""

    partition: int
    rules: Rules = field(default_factory=Rules)
    begins_at: int = 0
    """Offset of the first message that the journal still has."""
    pasts: InitVar[Mapping[str, Past] | None] = None
    """Deployment key -> what was published of it."""
    overflows: InitVar[Mapping[str, Alert] | None] = None
    """Fingerprint -> what was published last of each alert about too many series."""
    forgotten: dict[str, Past] = field(init=False)
    """Deployments from before the journal's beginning, until what is left says where they stand."""
    unproven: dict[str, Past] = field(init=False)
    """Deployments that the journal tells from their start, until it has told all that was published."""
    expected: list[tuple[int, int, str]] = field(init=False)
    """Offset, revision and deployment of each command that the journal has still to cause, the last first."""
    strange: set[str] = field(default_factory=set)
    """Deployments of which something was published from a journal that was there before this one."""
    hears_from_us: int | None = None
    """Event time at which the journal's watermark begins."""
    ranges: Ranges[Any] = field(default_factory=Ranges)
    watermark: Watermark = field(default_factory=Watermark)
    closed_us: int | None = None
    """Event time before which every pane has been looked at."""
    quiet_since_us: int = 0
    panes: dict[int, Pool] = field(default_factory=dict)
    """Open panes by their start: what the next looks will see."""
    late: Pool = field(init=False)
    """Rows of closed panes since the last look."""
    arrived: list[Frames] = field(default_factory=list)
    """Rows that are not rolled up yet."""
    put_off: list[Frames] = field(default_factory=list)
    """Rows that a replay, having nothing to show, has not added up, although their panes may be closed."""
    put_off_since_us: int | None = None
    """Event time before which everything was closed when the first of them was put off."""
    unclosed: Bag = field(default_factory=lambda: Bag([rollups.EMPTY]))
    """Rolled-up rows of `panes` and `late`."""
    unshown: list[Frames] = field(default_factory=list)
    """Rows since the last tick."""
    changed: pl.DataFrame = field(default_factory=lambda: rollups.series(rollups.EMPTY))
    """Series that changed before it and have not been shown since, the longest waiting first."""
    history: History = field(default_factory=History)
    ticks: emissions.Ticks = field(default_factory=emissions.Ticks)
    rollouts: dict[str, Any] = field(default_factory=dict)
    told: dict[str, RolloutProgress] = field(default_factory=dict)
    """The last progress of each deployment that went out."""
    alerts: Alerts = field(default_factory=Alerts)
    overflowed_us: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self, pasts: Mapping[str, Past] | None, overflows: Mapping[str, Alert] | None) -> None:
        pasts = pasts or {}
        self.late = Pool(self.rules.series_cap)
        self.alerts.published = overflows or {}
        self.forgotten = {key: past for key, past in pasts.items() if past.precedes(self.begins_at)}
        self.unproven = {key: past for key, past in pasts.items() if key not in self.forgotten}
        self.expected = sorted(
            ((*one, key) for key, past in pasts.items() for one in past.causes), reverse=True
        )
        # They are looked at from the start, as they were before: the past hour sets what is usual.
        self.rollouts = {key: Deployment(key) for key in self.forgotten}

    def gather(self) -> None:
        """Put rows that wait in many tables into one each: nothing else changes, and it is quicker kept."""
        self.arrived, self.put_off, self.unshown = (
            [rollups.concat(tables)] if tables else []
            for tables in (self.arrived, self.put_off, self.unshown)
        )
        for bag in (self.unclosed, self.late.bag, *(pool.bag for pool in self.panes.values())):
            bag.rows()


def apply(state: State, offset: int, record: Any, *, windows: bool = True) -> list[Any]:
    """Take in the next message of the journal.

    Parameters
    ----------
    state
        Changed in place.
    offset
        The message's offset.
    record
        One of `JOURNAL`.
    windows
        False leaves windows out of the outputs: for a replay of what was published already.

    Returns
    -------
    list
        Records to publish, in this order: `WindowMetricsBatch`, then commands, refusals and alerts, then the
        progress of rollouts.

    Raises
    ------
    ContractError
        When the message holds bytes that are not what it says; the state is unchanged.
    InvariantBroken
        When applying it would count something twice.
    """
    at = machine.Position(partition=state.partition, offset=offset, watermark_us=state.watermark.us)
    match record:
        case Heartbeat():
            return _hear(state, at, record, windows=windows)
        case PartialBatch():
            parts = state.ranges.take(record, _unpack(record))
            decided = _taken_up(state, at)
            if parts:
                decided += _admit(state, rollups.concat(parts))
            return _published(state, decided)
        case JournalRollout():
            specs = state.ranges.take(record, decode(record.record, expect=Rollout))
            decided = _taken_up(state, at)
            for spec in specs:
                key = deployment_key(spec.tenant, spec.environment, spec.deployment)
                if key in state.unproven and _is_strange(state, key, spec, at):
                    _estrange(state, key)
                if key in state.forgotten and not _is_remembered(state, key, spec, at):
                    past = state.forgotten[key]
                    if key not in state.strange or spec.generation <= past.last.generation:
                        continue
                    decided += _take_up(state, key, past, at)
                state.rollouts[key], outputs = machine.on_spec(state.rollouts.get(key), spec, at)
                decided += outputs
            return _published(state, decided)
        case JournalAction():
            actions = state.ranges.take(record, decode(record.record, expect=RolloutAction))
            decided = _taken_up(state, at)
            for action in actions:
                if action.key in state.forgotten:
                    past = state.forgotten[action.key]
                    if action.key in state.strange and past.awaits(action.generation, offset):
                        decided += _take_up(state, action.key, past, at)
                    elif past.has_answered(action.generation, offset):
                        continue
                known = state.rollouts.get(action.key)
                if action.action != DELETE:
                    state.rollouts[action.key], outputs = machine.on_action(known, action, at)
                elif known is not None:
                    state.rollouts[action.key], outputs = machine.on_deleted(known, at)
                else:
                    continue
                decided += outputs
            return _published(state, decided)
        case _:
            raise ContractError("unexpected_record", f"{type(record).__name__} is no record of the journal")


def _taken_up(state: State, at: machine.Position) -> list[Any]:
    """Take up what is forgotten, at the first message that nothing published was caused by."""
    while state.expected and state.expected[-1][0] < at.offset:
        _, revision, key = state.expected.pop()
        if key not in state.unproven:
            continue
        known = state.rollouts.get(key)
        if known is None or known.revision < revision:
            _estrange(state, key)
        elif revision == state.unproven[key].last.revision:
            del state.unproven[key]
    decided: list[Any] = []
    for key, past in sorted(state.forgotten.items()):
        if past.until < at.offset:
            decided += _take_up(state, key, past, at)
    return decided


def _take_up(state: State, key: str, past: Past, at: machine.Position) -> list[Any]:
    del state.forgotten[key]
    state.alerts.remember(past.alerts.values())
    if past.progress is not None:
        state.told[key] = past.progress
    state.rollouts[key], outputs = machine.take_up(state.rollouts[key], past, at)
    return outputs


def _is_strange(state: State, key: str, spec: Rollout, at: machine.Position) -> bool:
    """Whether a specification begins a rollout here of which no published command says so."""
    following, _ = machine.on_spec(state.rollouts.get(key), spec, at)
    return following.spec is spec and not state.unproven[key].tells(spec.generation, at.offset)


def _estrange(state: State, key: str) -> None:
    """Take what was published for another journal's: this one does not cause it where it was caused."""
    state.strange.add(key)
    state.forgotten[key] = state.unproven.pop(key)
    state.rollouts[key] = Deployment(key)


def _is_remembered(state: State, key: str, spec: Rollout, at: machine.Position) -> bool:
    """Whether the journal tells a rollout from its start, with all that it was decided from.

    Then it takes the revisions that it took before, and nothing of it is forgotten.
    """
    revision = state.forgotten[key].revision_before(spec.generation, at.offset)
    needed_us = reference.BLOCKS * reference.BLOCK_US + state.rules.allowed_lateness_us
    if revision is None:
        return False
    if state.begins_at > 0:
        if state.hears_from_us is None or at.watermark_us is None:
            return False
        if at.watermark_us - state.hears_from_us < needed_us:
            return False
    state.unproven[key] = state.forgotten.pop(key)
    state.rollouts[key] = replace(state.rollouts[key], revision=revision)
    return True


def _unpack(batch: PartialBatch) -> Frames:
    frames = dict(EMPTY)
    for frame in batch.frames:
        schema = partials.SCHEMAS.get(frame.kind)
        if schema is None:
            raise ContractError("invalid_field", f"a frame of kind {frame.kind!r} in a PartialBatch")
        try:
            rows = partials.unpack(frame.rows)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise ContractError("undecodable", f"{frame.kind} rows are no Arrow stream: {error}") from error
        if rows.schema != pl.Schema(schema):
            raise ContractError("undecodable", f"{frame.kind} rows have columns of another release")
        if frame.kind == "calls":
            rows = rows.with_columns(pl.lit(0, dtype=pl.Int64).alias("late"))
        frames[frame.kind] = rows if frames[frame.kind].is_empty() else pl.concat([frames[frame.kind], rows])
    return frames


def _admit(state: State, frames: Frames) -> list[Alert]:
    """Put rows where they belong by the watermark of this moment: an open pane, the late, the too late."""
    drafts = []
    for pane_us, pane in _by_pane(frames):
        closed_us = _NEVER if state.closed_us is None else state.closed_us
        if pane_us >= closed_us:
            pool = state.panes.setdefault(pane_us, Pool(state.rules.series_cap))
        elif pane_us + PANE_US + state.rules.allowed_lateness_us > closed_us:
            pool = state.late
        else:
            state.counts["too_late_calls"] += int(pane["calls"].get_column("calls").sum())
            state.counts["too_late_feedback"] += int(pane["feedback"].get_column("n").sum())
            state.counts["too_late_evaluations"] += int(pane["evaluations"].get_column("n").sum())
            pane = EMPTY | {"calls": _only_counted(pane["calls"], closed_us)}
            pool = state.panes.setdefault(closed_us, Pool(state.rules.series_cap))
        counted, overflows = pool.add(pane)
        state.arrived.append(counted)
        state.unshown.append(counted)
        drafts += [_overflowed(state, overflow, max(pane_us, closed_us)) for overflow in overflows]
    return drafts


def _by_pane(frames: Frames) -> Iterator[tuple[int, Frames]]:
    starts = sorted({start for rows in frames.values() for start in rows.get_column("pane_us").unique()})
    if len(starts) == 1:
        yield starts[0], frames
        return
    for start in starts:
        yield start, rollups.where(frames, pl.col("pane_us") == start)


def _only_counted(calls: pl.DataFrame, pane_us: int) -> pl.DataFrame:
    """Calls beyond the allowed lateness: no sum takes them in, the pane of their arrival says how many."""
    return calls.with_columns(
        pl.col("calls").alias("late"),
        *(pl.lit(0, dtype=pl.Int64).alias(name) for name in partials.CALL_SUMS),
        *(pl.lit([], dtype=calls.schema[name]).alias(name) for name in partials.LISTS),
        pl.lit(pane_us, dtype=pl.Int64).alias("pane_us"),
    )


def _overflowed(state: State, overflow: Overflow, pane_us: int) -> Alert:
    state.counts["series_overflow"] += overflow.series
    alert = alerts.series_overflow(
        overflow.shard, overflow.tenant, pane_us=pane_us, excess=overflow.series, cap=state.rules.series_cap
    )
    state.overflowed_us[alert.fingerprint] = pane_us
    return alert


def _hear(state: State, at: machine.Position, beat: Heartbeat, *, windows: bool) -> list[Any]:
    decided = _taken_up(state, at)
    state.watermark.hear(beat)
    due: list[emissions.Due] = []
    if state.watermark.us is not None:
        if state.hears_from_us is None:
            state.hears_from_us = state.watermark.us
        until_us = state.watermark.us // PANE_US * PANE_US
        if state.closed_us is None or until_us > state.closed_us:
            due, looked = _close(state, at.offset, until_us, windows=windows)
            decided += looked
    if state.ticks.tick(beat):
        due += _show(state, windows=windows)
    metrics = _metrics(state, at.offset, form(due)) if due else []
    return [*metrics, *_published(state, decided)]


def _close(
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
    if windows:
        _catch_up(state, before_us)
        late = _settle(state, arrived, before_us, until_us)
        lateness_us = state.rules.allowed_lateness_us
        if not state.history.is_empty:
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


def _show(state: State, *, windows: bool) -> list[emissions.Due]:
    """Show what changed since the last tick; a replay marks it, so that the next tick shows the same."""
    unshown, state.unshown = state.unshown, []
    if not windows and state.changed.is_empty() and _height(unshown) * len(ROLLUPS) <= EARLY_SERIES:
        return []
    changed = pl.concat([state.changed, rollups.series_in(unshown)])
    changed = changed.unique(maintain_order=True, keep="first")
    shown, state.changed = changed.head(EARLY_SERIES), changed.slice(EARLY_SERIES)
    if not windows or shown.is_empty():
        return []
    closed_us = _NEVER if state.closed_us is None else state.closed_us
    _catch_up(state, closed_us)
    _roll_up(state, state.arrived)
    state.arrived = []
    return [emissions.in_between(state.history, state.unclosed.rows(), shown, closed_us)]


def _height(tables: Iterable[Frames]) -> int:
    return sum(rows.height for table in tables for rows in table.values())


def _look(state: State, offset: int, closing: dict[int, Pool], before_us: int, until_us: int) -> list[Any]:
    decided: list[Any] = []
    quiet_since_us = state.quiet_since_us
    if closing:
        state.quiet_since_us = max(closing) + PANE_US
    if not state.rollouts:
        return decided
    at = machine.Position(partition=state.partition, offset=offset, watermark_us=state.watermark.us)
    late = looks.by_deployment(state.late.bag.rows(), state.rollouts, late=True)
    filled = set(closing) | ({before_us} if late else set())
    for start_us in looks.panes_between(before_us, until_us, filled, quiet_since_us):
        shown = {}
        if start_us in closing:
            shown = looks.by_deployment(closing[start_us].bag.rows(), state.rollouts, late=False)
        for key in sorted(state.rollouts):
            tables = [source[key] for source in (shown, late) if key in source]
            strata = strata_of(**looks.joined(tables)) if tables else {}
            state.rollouts[key], outputs = machine.on_look(
                state.rollouts[key], start_us + PANE_US, strata, at
            )
            decided += outputs
        late = {}
    return decided


def _overflows_resolved(state: State, until_us: int) -> Iterable[Alert]:
    """An overflow is over when a pane closed without one."""
    for mark, pane_us in list(state.overflowed_us.items()):
        if pane_us + PANE_US < until_us:
            del state.overflowed_us[mark]
            if mark in state.alerts.firing:
                yield alerts.resolved(state.alerts.firing[mark], until_us)


def _metrics(state: State, offset: int, formed: Frames) -> list[WindowMetricsBatch]:
    table = rows.table(formed, offset, state.watermark.us)
    if table.is_empty():
        return []
    return [
        WindowMetricsBatch(partition=state.partition, offset=offset, watermark=state.watermark.us, rows=data)
        for data in rows.batches(table, BATCH_BYTES)
    ]


def _published(state: State, decided: Iterable[Any]) -> list[Any]:
    """What goes out of what was decided: alerts numbered, and of each rollout's progress the last word."""
    records = []
    progress: dict[str, RolloutProgress] = {}
    for record in decided:
        match record:
            case Alert():
                numbered = state.alerts.number(record)
                if numbered is not None:
                    records.append(numbered)
            case RolloutProgress():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                if is_news(progress.get(key) or state.told.get(key), record):
                    progress[key] = record
            case _:
                records.append(record)
    state.told |= progress
    return [*records, *progress.values()]
