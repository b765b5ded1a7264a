"""Events with a known truth: what an app emits, and what others write to its topics."""

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from aiokafka.partitioner import murmur2
from confluent_kafka import KafkaError, Message
from tests.faults.newcomer import REFUSED, Change, written

import tidegate
from tidegate.client.completion import new_event_id
from tidegate.codec import encode
from tidegate.errors import DependencyUnavailable
from tidegate.records import Evaluation, Feedback, LLMCall
from tidegate.topics import CALLS, EVALUATIONS, TOPICS
from tidegate_infra.demos.pace import Pace
from tidegate_infra.kafka import client, scan
from tidegate_infra.settings import Settings

REPLAY_SPEED = 10.0
"""Seconds of event time a second in a replay of the past: all of it within the allowed lateness."""

_PATIENCE_S = 60.0
_PAST_US = 1_200_000_000
CALLS_A_SECOND = 60
DEPLOYMENTS = ("good-bot", "bad-bot")
TENANT, ENVIRONMENT, APP = "acme", "prod", "chat"
LONG_PAST = "long-past"
"""Deployment of calls that may come beyond the allowed lateness."""

HOUR_US = 3_600_000_000

_HOT, _AHEAD, _IDLE = 0, 1, 2
"""Partitions of calls."""

Place = tuple[str, int, int]
"""Topic without prefix, partition, offset."""


@dataclass(slots=True)
class Emitted:
    """What the app emitted: by id, as it was when it was handed over."""

    calls: dict[str, LLMCall] = field(default_factory=dict)
    evaluations: dict[str, tuple[str, Evaluation]] = field(default_factory=dict)
    feedback: dict[str, tuple[str, Feedback]] = field(default_factory=dict)
    copies: int = 0

    @property
    def events(self) -> int:
        """How many times `emit` was called."""
        return len(self.calls) + len(self.evaluations) + len(self.feedback) + self.copies


