"""A backtest over recorded traffic commands what live commanded: same cores, same evidence, same times."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.system import test_demo_decisions as live

from tidegate import codec
from tidegate.records import DeploymentCommand, Evaluation, Heartbeat, LLMCall, SourceProgress
from tidegate.topics import CALLS
from tidegate_streams import fold
from tidegate_streams.backtest import drive, files
from tidegate_streams.backtest.outcome import Outcome
from tidegate_streams.backtest.tally import Tally
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.partials import PANE_US

MINUTES = {"model-upgrade": 3, "healthy": 30}
"""Of the recording: long enough for the decision."""
ACTIONS = {"model-upgrade": ["start", "rollback"], "healthy": ["start", "advance", "advance", "promote"]}


class Live(live.Loopback):
    """The demo, with a watermark that has come to the end of each pane, as at the end of a log."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.demo = arguments[0]
        self.emitted: list[LLMCall | Evaluation] = []
        self.taken: list[Any] = []

    def take(self, record: Any) -> None:
        self.taken.append(record)
        super().take(record)

    def entries(self, topic: str, records: Any) -> Any:
        self.emitted += records
        return super().entries(topic, records)

    def settle(self, calls: list[LLMCall], now_us: int) -> None:
        super().settle(calls, now_us)
        source = SourceProgress(topic_id="c", topic=CALLS, partition=0, next_offset=0, watermark=now_us)
        self.take(Heartbeat(worker="w", epoch=1, sources=[source], partition_count=1, ts=now_us))


@pytest.fixture(scope="module", params=["model-upgrade", pytest.param("healthy", marks=pytest.mark.long)])
def demo(request: pytest.FixtureRequest) -> Live:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "CHUNK_US", PANE_US)
        recorded = live.RECORDING
        few = [at_us for at_us in recorded.arrivals_us if at_us < MINUTES[request.param] * 60_000_000]
        patch.setattr(live, "RECORDING", dataclasses.replace(recorded, arrivals_us=few))
        loop = Live(request.param, 0)
        loop.run()
    return loop


def lines(events: list[LLMCall | Evaluation]) -> list[str]:
    kinds = {LLMCall: "call", Evaluation: "evaluation"}
    return [json.dumps({"type": kinds[type(event)], **codec.as_dict(event)}, default=str) for event in events]


def unplaced(commands: list[DeploymentCommand]) -> list[DeploymentCommand]:
    """Commands without their offsets in a journal: a file has none."""
    return [dataclasses.replace(command, offsets=[]) for command in commands]


def test_the_commands_are_those_of_live_whatever_the_order_of_the_file(demo: Live, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    written = lines(demo.emitted)
    random.Random(7).shuffle(written)
    file.write_text("\n".join(written) + "\n")
    tally = Tally(demo.spec, live.BOOK)
    for piece in files.read(file, {"tenant": "acme", "environment": "prod", "app": "x", "variant": "x"}):
        tally.refuse(str(file), piece.refused)
        tally.add(str(file), piece.record, piece.events)
    outcome = Outcome.of(
        demo.spec, drive.decide(demo.spec, drive.released(tally.partials()), start_us=live.SPEC_US)
    )
    assert not tally.named
    assert [command.action for command in outcome.commands] == ACTIONS[demo.demo]
    assert unplaced(outcome.commands) == unplaced(demo.commands)


def test_the_commands_are_those_of_live_in_a_replay_with_restarts_from_snapshots(demo: Live) -> None:
    state, commands = fold.State(0), []
    restarts = random.Random(7).sample(range(len(demo.taken)), 5)
    for offset, record in enumerate(map(codec.decode, map(codec.encode, demo.taken))):
        if offset in restarts:
            state = thaw(freeze(state).pack())
        outputs = fold.apply(state, offset, record, windows=False)
        commands += [one for one in outputs if isinstance(one, DeploymentCommand)]
    assert [command.action for command in commands] == ACTIONS[demo.demo]
    assert commands == demo.commands
