"""Events with a known truth: what an app emits, and what others write to its topics."""

import itertools
import random
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Literal

from aiokafka.partitioner import murmur2

import tidegate
from tidegate.client.completion import new_event_id
from tidegate.records import Evaluation, Feedback, LLMCall
from tidegate.topics import CALLS, TOPICS
from tidegate_infra.demos.pace import Pace
from tidegate_infra.settings import Settings

REPLAY_SPEED = 10.0
"""Seconds of event time a second in a replay of the past: all of it within the allowed lateness."""

_PAST_US = 1_200_000_000
CALLS_A_SECOND = 60
_LONELY = 0.2
DEPLOYMENTS = ("good-bot", "bad-bot")
TENANT, ENVIRONMENT, APP = "acme", "prod", "chat"
LONG_PAST = "long-past"
"""Deployment of calls that may come beyond the allowed lateness."""

HOUR_US = 3_600_000_000

_HOT, _AHEAD, _IDLE = 0, 1, 2
"""Partitions of calls."""

SERIES = ("app", "environment", "deployment", "variant", "operation", "provider", "request_model", "traffic")
"""What a rating has from its call."""

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
            if rng.random() < _LONELY:
                # As from a place to which only the call's id came: its series has to be looked up.
                thumb.target_event_id = target
                tidegate.emit(thumb)
            else:
                tidegate.emit(thumb, target=handle)


def _id_in(partition: int) -> str:
    while partition_of(event_id := new_event_id()) != partition:
        pass
    return event_id


def partition_of(key: str, partitions: int = TOPICS[CALLS].partitions) -> int:
    """Return where Kafka's own clients send a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
