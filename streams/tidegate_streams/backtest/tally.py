"""Events of the past to partials of one deployment, by the arithmetic of stage 1; nothing goes uncounted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from tidegate.limits import LATEST_US
from tidegate.records import Rollout
from tidegate_infra.prices import PriceBook
from tidegate_streams import partials
from tidegate_streams.aggregate import columns, ratings
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk
from tidegate_streams.backtest.fitting import ROW
from tidegate_streams.bag import Bag
from tidegate_streams.rollups import KINDS, Frames

MOST_NAMED = 10
"""Refused lines and rows that are named; the others are counted."""

_READ_BY = {
    "ttft_us": {"ttft_us", "tpot_us"},
    "input_chars": {"input_chars"},
    "output_chars": {"output_chars"},
    "input_tokens": {"input_tokens", "cost_usd"},
    "output_tokens": {"output_tokens", "cost_usd", "tpot_us"},
}
"""Field of a call -> the metrics that its distribution takes part in."""


class Refusal(NamedTuple):
    """A line, row or message that holds no event that counts."""

    place: str
    reason: str
    detail: str


@dataclass(slots=True)
class Tally:
    """What has been read, and what it adds up to.

    Parameters
    ----------
    spec
        The rollout; only its deployment's events add up.
    book
        Prices in force.
    since_us, until_us
        Event time that is looked at, the end not included, in microseconds since the epoch; None is all.
    """

    spec: Rollout
    book: PriceBook
    since_us: int | None = None
    until_us: int | None = None
    events: Counter[str] = field(default_factory=Counter)
    """Record -> events that were read, copies and refused ones not among them."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason -> lines or rows without an event that counts."""
    named: list[Refusal] = field(default_factory=list)
    """The first `MOST_NAMED` of them."""
    elsewhere: int = 0
    """Events of other deployments."""
    outside: int = 0
    """Events before or after the time that is looked at."""
    _bag: Bag = field(default_factory=lambda: Bag([{kind: partials.empty(kind) for kind in KINDS}]))
    _seen: dict[str, npt.NDArray[np.uint64]] = field(default_factory=dict)
    """Record -> hashes of the ids of its events, sorted."""

    def partials(self) -> Frames:
        """Kind -> rows by shard, pane and series; those of one key may be several."""
        return self._bag.rows()

    def refuse(self, source: str, broken: pl.DataFrame) -> None:
        """Count refused rows, `_row`, `reason` and `detail`, and name the first."""
        for row, reason, detail in broken.iter_rows():
            self.refused[reason] += 1
            if len(self.named) < MOST_NAMED:
                self.named.append(Refusal(f"{source}:{row}", reason, detail))

    def add(self, source: str, record: str, events: pl.DataFrame, append_us: pl.Series | None = None) -> None:
        """Count events.

        Parameters
        ----------
        source
            Where they come from; with the row's number it names a place.
        record
            Their name in the contract.
        events
            As `fitting.fit` returns them, in any order.
        append_us
            When the broker got each, in microseconds since the epoch. Where no broker was, no event is from
            the future.
        """
        if events.is_empty():
            return
        time_us = events.get_column("ts_end" if record == "LLMCall" else "ts")
        events = events.with_columns(
            (time_us if append_us is None else append_us).alias("_append"), pl.lit(0, pl.UInt32).alias(RANGE)
        )
        wanted = self._is_wanted(time_us)
        self.outside += events.height - int(wanted.sum())
        events = self._ours(source, record, self._first(source, record, events.filter(wanted)))
        if events.height:
            if record == "LLMCall":
                unread = (pl.lit(None, events.schema[name]).alias(name) for name in _unread(self.spec))
                events = events.with_columns(unread)
            shrunk = self._shrunk(record, events, events.get_column("_append"))
            self._bag.add({shrunk.kind: shrunk.frame.drop(RANGE)})

    def _is_wanted(self, time_us: pl.Series) -> pl.Series:
        since_us = 0 if self.since_us is None else self.since_us
        return (time_us >= since_us) & (time_us < (LATEST_US if self.until_us is None else self.until_us))

    def _first(self, source: str, record: str, events: pl.DataFrame) -> pl.DataFrame:
        """Drop copies: an event counts once, however often it was written."""
        seen = self._seen.get(record, np.empty(0, np.uint64))
        marks = events.get_column("event_id").hash()
        values = marks.to_numpy()
        first = marks.is_first_distinct() & ~pl.Series(_holds(seen, values))
        if not first.all():
            again = events.filter(~first)
            self.refuse(
                source,
                again.select(ROW, pl.lit("duplicate").alias("reason"), ("a copy of " + pl.col("event_id"))),
            )
            events = events.filter(first)
        # Two sorted runs, which a stable sort merges.
        self._seen[record] = np.sort(np.concatenate([seen, np.sort(values[first.to_numpy()])]), kind="stable")
        self.events[record] += events.height
        return events

    def _ours(self, source: str, record: str, events: pl.DataFrame) -> pl.DataFrame:
        """Keep what the rollout's deployment did."""
        of: Callable[[str], pl.Expr] = pl.col
        if record != "LLMCall":
            lonely = pl.col("series").is_null()
            detail = pl.lit("it does not say to what series its call belongs")
            reason = pl.lit("unresolved").alias("reason")
            self.refuse(source, events.filter(lonely).select(ROW, reason, detail.alias("detail")))
            events = events.filter(~lonely)
            of = _of_series
        spec = self.spec
        ours = events.filter(
            pl.col("tenant") == spec.tenant,
            of("environment") == spec.environment,
            of("deployment") == spec.deployment,
        )
        self.elsewhere += events.height - ours.height
        return ours

    def _shrunk(self, record: str, events: pl.DataFrame, append_us: pl.Series) -> Shrunk:
        if record == "LLMCall":
            return columns.calls(events, append_us, self.book)
        return (ratings.feedback if record == "Feedback" else ratings.evaluations)(events, append_us)


def _holds(ordered: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[at] == values
    return found


def _unread(spec: Rollout) -> list[str]:
    """Fields of a call that no metric of the rollout reads: they need not be added up."""
    named = {metric.name for metric in spec.metrics}
    return [field for field, metrics in _READ_BY.items() if not metrics & named]


def _of_series(dimension: str) -> pl.Expr:
    return pl.col("series").struct.field(dimension)
