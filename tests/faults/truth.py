"""What must stand in the store, worked out from the log's own messages, apart from the code under test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults.doomed import Told
from tests.faults.traffic import SERIES, Emitted, Place

from tidegate.codec import decode
from tidegate.errors import ContractError
from tidegate.records import EndOfStream, Evaluation, Feedback, LLMCall
from tidegate.topics import CALLS, CLAMP_US, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import scan
from tidegate_infra.settings import Settings

TABLES = {CALLS: "calls", FEEDBACK: "feedback", EVALUATIONS: "evaluations"}


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
    strange: Mapping[Place, Any],
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
        Place -> the event that somebody else wrote there, as it must be read.
    """
    truth = Truth()
    lost = doomed.emitted - doomed.confirmed
    known = {
        CALLS: set(emitted.calls) | doomed.emitted,
        FEEDBACK: set(emitted.feedback),
        EVALUATIONS: set(emitted.evaluations),
    }
    for (topic, *_), event in strange.items():
        known[topic].add(event.event_id)
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
            elif event is None or event.event_id not in known[topic]:
                truth.unexplained.append(f"{place} was written by nobody")
            else:
                own_us = event.ts_end if isinstance(event, LLMCall) else event.ts
                truth.stored[place] = event, min(own_us, message.timestamp()[1] * 1_000 + CLAMP_US)
                found.add(event.event_id)
        truth.unexplained += [f"{i} was confirmed and is not in {topic}" for i in known[topic] - lost - found]
    calls = emitted.calls | {c.event_id: c for c in strange.values() if isinstance(c, LLMCall)}
    truth.unexplained += _unresolved(truth, calls)
    gone = set(strange) - set(truth.stored) - truth.duplicates
    truth.unexplained += [f"{place} was confirmed and holds no event" for place in sorted(gone)]
    return truth


def _unresolved(truth: Truth, calls: Mapping[str, LLMCall]) -> Iterator[str]:
    """Ratings that came without a series, and stand in the log not once with that of their call."""
    ratings = [event for event, _ in truth.stored.values() if not isinstance(event, LLMCall)]
    complete: dict[str, list[Any]] = {}
    for event in ratings:
        if event.series is not None:
            complete.setdefault(event.event_id, []).append(event)
    for event in ratings:
        found = complete.get(event.event_id, [])
        call = calls[event.target_event_id]
        if len(found) != 1:
            yield f"{event.event_id} stands {len(found)} times with a series"
        elif any(getattr(found[0].series, name) != getattr(call, name) for name in SERIES):
            yield f"{event.event_id} has {found[0].series}, its call is {call}"
        elif replace(event, ts=found[0].ts, series=found[0].series) != found[0]:
            yield f"{event.event_id} was {event}, and stands with a series as {found[0]}"


def _event(value: bytes | None) -> Any:
    try:
        return decode(value or b"")
    except ContractError:
        return None


def _rating(event: Any) -> Any:
    return (event.event_id, event.series is not None) if isinstance(event, Feedback | Evaluation) else None