class App:
    """An instrumented app: emits calls with evaluations and feedback, routed by two rollouts.

    Parameters
    ----------
    settings
        Of the stack.
    seed
        Of everything that is drawn.

    Notes
    -----
    Where the watermark follows the clock, calls end now; else they ended a while ago, and come faster than
    life.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        self.emitted = Emitted()
        self._preferred: dict[str, float] = {}
        is_live = settings.watermark == "clock"
        self.start_us = time.time_ns() // 1_000 - (0 if is_live else _PAST_US)
        self._speed = 1.0 if is_live else REPLAY_SPEED
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="app", daemon=True)
        self._failure: Exception | None = None
        tidegate.configure(
            app=APP,
            tenant=TENANT,
            environment=ENVIRONMENT,
            kafka=settings.kafka,
            topic_prefix=settings.topic_prefix or None,
            when_full="wait",
            report_seconds=2.0,
        )
        self._routers = {name: tidegate.Router(name, default="old") for name in DEPLOYMENTS}

    def start(self) -> None:
        self._thread.start()

    def finish(self, timeout_s: float) -> bool:
        """Emit no more, and say whether Kafka confirmed everything in time."""
        self._ending.set()
        self._thread.join()
        for router in self._routers.values():
            router.close()
        if self._failure is not None:
            raise self._failure
        flushed = tidegate.flush(timeout_s)
        return tidegate.shutdown(timeout_s) and flushed

    def skewed(self, how: str, count: int = 20) -> None:
        """Emit a burst of calls from a wrong clock."""
        for _ in range(count):
            now_us = time.time_ns() // 1_000
            with self._lock:
                match how:
                    case "ahead":
                        # One partition's clock: were all of them ahead, the rest would rightly be late.
                        self._emit(now_us + HOUR_US, _id_in(_AHEAD))
                    case "behind":
                        self._emit(self.event_us() - 60_000_000, new_event_id())
                    case "long past":
                        self._emit(self.start_us - 2 * HOUR_US, new_event_id(), LONG_PAST)

    def _run(self) -> None:
        try:
            self._began_s = time.monotonic()
            pace = Pace(self.start_us, self._speed)
            for number in itertools.count():
                if self._ending.is_set():
                    return
                at_us = self.start_us + int(number * self._speed * 1e6 / CALLS_A_SECOND)
                pace.wait_until(at_us)
                with self._lock:
                    self._emit(at_us, self._id())
        except Exception as error:  # noqa: BLE001 - raised again by `finish`
            self._failure = error

    def prefer(self, which: Literal["one", "all but one"], seconds: float) -> None:
        """For a while send calls to one partition only, or to all but one."""
        self._preferred[which] = time.monotonic() + seconds
        time.sleep(seconds)

    def event_us(self) -> int:
        """Return how far the app's own time is."""
        return self.start_us + int((time.monotonic() - self._began_s) * self._speed * 1e6)

    def _id(self) -> str:
        """Return an id that leads to where calls may go now."""
        now_s = time.monotonic()
        if now_s < self._preferred.get("one", 0.0):
            return _id_in(_HOT)
        event_id = new_event_id()
        while now_s < self._preferred.get("all but one", 0.0) and partition_of(event_id) == _IDLE:
            event_id = new_event_id()
        return event_id

    def _emit(self, end_us: int, event_id: str, deployment: str | None = None) -> None:
        rng = self._rng
        name = deployment or rng.choice(DEPLOYMENTS)
        assignment = self._routers[name].assign(f"s-{event_id}") if name in self._routers else None
        variant = assignment.variant if assignment is not None else "old"
        abstains = rng.random() < (0.7 if (name, variant) == ("bad-bot", "new") else 0.02)
        call = LLMCall(
            event_id=event_id,
            ts_start=end_us - rng.randint(100_000, 4_000_000),
            ts_end=end_us,
            deployment=name,
            operation="chat",
            provider="openai",
            request_model="gpt-4-0613" if variant == "new" else "gpt-4-0314",
            prompt_name="chat",
            prompt_version="7",
            session_id=f"s-{event_id}",
            status="ok" if rng.random() < 0.97 else "error",
            outcome="abstained" if abstains else "answered",
            input_tokens=rng.randint(10, 2_000),
            output_tokens=rng.randint(1, 500),
        )
        if assignment is not None:
            assignment.mark(call)
        handle = tidegate.handle(call)
        self.emitted.calls[event_id] = replace(call)
        again = [replace(call)] if rng.random() < 0.01 else []
        tidegate.emit(call)
        for copy in again:
            self.emitted.copies += 1
            tidegate.emit(copy)
        if name != LONG_PAST and rng.random() < 0.6:
            self._rate(call.event_id, end_us, handle, passed=not abstains)

    def _rate(self, target: str, end_us: int, handle: str, *, passed: bool) -> None:
        rng = self._rng
        check = Evaluation(
            event_id=new_event_id(),
            ts=end_us + rng.randint(0, 2_000_000),
            name="answered",
            kind="assertion",
            passed=passed,
            evaluator="app",
        )
        self.emitted.evaluations[check.event_id] = target, replace(check)
        again = replace(check) if rng.random() < 0.02 else None
        tidegate.emit(check, target=handle)
        if again is not None:
            self.emitted.copies += 1
            tidegate.emit(again, target=handle)
        if rng.random() < 0.4:
            thumb = Feedback(
                event_id=new_event_id(),
                ts=end_us + rng.randint(0, 20_000_000),
                name="helpful",
                kind="thumbs",
                value=float(passed),
                given_by="user",
            )
            self.emitted.feedback[thumb.event_id] = target, replace(thumb)
            tidegate.emit(thumb, target=handle)


def _id_in(partition: int) -> str:
    while partition_of(event_id := new_event_id()) != partition:
        pass
    return event_id


