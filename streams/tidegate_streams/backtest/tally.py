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
from tidegate.series import DIMENSIONS, comparable
from tidegate_infra.prices import PriceBook
from tidegate_streams import partials
from tidegate_streams.aggregate import columns, ratings
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk
from tidegate_streams.backtest.fitting import ROW
from tidegate_streams.backtest.pieces import MOST_NAMED
from tidegate_streams.bag import Bag
from tidegate_streams.rollups import KINDS, Frames

_READ_BY = {
    "ttft_us": {"ttft_us", "tpot_us"},
    "input_chars": {"input_chars"},
    "output_chars": {"output_chars"},
    "input_tokens": {"input_tokens", "cost_usd"},
    "output_tokens": {"output_tokens", "cost_usd", "tpot_us"},
}
"""Field of a call -> the metrics that its distribution takes part in."""

_SOURCE = "_source"
_SERIES = pl.struct(
    *(name for name in DIMENSIONS if name != "tenant"),
    "assignment_hash",
    "assignment_revision",
    call_ts_end="ts_end",
    comparable=comparable(
        pl.col("traffic"),
        pl.col("assignment_reason").fill_null(""),
        pl.col("attempt"),
        pl.col("cache_hit"),
        pl.col("head_sampled"),
    ),
)
"""What a call hands on to its ratings."""


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
    _lonely: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    """Record -> ratings that came without the series of their call."""
    _series: list[pl.DataFrame] = field(default_factory=list)
    """Of the deployment's calls, kept only for metrics that ratings are for."""

    def partials(self) -> Frames:
        """Kind -> rows by shard, pane and series; those of one key may be several."""
        for record, frames in self._lonely.items():
            self._resolve(record, pl.concat(frames))
        self._lonely.clear()
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
        events = events.filter(wanted)
        if record != "LLMCall":
            lonely = events.filter(pl.col("series").is_null()).with_columns(pl.lit(source).alias(_SOURCE))
            self._lonely.setdefault(record, []).append(lonely)
            events = events.filter(pl.col("series").is_not_null())
        self._count(source, record, events)

    def _count(self, source: str, record: str, events: pl.DataFrame) -> None:
        events = self._ours(record, self._first(source, record, events))
        if events.is_empty():
            return
        if record == "LLMCall":
            if _asks_ratings(self.spec):
                self._series.append(events.select("tenant", target_event_id="event_id", series=_SERIES))
            unread = (pl.lit(None, events.schema[name]).alias(name) for name in _unread(self.spec))
            events = events.with_columns(unread)
        shrunk = self._shrunk(record, events, events.get_column("_append"))
        self._bag.add({shrunk.kind: shrunk.frame.drop(RANGE)})

    def _resolve(self, record: str, lonely: pl.DataFrame) -> None:
        """Count ratings under the series of the calls that they name, unless they came with it as well."""
        lonely = lonely.unique("event_id", keep="first", maintain_order=True)
        seen = self._seen.get(record, np.empty(0, np.uint64))
        lonely = lonely.filter(~_holds(seen, lonely.get_column("event_id").hash().to_numpy()))
        if not _asks_ratings(self.spec):
            self.events[record] += lonely.height
            return
        none = pl.DataFrame(
            schema={"tenant": pl.String, "target_event_id": pl.String, "series": pl.Struct({})}
        )
        calls = pl.concat(self._series) if self._series else none
        found = lonely.drop("series").join(calls, on=["tenant", "target_event_id"], how="left")
        for (source,), part in found.partition_by(_SOURCE, as_dict=True).items():
            unknown = part.filter(pl.col("series").is_null())
            detail = pl.lit("the call that it rates is not among those of the deployment").alias("detail")
            self.refuse(str(source), unknown.select(ROW, pl.lit("unresolved").alias("reason"), detail))
            self._count(str(source), record, part.filter(pl.col("series").is_not_null()))

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

    def _ours(self, record: str, events: pl.DataFrame) -> pl.DataFrame:
        """Keep what the rollout's deployment did."""
        spec = self.spec
        of: Callable[[str], pl.Expr] = pl.col if record == "LLMCall" else pl.col("series").struct.field
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


def _asks_ratings(spec: Rollout) -> bool:
    return any(metric.name.startswith(("feedback.", "evaluation.")) for metric in spec.metrics)


def _unread(spec: Rollout) -> list[str]:
    """Fields of a call that no metric of the rollout reads: they need not be added up."""
    named = {metric.name for metric in spec.metrics}
    return [field for field, metrics in _READ_BY.items() if not metrics & named]
