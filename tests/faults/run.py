"""One run: a stack, traffic with a known truth, a schedule of faults, and what was found."""

import dataclasses
import re
import time
from pathlib import Path

from tests.faults.checks import Run, Violation, settle, violations
from tests.faults.history import History
from tests.faults.injector import Injector
from tests.faults.receiver import MoodyReceiver
from tests.faults.schedule import Fault
from tests.faults.traffic import App, Stranger
from tests.faults.truth import read

from tidegate.series import deployment_key
from tidegate_infra import rollout_file, rollout_log
from tidegate_infra.kafka.end_of_stream import end_stream
from tidegate_infra.settings import Settings
from tidegate_infra.stack.member import Status
from tidegate_infra.stack.supervisor import Stack

RECOVERY_SECONDS = 120.0
_ENDED = re.compile(r"ended with (\d+)")
_FINE = frozenset({0, 4})
"""Exit codes of an orderly end, and of a process that gave up on a dependency."""


def run(seed: int, faults: list[Fault], directory: Path) -> list[Violation]:
    """Run, and return what must not be.

    Parameters
    ----------
    seed
        Of the traffic.
    faults
        What goes wrong.
    directory
        Keeps the stack's data and logs, and ``history.jsonl``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    history = History(directory / "history.jsonl")
    ends: list[tuple[str, int]] = []

    def on_status(status: Status) -> None:
        history.note("status", name=status.name, state=status.state, detail=status.detail, pid=status.pid)
        if status.state == "restarting" and (found := _ENDED.search(status.detail)):
            ends.append((status.name, int(found[1])))

    with MoodyReceiver() as receiver:
        settings = {
            "watermark": "clock" if seed % 3 == 2 else "data",
            "range_ms": 200,
            "sink_range_ms": 400,
            "sink_range_rows": 500,
            "webhook_url": receiver.url,
            "webhook_secret": receiver.secret,
            "allow_private_webhooks": True,
        }
        history.note("begin", seed=seed, watermark=settings["watermark"], faults=len(faults))
        stack = Stack(directory / "stack", settings=settings, on_status=on_status)
        stack.start()
        try:
            found = _played(seed, faults, directory, stack, receiver, history, ends)
        finally:
            stack.stop()
    for violation in found:
        history.note("violation", invariant=violation.invariant, found=violation.what)
    return found


def _played(
    seed: int,
    faults: list[Fault],
    directory: Path,
    stack: Stack,
    receiver: MoodyReceiver,
    history: History,
    ends: list[tuple[str, int]],
) -> list[Violation]:
    app, stranger = App(stack.settings, seed), Stranger(stack.settings, seed)
    injector = Injector(stack, app, stranger, receiver, history, directory)
    app.start()
    _apply_rollouts(stack.settings, app.start_us)
    injector.play(faults)
    injector.heal()
    history.note("faults are over", reached=[p for p, marker in injector.markers.items() if marker.exists()])
    found = []
    if not (app.finish(RECOVERY_SECONDS) and stranger.finish(RECOVERY_SECONDS)):
        found.append(Violation("recovery", f"Kafka did not confirm everything: {stranger.refused[:3]}"))
    truth = read(stack.settings, app.emitted, stranger.poison)
    end_us = max(ts for _, ts in truth.stored.values()) + stack.settings.allowed_lateness_us + 60_000_000
    end_stream(stack.settings, end_us)
    history.note(
        "traffic is over",
        stored=len(truth.stored),
        duplicates=len(truth.duplicates),
        dead=len(truth.dead),
    )
    finished = Run(stack.settings, app, truth, end_us, lambda: list(receiver.deliveries.verified))
    began_s = time.monotonic()
    if unsettled := settle(finished, RECOVERY_SECONDS):
        found.append(Violation("recovery", unsettled))
    history.note("settled", seconds=round(time.monotonic() - began_s, 1), but=unsettled)
    found += violations(finished)
    found += [
        Violation("processes", f"{name} ended with {code}")
        for name, code in ends + injector.ends
        if code not in _FINE
    ]
    stack.check()
    return found


def _apply_rollouts(settings: Settings, start_us: int) -> None:
    for file in sorted(Path(__file__).parent.glob("*.yaml")):
        spec = rollout_file.read(file)
        before = rollout_log.present(settings, deployment_key(spec.tenant, spec.environment, spec.deployment))
        applied = dataclasses.replace(
            spec, generation=before.generation + 1, ts=start_us, actor="faults", reason="faults"
        )
        rollout_log.put(settings, applied, before)
