"""An app that is killed with events in its queue, and the file in which it tells what it did until then.

``python -m tests.faults.doomed FILE SERVERS TOPIC_PREFIX EVENT_TIME_US``
"""

import itertools
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import tidegate
from tidegate.client.completion import new_event_id
from tidegate.records import LLMCall

APP = "doomed"
_BURST, _PAUSE_S = 20, 0.2
_CONFIRMED = "confirmed"


@dataclass(slots=True)
class Told:
    """What such apps told.

    Parameters
    ----------
    emitted
        Ids of the calls that they were about to emit.
    confirmed
        Those of which `tidegate.flush` said that Kafka has them.
    """

    emitted: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)


def read(paths: Iterable[Path]) -> Told:
    """Read what apps told; the last line of one may be torn."""
    told = Told()
    for path in paths:
        lines = path.read_text().split("\n")[:-1]
        told.emitted.update(line for line in lines if line != _CONFIRMED)
        until = max((at for at, line in enumerate(lines) if line == _CONFIRMED), default=0)
        told.confirmed.update(line for line in lines[:until] if line != _CONFIRMED)
    return told


def emit_until_killed(path: Path, servers: str, topic_prefix: str, at_us: int) -> None:
    """Emit calls, and wait for Kafka after every other burst only."""
    tidegate.configure(
        app=APP,
        tenant="acme",
        environment="prod",
        kafka=servers,
        topic_prefix=topic_prefix or None,
        when_full="wait",
        report_seconds=0.5,
    )
    with path.open("w") as told:
        for burst in itertools.count():
            for number in range(_BURST):
                event_id = new_event_id()
                told.write(f"{event_id}\n")
                told.flush()
                tidegate.emit(_call(event_id, at_us + (burst * _BURST + number) * 1_000))
            if burst % 2 and tidegate.flush(60):
                told.write(f"{_CONFIRMED}\n")
                told.flush()
            time.sleep(_PAUSE_S)


def _call(event_id: str, end_us: int) -> LLMCall:
    return LLMCall(
        event_id=event_id,
        ts_start=end_us - 1_000,
        ts_end=end_us,
        deployment=APP,
        variant="old",
        operation="chat",
        provider="openai",
        request_model="gpt-4-0314",
        status="ok",
        outcome="answered",
        input_tokens=7,
        output_tokens=3,
    )


if __name__ == "__main__":
    _, file, servers, topic_prefix, at_us = sys.argv
    emit_until_killed(Path(file), servers, topic_prefix, int(at_us))
