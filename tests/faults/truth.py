"""What must stand in the store, worked out from the log's own messages, apart from the code under test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.faults.doomed import Told
from tests.faults.traffic import HOUR_US, Emitted, Place

from tidegate.codec import decode
from tidegate.errors import ContractError
from tidegate.records import EndOfStream, Evaluation, Feedback, LLMCall
from tidegate.series import ROLLUPS
from tidegate.topics import CALLS, CLAMP_US, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import scan
from tidegate_infra.settings import Settings

TABLES = {CALLS: "calls", FEEDBACK: "feedback", EVALUATIONS: "evaluations"}

_SERIES = ("app", "environment", "deployment", "variant", "operation", "provider", "request_model", "traffic")
"""What a rating has from its call."""

_LENGTHS_S = {"10s": 10, "1m": 60, "5m": 300, "1h": 3600}
_SLIDES_S = {"release": {"10s": 10, "1m": 10, "5m": 10, "1h": 60}}
_OTHER_SLIDES_S = {"1m": 60, "5m": 60, "1h": 60}


@dataclass(slots=True)
class Truth:
    """Where every message of the event topics belongs.

    Parameters
    ----------
    stored
        Place -> the first copy of an event, and its event time, clamped as the contract says.
    duplicates
        Places of further copies.
    dead
        Place -> reason.
    unexplained
        Places of messages that nobody of the run wrote, and events that are not in the log.
    """

    stored: dict[Place, tuple[Any, int]] = field(default_factory=dict)
    duplicates: set[Place] = field(default_factory=set)
    dead: dict[Place, str] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)

    def of(self, topic: str) -> dict[Place, tuple[Any, int]]:
        """What must be stored of a topic."""
        return {place: event for place, event in self.stored.items() if place[0] == topic}


def read(
    settings: Settings,
    emitted: Emitted,
    doomed: Told,
    poison: Mapping[Place, str],
    strange: Mapping[Place, LLMCall],
) -> Truth:
    """Work it out.

    Parameters
    ----------
    settings
        Of the stack.
    emitted
        What the app emitted: all of it was confirmed.
    doomed
        What apps that were killed told.
    poison
        Place -> reason for which what was written there must be refused.
    strange
        Place -> the call that a producer with another schema wrote there.
    """
    truth = Truth()
    lost = doomed.emitted - doomed.confirmed
    known = {
        CALLS: set(emitted.calls) | doomed.emitted,
        FEEDBACK: set(emitted.feedback),
        EVALUATIONS: set(emitted.evaluations),
    }
    for topic in TABLES:
        seen: set[tuple[int, Any]] = set()
        found = set()
        for message in scan.messages(settings, topic, timeout_seconds=120):
            place = topic, message.partition(), message.offset()
            event = strange.get(place) or _event(message.value())
            if isinstance(event, EndOfStream):
                continue
            identity = message.key() if topic == CALLS else _rating(event)
            if identity is not None and (message.partition(), identity) in seen:
                truth.duplicates.add(place)
                continue
            seen.add((message.partition(), identity))
            if place in poison:
                truth.dead[place] = poison[place]
            elif event is None or (place not in strange and event.event_id not in known[topic]):
                truth.unexplained.append(f"{place} was written by nobody")
            else:
                own_us = event.ts_end if isinstance(event, LLMCall) else event.ts
                truth.stored[place] = event, min(own_us, message.timestamp()[1] * 1_000 + CLAMP_US)
                found.add(event.event_id)
        truth.unexplained += [f"{i} was confirmed and is not in {topic}" for i in known[topic] - lost - found]
    truth.unexplained += _unresolved(truth, emitted)
    gone = set(strange) - set(truth.stored) - truth.duplicates
    truth.unexplained += [f"{place} was confirmed and holds no call" for place in sorted(gone)]
    return truth


def _unresolved(truth: Truth, emitted: Emitted) -> Iterator[str]:
    """Ratings that came without a series, and stand in the log not once with that of their call."""
    ratings = [event for event, _ in truth.stored.values() if not isinstance(event, LLMCall)]
    complete: dict[str, list[Any]] = {}
    for event in ratings:
        if event.series is not None:
            complete.setdefault(event.event_id, []).append(event)
    for event in ratings:
        found = complete.get(event.event_id, [])
        call = emitted.calls[event.target_event_id]
        if len(found) != 1:
            yield f"{event.event_id} stands {len(found)} times with a series"
        elif any(getattr(found[0].series, name) != getattr(call, name) for name in _SERIES):
            yield f"{event.event_id} has {found[0].series}, its call is {call}"


def _event(value: bytes | None) -> Any:
    try:
        return decode(value or b"")
    except ContractError:
        return None


def _rating(event: Any) -> Any:
    return (event.event_id, event.series is not None) if isinstance(event, Feedback | Evaluation) else None


Window = tuple[str, str, int, tuple[str, ...]]
"""Roll-up, length, start, dimensions of the roll-up."""

COUNTS = (
    "calls",
    "status_ok",
    "status_error",
    "outcome_answered",
    "outcome_abstained",
    "input_tokens",
    "output_tokens",
    "cost_usd_nano",
    "evaluations_n",
    "evaluations_passed",
    "feedback_n",
    "feedback_positive",
)
"""What is recomputed of a window."""

_GPT_4_NANO = (30_000, 60_000)
"""Billionths of a dollar for a token read and one written, by the only model that answers here."""


def windows(truth: Truth, until_us: int) -> Iterator[tuple[Window, tuple[int, ...]]]:
    """Recompute every window that holds something and ends until then; those of a day are left out.

    Yields
    ------
    tuple
        The window, and its `COUNTS`.
    """
    rows = sorted(_rows(truth), key=lambda row: row[0])
    for rollup, dimensions in ROLLUPS.items():
        series: dict[tuple[str, ...], list[tuple[int, list[int]]]] = {}
        for ts_us, fields, counts in rows:
            series.setdefault(tuple(fields[d] or "" for d in dimensions), []).append((ts_us, counts))
        for name, events in series.items():
            times = np.array([ts_us for ts_us, _ in events])
            sums = np.cumsum([[0] * len(COUNTS), *(counts for _, counts in events)], axis=0)
            for window, slide_s in _SLIDES_S.get(rollup, _OTHER_SLIDES_S).items():
                length_us, slide_us = _LENGTHS_S[window] * 1_000_000, slide_s * 1_000_000
                starts = _starts(times, length_us, slide_us)
                lows, highs = np.searchsorted(times, starts), np.searchsorted(times, starts + length_us)
                for start, low, high in zip(starts.tolist(), lows, highs, strict=True):
                    if start + length_us <= until_us:
                        yield (rollup, window, start, name), tuple((sums[high] - sums[low]).tolist())


def _starts(times: Any, length_us: int, slide_us: int) -> Any:
    """Return the starts of all windows that hold one of the times."""
    latest = np.unique(times // slide_us * slide_us)
    return np.unique(np.concatenate([latest - back for back in range(0, length_us, slide_us)]))


def _rows(truth: Truth) -> Iterator[tuple[int, dict[str, Any], list[int]]]:
    """Event time, dimensions and what it adds, of every event that counts."""
    names = {name for dimensions in ROLLUPS.values() for name in dimensions}
    for event, ts_us in truth.stored.values():
        adds = dict.fromkeys(COUNTS, 0)
        if isinstance(event, LLMCall):
            fields = {name: getattr(event, name) for name in names}
            adds |= {"calls": 1, f"status_{event.status}": 1, f"outcome_{event.outcome}": 1}
            adds |= {"input_tokens": event.input_tokens, "output_tokens": event.output_tokens}
            adds["cost_usd_nano"] = sum(
                tokens * nano
                for tokens, nano in zip((event.input_tokens, event.output_tokens), _GPT_4_NANO, strict=True)
            )
        elif event.series is None:
            continue  # It counts when its series is known: as the copy that the resolver made.
        else:
            fields = {name: getattr(event.series, name, event.tenant) for name in names}
            if isinstance(event, Evaluation):
                adds |= {"evaluations_n": 1, "evaluations_passed": int(event.passed)}
            else:
                adds |= {"feedback_n": 1, "feedback_positive": int(event.positive)}
        yield ts_us, fields, [adds[name] for name in COUNTS]


def is_long_past(window: Window, start_us: int) -> bool:
    """Whether a window may hold calls that came beyond the allowed lateness."""
    return window[2] + _LENGTHS_S[window[1]] * 1_000_000 <= start_us - HOUR_US // 2
