"""Tables of verdicts beside what is known."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.real_cases import argo, kayenta
from benchmarks.real_cases.cases import Case
from benchmarks.real_cases.judging import PER_PANE, Judged, judge

_DECISIONS = ("rolled back", "promoted", "undecided")

_TOGETHER = 5
"""Groups of more comparisons are shown in one row."""


class Found(NamedTuple):
    """A case, what we say of it, and the metrics that the judge of Kayenta calls high."""

    case: Case
    ours: Judged
    high: list[str]


def found(cases: Iterable[Case]) -> Iterator[Found]:
    """Judge cases, by our machine pane by pane and by Kayenta's judge once, at the end."""
    for case in cases:
        one, other = ({name: of[name] for name in case.metrics} for of in (case.baseline, case.candidate))
        high = [
            name
            for name in case.metrics
            if kayenta.classify(_points(case.baseline[name]), _points(case.candidate[name])) == "High"
        ]
        yield Found(case, judge(f"[{', '.join(case.metrics)}]", one, other), high)


def _points(values: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A time series as a dashboard has it: the mean of each pane."""
    return np.array([values[i : i + PER_PANE].mean() for i in range(0, len(values), PER_PANE)])


def verdicts(everything: Sequence[Found]) -> Iterator[str]:
    """Lines of the table of verdicts beside what is known; what is wrong stands out."""
    yield "| compared | baseline → candidate | candidate known to be | Tidegate | calls each | Kayenta |"
    yield "|---|---|---|---|---|---|"
    for group, members in itertools.groupby(sorted(everything, key=_group), key=_group):
        several = list(members)
        if len(several) > _TOGETHER and group.startswith("a ") and "machine" in group:
            yield _together(group, several)
        else:
            yield from map(_alone, several)


def _group(one: Found) -> str:
    return one.case.group


def _known(case: Case) -> str:
    return "worse" if case.worse else "no worse"


def _alone(one: Found) -> str:
    case = one.case
    figures = "; ".join(_figure(name, case) for name in case.metrics)
    ours = _marked(one.ours.decision, is_wrong(one))
    kayenta_says = ", ".join(f"high: {name}" for name in one.high) or "pass"
    theirs = _marked(kayenta_says, bool(one.high) != case.worse)
    return (
        f"| {case.group}: {case.name} | {figures} | {_known(case)} | {ours} | "
        f"{one.ours.observations:,} | {theirs} |"
    )


def _figure(name: str, case: Case) -> str:
    before, after = case.baseline[name], case.candidate[name]
    if "." in name:
        return f"{100 * before.mean():.1f} → {100 * after.mean():.1f} % failed"
    return f"{name}: {_median(name, before)} → {_median(name, after)}"


def _median(name: str, values: npt.NDArray[np.int64]) -> str:
    middle = float(np.median(values))
    if name == "cost_usd":
        return f"${middle / 1e9:.5f}"
    if name == "output_tokens":
        return f"{middle:.0f}"
    return (
        f"{middle / 1e6:.1f} s"
        if middle >= 1e7
        else f"{middle / 1e3:,.3g} ms"
        if middle < 1e6
        else f"{middle / 1e6:.2f} s"
    )


def _together(group: str, several: Sequence[Found]) -> str:
    worse = several[0].case.worse
    ours = Counter(one.ours.decision for one in several)
    said = ", ".join(
        _marked(f"{n} {decision}", decision == ("promoted" if worse else "rolled back"))
        for decision, n in ours.most_common()
    )
    high = sum(bool(one.high) for one in several)
    parts = [
        _marked(f"{n} {what}", is_bad)
        for n, what, is_bad in ((high, "high", not worse), (len(several) - high, "pass", worse))
        if n
    ]
    calls = [one.ours.observations for one in several]
    return (
        f"| {group}, {len(several)} comparisons | | {'worse' if worse else 'no worse'} | {said} | "
        f"{min(calls):,} to {max(calls):,} | {', '.join(parts)} |"
    )


def _marked(text: str, is_wrong: bool) -> str:
    return f"**{text}**" if is_wrong else text


def is_wrong(one: Found) -> bool:
    """Whether we promote what is worse, or roll back what is not; being undecided is no error."""
    return one.ours.decision == ("promoted" if one.case.worse else "rolled back")


def summary(everything: Sequence[Found]) -> Iterator[str]:
    """Lines that count them."""
    yield "| candidate known to be | comparisons | rolled back | promoted | undecided | Kayenta high | pass |"
    yield "|---|---|---|---|---|---|---|"
    for worse in (True, False):
        some = [one for one in everything if one.case.worse == worse]
        ours = Counter(one.ours.decision for one in some)
        high = sum(bool(one.high) for one in some)
        counts = (len(some), *(ours[one] for one in _DECISIONS), high, len(some) - high)
        yield f"| {'worse' if worse else 'no worse'} | {' | '.join(map(str, counts))} |"


def beside_kayenta() -> Iterator[str]:
    """Lines of the table of its own cases."""
    yield "| case of Kayenta | points each | it says | Tidegate | if it went on like that | why |"
    yield "|---|---|---|---|---|---|"
    for case in kayenta.cases():
        name = case.name.removeprefix("Mann-Whitney ").removeprefix("Classifier Test").strip(" :-")
        if case.ours is None:
            yield f"| {case.name} | | {case.expected} | nothing to compare | | {kayenta.reason(case)} |"
            continue
        says = case.expected if case.expected == case.rendered else f"{case.expected} ({case.rendered})"
        later = f"{case.later.decision} after {case.later.observations:,}" if case.later else ""
        yield (
            f"| {name} | {case.points} | {says} | {case.ours.decision}: {case.ours.verdicts['latency_us']} | "
            f"{later} | {kayenta.reason(case)} |"
        )


def beside_argo() -> Iterator[str]:
    """Lines of the table of Argo's cases."""
    yield "| case of Argo | limits | failed | it says | Tidegate | chance beside a flawless baseline | why |"
    yield "|---|---|---|---|---|---|---|"
    for case in argo.cases():
        ended = case.when_ended and case.when_ended != case.expected
        says = f"{case.expected}, {case.when_ended} when ended" if ended else case.expected
        verdict = case.alone.verdicts[argo.METRIC]
        measured = case.failed + case.succeeded
        yield (
            f"| {case.name} | {case.limits} | {case.failed} of {measured} | {says} | {case.alone.decision}: "
            f"{verdict} | {100 * case.beside.odds_of_chance:.0f} % | {argo.reason(case)} |"
        )


def ceiling() -> str:
    """What comes of a metric of which many values stand at a limit: made, not recorded."""
    rng = np.random.default_rng(1)
    arms = []
    for _ in range(2):
        values = np.minimum(np.exp(rng.normal(np.log(3e6), 0.6, 20_000)), 30e6).astype(np.int64)
        values[rng.random(20_000) < 0.02] = 30_000_000
        arms.append({"latency_us": values})
    ours = judge("[latency_us]", arms[0], arms[1])
    return (
        f"Two equal variants, 2 % of whose calls end at a limit of 30 s (simulated): {ours.decision} "
        f"after {ours.observations:,} calls each."
    )
