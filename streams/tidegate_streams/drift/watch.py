"""One metric of one series, window by window: when it changed, and when it is as it was.

A change *starts* when the evidence for it reaches the run length, is *updated* while it lasts, each time it
has lasted twice as long, and *ends* by the same statistic turned round: when windows say "as before" rather
than "as since the change". What is half way between is neither, so that nothing flutters. Beside a rolling
past a change also ends when the past has become the time since: the new level is then the usual one.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tidegate_streams.drift.change import Change, Phase
from tidegate_streams.drift.past import RATE_EDGES, Past, Tally, Usual, Week, error_of, total
from tidegate_streams.drift.policy import Policy
from tidegate_streams.statistics import e_detector, emix
from tidegate_streams.statistics.dependence import tempered
from tidegate_streams.statistics.emix import Counts, Floats
from tidegate_streams.statistics.exceedances import Histogram

MOST_KEPT = 64
"""Windows, the older ones added up by twos, among which a change point is looked for."""
RECENT = 30
"""Windows of which all values are kept, to say what a quantile is now."""
FIRST_UPDATE = 16
RETURN_RUN_LENGTH = 1_000.0
"""Windows after which a change that lasts is taken for ended at the earliest, on average."""
DOUBTED = 10.0
"""Evidence of a return above which windows no longer say how large the change is."""
PINNED_ERRORS = 3.0
"""Standard errors by which a reference that does not grow may be beside the truth: so much is tolerated."""


_NOTHING: Histogram = MappingProxyType({})


class Kept(NamedTuple):
    """Some windows, added up."""

    start_us: int
    tally: Tally


@dataclass(slots=True)
class Watch:
    """State of one metric of one series.

    Parameters
    ----------
    past
        With edges from the start if the metric is a rate.
    """

    past: Past
    week: Week = field(default_factory=Week)
    log_r: Floats | None = None
    kept: list[Kept] = field(default_factory=list)
    recent: list[tuple[int, Histogram]] = field(default_factory=list)
    change: Change | None = None
    """The one that lasts."""
    fresh: Past | None = None
    """What is learnt while it lasts."""
    since: Tally | None = None
    """Of the windows since it began."""
    log_return: float = -math.inf
    windows_since: int = 0
    seen_us: int = 0
    """Start of the last window."""

    def excess(self, edge: int, since_us: int) -> float:
        """Observations above an edge, less those that the past lets expect; 0 where it is not known."""
        usual = self.past.usual
        since = [kept.tally for kept in self.kept if kept.start_us >= since_us]
        if usual is None or not since or edge >= len(usual.tally.above):
            return 0.0
        seen = total(since)
        return seen.above[edge] - seen.n * usual.tally.above[edge] / usual.tally.n


def watch(*, is_rate: bool) -> Watch:
    """Return the state of a metric before its first window."""
    return Watch(_past(is_rate))


def _past(is_rate: bool) -> Past:
    return Past(edges=RATE_EDGES if is_rate else ())


def step(
    one: Watch,
    policy: Policy,
    start_us: int,
    sample: Histogram,
    watches: int = 1,
    beside: Histogram = _NOTHING,
) -> Change | None:
    """Take in the next window of a metric.

    Parameters
    ----------
    one
        Changed in place.
    policy
        The same for the life of the state.
    start_us
        Start of the window, later than that of the last.
    sample
        Bucket -> observations, not empty. Of a rate: `ZERO` for good ones, 0 for bad ones.
    watches
        How many there are, of this tenant.
    beside
        What the release that is the reference did in this window.

    Returns
    -------
    Change or None
        What there is to tell.
    """
    one.seen_us = start_us
    end_us = start_us + policy.window_us
    found = None
    if one.past.edges:
        usual, tally = _usual(one, start_us), Tally.of(sample, one.past.edges)
        one.recent = [*one.recent, (start_us, sample)][-RECENT:]
        if usual is not None:
            oldest_us = usual.from_us if one.change is None else one.change.changed_low_us
            one.kept = _thinned([*one.kept, Kept(start_us, tally)], oldest_us)
            if one.change is None:
                found = _look_for_change(one, policy, end_us, usual, tally, watches)
            else:
                found = _look_for_return(one, policy, end_us, usual, tally, one.change)
        if one.change is None and policy.reference == "rolling":
            one.week.take(start_us, tally)
    if policy.reference == "rolling":
        (one.fresh or one.past).take(policy, start_us, sample)
        if one.change and one.fresh and len(one.fresh.blocks) >= policy.blocks:
            learnt = one.fresh
            found = _ended(one, policy, end_us, one.change.usual, one.change)
            one.past, one.week = learnt, Week()
    elif policy.reference == "release" and beside:
        one.past.take(policy, start_us, beside)
    elif policy.reference == "pinned" and policy.pinned_from_us <= start_us < policy.pinned_to_us:
        one.past.take(policy, start_us, sample)
    return found


def _usual(one: Watch, start_us: int) -> Usual | None:
    """What a window is compared with: the same hour of other weeks once it is known, the past otherwise."""
    return one.week.usual(start_us) or one.past.usual


def abandoned(one: Watch, policy: Policy, at_us: int) -> Change | None:
    """End what lasts, since the series is no longer seen; None where nothing does."""
    return _ended(one, policy, at_us, one.change.usual, one.change) if one.change else None


def factors(policy: Policy, usual: Usual, tally: Tally) -> Floats:
    """By how much a window speaks for each change, at each edge, shape (edges, 16)."""
    rows = []
    for i, (k_usual, k) in enumerate(zip(usual.tally.above, tally.above, strict=True)):
        tolerated = policy.tolerated
        if policy.reference == "pinned":
            tolerated = max(tolerated, PINNED_ERRORS * error_of(usual, i))
        counts = Counts(usual.tally.n, tally.n, k_usual, k)
        rows.append(tempered(e_detector.log_factors(counts, tolerated), usual.design_effects[i]))
    return np.stack(rows)


def _look_for_change(
    one: Watch, policy: Policy, end_us: int, usual: Usual, tally: Tally, watches: int
) -> Change | None:
    before = e_detector.started(len(tally.above)) if one.log_r is None else one.log_r
    one.log_r = e_detector.advanced(before, factors(policy, usual, tally))
    log_e, run_length = float(e_detector.log_evidence(one.log_r)), policy.run_length(watches)
    if log_e < math.log(run_length):
        return None
    edge = int(np.logaddexp.reduce(one.log_r, axis=-1).argmax())
    found = _described(one, policy, end_us, usual, edge)
    one.change = replace(found, log_e=log_e, run_length=run_length)
    one.fresh = _past(one.past.edges == RATE_EDGES)
    if policy.reference == "rolling":
        one.past.drop(policy, one.change.changed_low_us)
    one.log_return, one.windows_since = -math.inf, 0
    one.since = _total_since(one.kept, one.change.changed_us)
    return one.change


def _look_for_return(
    one: Watch, policy: Policy, end_us: int, usual: Usual, tally: Tally, change: Change
) -> Change | None:
    since = one.since or tally
    one.windows_since += 1
    edge = change.edge
    log_odds = _log_odds(since, edge) - _log_odds(change.usual.tally, edge)
    size = math.copysign(max(abs(log_odds), policy.tolerated, e_detector.STEPS[0]), log_odds)
    counts = Counts(usual.tally.n, tally.n, usual.tally.above[edge], tally.above[edge])
    as_before, as_since = tempered(
        emix.log_likelihood(counts, np.array([0.0, size])), usual.design_effects[edge]
    )
    if as_before != as_since:
        one.log_return = float(as_before - as_since + np.logaddexp(one.log_return, 0.0))
    if one.log_return < math.log(DOUBTED):
        one.since = since.plus(tally)
    if one.log_return >= math.log(RETURN_RUN_LENGTH):
        return _ended(one, policy, end_us, usual, change)
    if one.windows_since >= FIRST_UPDATE and one.windows_since.bit_count() == 1:
        one.change = _later(one, policy, end_us, usual, change, "updated")
        return one.change
    return None


def _ended(one: Watch, policy: Policy, end_us: int, usual: Usual, change: Change) -> Change:
    ended = _later(one, policy, end_us, usual, change, "ended")
    one.change = one.log_r = one.since = one.fresh = None
    one.kept = []
    return ended


def _later(one: Watch, policy: Policy, end_us: int, usual: Usual, change: Change, phase: Phase) -> Change:
    return replace(
        _described(one, policy, end_us, usual, change.edge),
        phase=phase,
        version=change.version + 1,
        started_us=change.started_us,
        log_e=change.log_e,
        run_length=change.run_length,
    )


def _described(one: Watch, policy: Policy, end_us: int, usual: Usual, edge: int) -> Change:
    looks = [factors(policy, _usual(one, kept.start_us) or usual, kept.tally) for kept in one.kept]
    place = e_detector.change_point(np.stack(looks))
    starts = [*(kept.start_us for kept in one.kept), end_us]
    since = one.since or _total_since(one.kept, starts[place.likeliest])
    values: Counter[int] = Counter()
    for start_us, sample in one.recent:
        if start_us >= starts[place.likeliest]:
            values.update(sample)
    return Change(
        phase="started",
        version=1,
        started_us=end_us,
        at_us=end_us,
        edge=edge,
        bucket=one.past.edges[edge],
        share_before=usual.tally.above[edge] / usual.tally.n,
        share_since=since.above[edge] / since.n,
        since=values,
        log_e=0.0,
        run_length=0.0,
        changed_low_us=starts[place.first],
        changed_us=starts[place.likeliest],
        changed_high_us=starts[place.last + 1],
        usual=usual,
        n_since=since.n,
    )


def _total_since(kept: list[Kept], from_us: int) -> Tally:
    return total([one.tally for one in kept if one.start_us >= from_us])


def _log_odds(tally: Tally, edge: int) -> float:
    """Log odds of being above an edge, halves added to keep them finite."""
    n, k = tally.n, tally.above[edge]
    return math.log((k + 0.5) / (n - k + 0.5))


def _thinned(kept: list[Kept], from_us: int) -> list[Kept]:
    """Drop what is older than a time; of too many add up the two that are shortest for their age."""
    held = [one for one in kept if one.start_us >= from_us]
    if len(held) <= MOST_KEPT:
        return held
    now_us = held[-1].start_us
    spans = [
        (held[i + 2].start_us - held[i].start_us) / (now_us - held[i].start_us) for i in range(len(held) - 2)
    ]
    i = spans.index(min(spans))
    together = Kept(held[i].start_us, held[i].tally.plus(held[i + 1].tally))
    return [*held[:i], together, *held[i + 2 :]]
