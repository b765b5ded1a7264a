"""The app of the demos: asks questions as people did, and is answered as the models did."""

import dataclasses
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tidegate
from tidegate.assignment import Assignment
from tidegate.client.completion import new_event_id
from tidegate.client.configuration import Configuration
from tidegate.client.following import Follower
from tidegate.client.notices import Notices
from tidegate.records import Evaluation, LLMCall, Rollout, RolloutProgress
from tidegate.series import deployment_key
from tidegate.topics import PROGRESS
from tidegate_infra import rollout_file, rollout_log
from tidegate_infra.demos.pace import Leash, Pace
from tidegate_infra.demos.recording import MARCH, Answer, Recording
from tidegate_infra.settings import Settings

_MINUTE_US = 60_000_000
_BEFORE_ROLLOUT_US = 2 * _MINUTE_US
_LEAD_US = 90_000_000
_COMMAND_SECONDS = 30.0
_FLUSH_SECONDS = 30.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Played:
    """What the app did and saw.

    Parameters
    ----------
    calls
        The calls that it emitted, in the order of their ends.
    calls_before
        Revision -> how many calls had been emitted when the router first obeyed it.
    """

    calls: list[LLMCall] = dataclasses.field(default_factory=list)
    calls_before: dict[int, int] = dataclasses.field(default_factory=dict)


def play(
    settings: Settings, spec_file: Path, recording: Recording, *, seed: int, speed: float, say: Say
) -> Played:
    """Play the recording against a running stack.

    The recording's half hour lies just behind the present, so that no event comes from the future. After
    two minutes of event time the rollout is applied; from then on the router decides who is asked.

    Parameters
    ----------
    settings
        Of the stack.
    spec_file
        The rollout.
    recording
        Arrivals and answers.
    seed
        Of the order of questions and of the sessions.
    speed
        Seconds of event time a second.
    say
        Tells a person how far it is.
    """
    spec = rollout_file.read(spec_file)
    baseline = next(v for v in spec.variants if v.role == "baseline")
    tidegate.configure(
        app="survey",
        tenant=spec.tenant,
        environment=spec.environment,
        kafka=settings.kafka,
        topic_prefix=settings.topic_prefix or None,
        when_full="wait",
    )
    router = tidegate.Router(spec.deployment, default=baseline.name)
    router.ready(_COMMAND_SECONDS)
    longest_us = max(a.latency_us for answers in recording.answers.values() for a in answers)
    start_us = time.time_ns() // 1_000 - recording.arrivals_us[-1] - longest_us - _MINUTE_US
    pace, leash = Pace(start_us, speed), Leash(_LEAD_US, _COMMAND_SECONDS)
    looks = _follow(settings, spec, leash)
    played = Played()
    pending: list[tuple[int, int, LLMCall, Assignment]] = []
    apply_at: float = start_us + _BEFORE_ROLLOUT_US

    def finish(until_us: int) -> None:
        while pending and pending[0][0] <= until_us:
            end_us, _, call, assignment = heapq.heappop(pending)
            pace.wait_until(end_us)
            _emit(call, assignment)
            _note(played, router, call)

    for number, (at_us, question) in zip(itertools.count(), recording.arrivals(seed)):
        now_us = start_us + at_us
        finish(now_us)
        pace.pause(leash.wait(now_us))
        pace.wait_until(now_us)
        if now_us >= apply_at:
            apply_at = float("inf")
            say(f"{len(played.calls)} calls served by {baseline.name}; now applying rollout {spec.name}")
            pace.pause(_apply(settings, spec, router, now_us))
        session = f"{seed}-{number}"
        assignment = router.assign(session)
        answer = recording.answers[model_of(assignment)][question]
        call = call_of(answer, assignment, now_us, session)
        heapq.heappush(pending, (call.ts_end, number, call, assignment))
    finish(start_us + recording.arrivals_us[-1] + longest_us)
    router.close()
    looks.stop()
    if not tidegate.flush(_FLUSH_SECONDS):
        say("Kafka did not confirm every event in time; the ledger will say which")
    tidegate.shutdown()
    return played


def _follow(settings: Settings, spec: Rollout, leash: Leash) -> Follower:
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    configuration = Configuration(
        app="survey", environment=spec.environment, kafka=settings.kafka, topic_prefix=settings.topic_prefix
    )
    follower = Follower(configuration, PROGRESS, key, RolloutProgress, leash.take, Notices())
    follower.start()
    return follower


def _apply(settings: Settings, spec: Rollout, router: tidegate.Router, now_us: int) -> float:
    """Apply the rollout and wait until the router obeys it; returns the seconds that took."""
    began = time.monotonic()
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    before = rollout_log.present(settings, key)
    generation = before.generation + 1
    applied = dataclasses.replace(spec, generation=generation, ts=now_us, actor="demo", reason="demo")
    rollout_log.put(settings, applied, before)
    while time.monotonic() - began < _COMMAND_SECONDS:
        if router.command is not None and router.command.generation == generation:
            break
        time.sleep(0.02)
    return time.monotonic() - began


def model_of(assignment: Assignment) -> str:
    """Return the model that an assignment asks."""
    definition = assignment.definition
    return definition.request_model or MARCH if definition is not None else MARCH


def call_of(answer: Answer, assignment: Assignment, start_us: int, session: str) -> LLMCall:
    """Return the call that the recording answers."""
    definition = assignment.definition
    return LLMCall(
        event_id=new_event_id(),
        source="replay",
        ts_start=start_us,
        ts_end=start_us + answer.latency_us,
        operation="chat",
        provider="openai",
        request_model=answer.model,
        response_model=answer.model,
        prompt_name="survey",
        prompt_version=(definition.prompt_version if definition is not None else None) or "7",
        session_id=session,
        status="ok",
        outcome="answered" if answer.answered else "abstained",
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        input_chars=answer.input_chars,
        output_chars=answer.output_chars,
        usage_source="provider",
    )


def check_of(call: LLMCall) -> Evaluation:
    """Return the app's own check of an answer: whether it answered."""
    return Evaluation(
        ts=call.ts_end,
        source="replay",
        name="answered",
        kind="assertion",
        passed=call.outcome == "answered",
        evaluator="demo",
    )


def _emit(call: LLMCall, assignment: Assignment) -> None:
    # Made first: from the moment it is emitted, the call belongs to the client.
    check = check_of(call)
    assignment.mark(call)
    handle = tidegate.handle(call)
    tidegate.emit(call)
    tidegate.emit(check, target=handle)


def _note(played: Played, router: tidegate.Router, call: LLMCall) -> None:
    command = router.command
    if command is not None:
        played.calls_before.setdefault(command.revision, len(played.calls))
    played.calls.append(call)
