"""Minute after minute of all series: what changed in each, and which of its parts carry it.

A pure fold: the same minutes in the same order give the same events. It reads no clock, and what comes late
for its minute changes nothing: evidence is only ever added to.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tidegate.metrics import find
from tidegate.records import DriftCarrier, DriftEvent
from tidegate.series import DIMENSIONS, ROLLED_UP, ROLLUPS
from tidegate_streams.drift import mix
from tidegate_streams.drift.change import Change
from tidegate_streams.drift.events import MOST_CARRIERS, event, mix_event
from tidegate_streams.drift.policy import Policy
from tidegate_streams.drift.samples import Samples, Series
from tidegate_streams.drift.watch import Watch, abandoned, step, watch
from tidegate_streams.statistics.exceedances import Histogram

PARTS = {"tenant": ("app",), "app": ("model", "prompt")}
"""Roll-up -> the roll-ups whose series add up to one of it; of the first its mix is made."""

LEAST_SHARE = 0.1
"""Share of a change below which a sub-series is not named."""


@dataclass(slots=True)
class State:
    """Everything that is known of the past.

    Parameters
    ----------
    policy
        The same for the life of the state.
    """

    policy: Policy = field(default_factory=Policy)
    watches: dict[Series, dict[str, Watch]] = field(default_factory=dict)
    mixes: dict[Series, mix.Mix] = field(default_factory=dict)
    live: Counter[str] = field(default_factory=Counter)
    """Watches of each tenant."""
    unwatched: Counter[str] = field(default_factory=Counter)
    """Metrics of each tenant, minute by minute, that came above the cap."""


def observe(state: State, minute_us: int, samples: Samples) -> list[DriftEvent]:
    """Take in a minute that is closed.

    Parameters
    ----------
    state
        Changed in place.
    minute_us
        Start of the minute, later than that of the last. Minutes without traffic may be left out.
    samples
        What each metric of each series did in it.

    Returns
    -------
    list of DriftEvent
        What started, went on and ended, in the order of series and metrics.
    """
    events = [*_forget(state, minute_us), *_mixes(state, minute_us, samples)]
    changed = []
    for series in sorted(samples):
        beside = _beside(state.policy, series, samples)
        for metric, sample in sorted(samples[series].items()):
            one = _watch(state, series, metric)
            if one is None:
                continue
            tenant = series.of("tenant")
            other = beside.get(metric, {})
            change = step(one, state.policy, minute_us, sample, state.live[tenant], other)
            if change is not None:
                changed.append((series, metric, change))
    # Carriers once all series have seen the minute: they are named by the same windows.
    for series, metric, change in changed:
        carriers = _carriers(state, series, metric, change)
        events.append(event(series, metric, change, state.policy, carriers))
    return events


def _watch(state: State, series: Series, metric: str) -> Watch | None:
    held = state.watches.get(series, {})
    if metric in held:
        return held[metric]
    tenant, policy = series.of("tenant"), state.policy
    if policy.reference == "release" and not _is_comparable(policy, series):
        return None
    if state.live[tenant] >= policy.most_watches:
        state.unwatched[tenant] += 1
        return None
    state.live[tenant] += 1
    known = find(metric)
    made = watch(is_rate=known is None or known.kind == "rate")
    state.watches.setdefault(series, {})[metric] = made
    return made


def _is_comparable(policy: Policy, series: Series) -> bool:
    """Whether a series can stand beside the release that is the reference, and is not that one."""
    return series.rollup == "release" and series.of("variant") != policy.release


def _beside(policy: Policy, series: Series, samples: Samples) -> Mapping[str, Histogram]:
    """What the release that is the reference did meanwhile, of the same deployment."""
    place = DIMENSIONS.index("variant")
    dimensions = (*series.dimensions[:place], policy.release, *series.dimensions[place + 1 :])
    return samples.get(Series(series.rollup, dimensions), {})


def _forget(state: State, minute_us: int) -> Iterator[DriftEvent]:
    """Drop what has had no traffic for long; a change of it is over."""
    oldest_us = minute_us - state.policy.forget_us
    for series in sorted(state.watches):
        held = state.watches[series]
        for metric in sorted(held):
            if held[metric].seen_us >= oldest_us:
                continue
            ended = abandoned(held[metric], state.policy, minute_us)
            if ended is not None:
                yield event(series, metric, ended, state.policy, [])
            del held[metric]
            state.live[series.of("tenant")] -= 1
        if not held:
            del state.watches[series]
    for whole in [one for one, held in state.mixes.items() if held.seen_us < oldest_us]:
        shift = mix.abandoned(state.mixes.pop(whole), minute_us)
        if shift is not None:
            yield mix_event(whole, f"{PARTS[whole.rollup][0]}_mix", shift)


def _carriers(state: State, series: Series, metric: str, change: Change) -> list[DriftCarrier]:
    """Parts by their share of what is more, or less, than each part's own past lets expect."""
    carriers = []
    for rollup in PARTS.get(series.rollup, ()):
        moved: dict[Series, float] = {}
        for part, held in state.watches.items():
            if part.rollup == rollup and metric in held and _whole(part, series.rollup) == series:
                excess = held[metric].excess(change.edge, change.changed_us)
                if excess * (change.share_since - change.share_before) > 0:
                    moved[part] = abs(excess)
        carriers += [
            DriftCarrier(series=f"{rollup}:{_place(part, series)}", share=amount / sum(moved.values()))
            for part, amount in moved.items()
            if amount >= LEAST_SHARE * sum(moved.values())
        ]
    return sorted(carriers, key=lambda one: (-one.share, one.series))[:MOST_CARRIERS]


def _mixes(state: State, minute_us: int, samples: Samples) -> Iterator[DriftEvent]:
    """Look at what the calls of each app and tenant are made of."""
    if state.policy.reference != "rolling":
        return
    calls: dict[Series, dict[str, int]] = {}
    for part in sorted(samples):
        for whole in (_whole(part, rollup) for rollup, parts in PARTS.items() if part.rollup == parts[0]):
            shares = calls.setdefault(whole, {})
            shares[_place(part, whole)] = sum(samples[part].get("error_rate", {}).values())
    for whole, shares in calls.items():
        one = state.mixes.setdefault(whole, mix.Mix())
        shift = mix.step(one, state.policy, minute_us, shares, state.live[whole.of("tenant")])
        if shift is not None:
            yield mix_event(whole, f"{PARTS[whole.rollup][0]}_mix", shift)


def _whole(part: Series, rollup: str) -> Series:
    """Series of a coarser roll-up that another is part of."""
    kept = zip(DIMENSIONS, part.dimensions, strict=True)
    return Series(rollup, tuple(value if name in ROLLUPS[rollup] else ROLLED_UP for name, value in kept))


def _place(part: Series, whole: Series) -> str:
    own = [name for name in ROLLUPS[part.rollup] if name not in ROLLUPS[whole.rollup]]
    return "/".join(part.of(name) for name in own)
