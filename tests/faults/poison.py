"""Records that must be refused, each for its reason, and odd ones that must not."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from tests.faults.traffic import APP, ENVIRONMENT, SERIES, TENANT

from tidegate.client.completion import new_event_id
from tidegate.codec import encode
from tidegate.records import Evaluation, Feedback, LLMCall, Series
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK


def poison(topic: str, each: int, rng: random.Random) -> list[tuple[str, bytes, bytes | None]]:
    """Reason -> records that must be refused for it; every record has a key of its own."""
    made: list[tuple[str, bytes, bytes | None]] = []
    for _ in range(each):
        now_us = time.time_ns() // 1_000
        whole, other = _MAKERS[topic], _check if topic == CALLS else call_of
        good = encode(whole(new_event_id(), now_us))
        values: list[tuple[str, bytes | None]] = [
            ("empty", b""),
            ("empty", None),
            ("unknown_framing", b"\x7f" + rng.randbytes(rng.randint(1, 200))),
            ("unknown_framing", b"\x7f" + rng.randbytes(900_000)),
            ("undecodable", good[: len(good) // 2]),
            ("trailing_bytes", good + b"zz"),
            ("unknown_schema", b"\xc3\x01" + rng.randbytes(8) + good[10:]),
            ("bad_json", b'{"event_id": '),
            ("unexpected_record", encode(other(new_event_id(), now_us))),
            ("undecodable", encode(whole(new_event_id(), now_us, tenant=_SOUND)).replace(*_TEAR)),
        ]
        made += [(reason, new_event_id().encode(), value) for reason, value in values]
        broken = _BROKEN_CALLS if topic == CALLS else _BROKEN_RATINGS
        for reason, changes in broken:
            event_id = new_event_id()
            made.append((reason, event_id.encode(), encode(whole(event_id, now_us, **changes))))
        if topic == CALLS:
            event_id = new_event_id()
            made += [
                ("key_mismatch", new_event_id().encode(), encode(call_of(event_id, now_us))),
                ("invalid_field", event_id.encode(), _json_with_words_for_a_number(event_id, now_us)),
            ]
    return made


def torn(topic: str, at_us: int) -> list[tuple[str, bytes, bytes, Any]]:
    """Return a call, and what is said of it, with text that is no UTF-8 where nobody depends on it.

    Returns
    -------
    list
        Topic, key, bytes, and the event as everybody must read it. All of a topic, and the call that a rating
        of it is about. Of the ratings one has its series, the other waits for the resolver.
    """
    call = call_of(new_event_id(), at_us, deployment="newcomer", outcome="answered", server_address=_SOUND)
    call = replace(call, input_tokens=7, output_tokens=3)
    events: list[tuple[str, Any]] = [(CALLS, call)]
    if topic != CALLS:
        words = "comment" if topic == FEEDBACK else "explanation"
        changes = {words: _SOUND, "target_event_id": call.event_id}
        lonely = _MAKERS[topic](new_event_id(), at_us, **changes)
        series = Series(**{name: getattr(call, name) for name in SERIES}, comparable=False)
        complete = _MAKERS[topic](new_event_id(), at_us, **changes, series=series)
        events += [(topic, lonely), (topic, complete)]
    made = []
    for where, event in events:
        key = call.event_id.encode()
        broken = {name: _MENDED for name, value in asdict(event).items() if value == _SOUND}
        made.append((where, key, encode(event).replace(*_TEAR), replace(event, **broken)))
    return made


def call_of(event_id: str, now_us: int, **changes: Any) -> LLMCall:
    fields: dict[str, Any] = {
        "event_id": event_id,
        "tenant": TENANT,
        "app": APP,
        "environment": ENVIRONMENT,
        "deployment": "good-bot",
        "variant": "old",
        "ts_start": now_us - 1_000,
        "ts_end": now_us,
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-4-0314",
        "status": "ok",
    }
    return LLMCall(**(fields | changes))


def _check(event_id: str, now_us: int, **changes: Any) -> Evaluation:
    fields = _rating(event_id, now_us) | {"kind": "assertion", "passed": True, "evaluator": "stranger"}
    return Evaluation(**(fields | changes))


def _thumb(event_id: str, now_us: int, **changes: Any) -> Feedback:
    fields = _rating(event_id, now_us) | {"kind": "thumbs", "value": 1.0, "given_by": "user"}
    return Feedback(**(fields | changes))


def _rating(event_id: str, now_us: int) -> dict[str, Any]:
    whose = {"tenant": TENANT, "name": "poison", "target_event_id": new_event_id()}
    return {"event_id": event_id, "ts": now_us, **whose}


def _json_with_words_for_a_number(event_id: str, now_us: int) -> bytes:
    return json.dumps(asdict(call_of(event_id, now_us)) | {"input_tokens": "a few"}, default=str).encode()


_SOUND, _MENDED = "a whole word", "a wh\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}e word"
_TEAR = b"hol", b"h\xff\xfe"
_MAKERS: dict[str, Callable[..., Any]] = {CALLS: call_of, EVALUATIONS: _check, FEEDBACK: _thumb}
_BROKEN_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("missing_field", {"app": ""}),
    ("oversized_field", {"app": "x" * 300}),
    ("negative_count", {"input_tokens": -5}),
    ("negative_duration", {"ttft_us": -1}),
    ("implausible", {"attempt": 0}),
)
_BROKEN_RATINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("missing_field", {"name": ""}),
    ("oversized_field", {"name": "x" * 300}),
    ("implausible", {"ts": -1}),
    ("implausible", {"value": float("inf")}),
)
"""Reason -> what makes a whole record break a rule."""