def partition_of(key: str, partitions: int = TOPICS[CALLS].partitions) -> int:
    """Return where Kafka's own clients send a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


class Stranger:
    """Somebody else who writes to the event topics: copies of what stands there, poison, other schemas.

    Parameters
    ----------
    settings
        Of the stack.
    seed
        Of everything that is drawn.

    Attributes
    ----------
    poison
        Place -> reason for which what was written there must be refused.
    calls
        Place -> the call that was written there.
    refused
        What Kafka did not take.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        self.poison: dict[Place, str] = {}
        self.calls: dict[Place, LLMCall] = {}
        self.refused: list[str] = []
        self._settings = settings
        self._rng = random.Random(seed)
        self._producer = client.producer(settings, linger_ms=5, message_timeout_ms=180_000)

    def replay(self, topic: str, most: int | None = 400) -> None:
        """Produce a stretch of the log once more, or all of it: the same keys, the same bytes."""
        there = [message for message in self._standing(topic) if message.value()]
        first = self._rng.randrange(max(1, len(there) - most)) if most is not None else 0
        for message in there[first:][:most]:
            place = _place(self._settings, message)
            self._send(
                topic, message.key(), message.value(), lambda copy, place=place: self._again(place, copy)
            )

    def _again(self, place: Place, copy: Place) -> None:
        if place in self.poison:
            self.poison[copy] = self.poison[place]
        if place in self.calls:
            self.calls[copy] = self.calls[place]

    def _standing(self, topic: str) -> list[Message]:
        """Return what stands in a topic, as soon as Kafka answers."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return list(scan.messages(self._settings, topic))
            except DependencyUnavailable:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.5)

    def poisoned(self, topic: str, each: int = 3) -> None:
        """Produce records that must be refused, each for its reason."""
        for reason, key, value in _poison(topic, each, self._rng):
            self._send(topic, key, value, partial(self._refused, reason))

    def joins(self, how: Change, schema_id: int, at_us: int, count: int = 40) -> None:
        """Produce calls in another schema."""
        for number in range(count):
            call = _call(
                new_event_id(),
                at_us + number * 10_000,
                deployment="newcomer",
                outcome="answered",
                input_tokens=self._rng.randint(10, 2_000),
                output_tokens=self._rng.randint(1, 500),
            )
            noted = partial(self._refused, REFUSED[how]) if how in REFUSED else partial(self._wrote, call)
            self._send(CALLS, call.event_id.encode(), written(call, how, schema_id), noted)

    def _refused(self, reason: str, place: Place) -> None:
        self.poison[place] = reason

    def _wrote(self, call: LLMCall, place: Place) -> None:
        self.calls[place] = call

    def finish(self, timeout_s: float) -> bool:
        """Say whether Kafka confirmed everything in time."""
        return self._producer.flush(timeout_s) == 0 and not self.refused

    def _send(
        self, topic: str, key: bytes | None, value: bytes | None, confirmed: Callable[[Place], None]
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.refused.append(error.str())
            else:
                confirmed(_place(self._settings, message))

        self._producer.produce(self._settings.topic_prefix + topic, value, key, on_delivery=delivered)
        self._producer.poll(0)


def _place(settings: Settings, message: Message) -> Place:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return topic.removeprefix(settings.topic_prefix), partition, offset


def _poison(topic: str, each: int, rng: random.Random) -> list[tuple[str, bytes, bytes | None]]:
    """Reason -> records that must be refused for it; every record has a key of its own."""
    made: list[tuple[str, bytes, bytes | None]] = []
    for _ in range(each):
        now_us = time.time_ns() // 1_000
        whole, other = (_call, _check) if topic == CALLS else (_check, _call)
        good = encode(whole(new_event_id(), now_us)) if topic in (CALLS, EVALUATIONS) else _thumb(now_us)
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
        ]
        made += [(reason, new_event_id().encode(), value) for reason, value in values]
        if topic == CALLS:
            event_id = new_event_id()
            made += [
                ("key_mismatch", new_event_id().encode(), encode(_call(new_event_id(), now_us))),
                ("negative_count", event_id.encode(), encode(_call(event_id, now_us, input_tokens=-5))),
            ]
            event_id = new_event_id()
            made += [("oversized_field", event_id.encode(), encode(_call(event_id, now_us, app="x" * 300)))]
    return made


def _call(event_id: str, now_us: int, **changes: Any) -> LLMCall:
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


def _check(event_id: str, now_us: int) -> Evaluation:
    return Evaluation(
        event_id=event_id,
        ts=now_us,
        tenant=TENANT,
        name="poison",
        kind="assertion",
        passed=True,
        evaluator="stranger",
        target_event_id=new_event_id(),
    )


def _thumb(now_us: int) -> bytes:
    return encode(
        Feedback(
            event_id=new_event_id(),
            ts=now_us,
            tenant=TENANT,
            name="poison",
            kind="thumbs",
            value=1.0,
            given_by="user",
            target_event_id=new_event_id(),
        )
    )
