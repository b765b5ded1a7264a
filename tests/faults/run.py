"""One run: a system, traffic with a known truth, a schedule of faults, and what was found."""

import dataclasses
import re
import time
from pathlib import Path

from tests.faults import doomed
from tests.faults.checks import settle, violations
from tests.faults.disk import can_be_mounted
from tests.faults.findings import Run, Violation
from tests.faults.history import History
from tests.faults.injector import Injector
from tests.faults.newcomer import Registry
from tests.faults.operator import Operator
from tests.faults.receiver import MoodyReceiver
from tests.faults.schedule import Fault
from tests.faults.stranger import Stranger
from tests.faults.system import LinkedStack
from tests.faults.traffic import HOUR_US, App
from tests.faults.truth import read

from tidegate.series import deployment_key
from tidegate_infra import rollout_file, rollout_log
from tidegate_infra.kafka.end_of_stream import end_stream
from tidegate_infra.settings import Settings
from tidegate_infra.stack.member import Status

RECOVERY_SECONDS = 120.0
_ENDED = re.compile(r"ended with (\d+)|was killed by SIG(?!KILL|TERM)(\w+)")
_FINE = frozenset({"0", "4"})
"""Exit codes of an orderly end, and of a process that gave up on a dependency."""


def run(seed: int, faults: list[Fault], directory: Path, session_ms: int) -> list[Violation]:
    """Run, and return what must not be.

    Parameters
    ----------
    seed
        Of the traffic.
    faults
        What goes wrong.
    directory
        Keeps the stack's data and logs, and ``history.jsonl``.
    session_ms
        How long Kafka waits for a consumer's sign of life.
    """
    directory.mkdir(parents=True, exist_ok=True)
    history = History(directory / "history.jsonl")
    ends: list[tuple[str, str]] = []

    def on_status(status: Status) -> None:
        history.note("status", name=status.name, state=status.state, detail=status.detail, pid=status.pid)
        if status.state == "restarting" and (found := _ENDED.search(status.detail)):
            ends.append((status.name, found[1] or found[2]))

    with MoodyReceiver() as receiver, Registry() as registry:
        settings = {
            "watermark": "clock" if seed % 3 == 2 else "data",
            "kafka_session_ms": session_ms,
            "schema_registry_url": registry.url,
            # A rating is looked up in life's time, and its window waits in that of a replay.
            "allowed_lateness_us": HOUR_US,
            "range_ms": 200,
            "sink_range_ms": 400,
            "sink_range_rows": 500,
            "webhook_url": receiver.url,
            "webhook_secret": receiver.secret,
            "allow_private_webhooks": True,
        }
        history.note("begin", seed=seed, watermark=settings["watermark"], faults=len(faults))
        small_disks = can_be_mounted() and any(fault.kind == "disk" for fault in faults)
        stack = LinkedStack(directory / "stack", settings, on_status, small_disks=small_disks)
        stack.start()
        try:
            found = _played(seed, faults, directory, stack, receiver, registry, history, ends)
        finally:
            stack.stop()
    for violation in found:
        history.note("violation", invariant=violation.invariant, found=violation.what)
    return found


def _played(
    seed: int,
    faults: list[Fault],
    directory: Path,
    stack: LinkedStack,
    receiver: MoodyReceiver,
    registry: Registry,
    history: History,
    ends: list[tuple[str, str]],
) -> list[Violation]:
    app, stranger = App(stack.settings_of("app"), seed), Stranger(stack.settings, seed)
    operator = Operator(stack.settings.data_dir)
    injector = Injector(stack, app, stranger, operator, receiver, registry, history, directory)
    app.start()
    _apply_rollouts(stack.settings, app.start_us)
    injector.play(faults)
    injector.heal()
    history.note(
        "faults are over",
        reached=[p for p, marker in injector.markers.items() if marker.exists()],
        lies=stack.liar.lies,
    )
    found = []
    if not (app.finish(RECOVERY_SECONDS) and stranger.finish(RECOVERY_SECONDS)):
        found.append(Violation("recovery", f"Kafka did not confirm everything: {stranger.refused[:3]}"))
    told = doomed.read(injector.doomed)
    deadline_s = time.monotonic() + RECOVERY_SECONDS
    while True:
        truth = read(stack.settings, app.emitted, told, stranger.poison, stranger.wrote)
        # The resolver writes too, and its windows are closed with the stream.
        if not truth.unexplained or time.monotonic() > deadline_s:
            break
        time.sleep(1)
    end_us = max(ts for _, ts in truth.stored.values()) + stack.settings.allowed_lateness_us + 60_000_000
    end_stream(stack.settings, end_us)
    history.note(
        "traffic is over",
        stored=len(truth.stored),
        duplicates=len(truth.duplicates),
        dead=len(truth.dead),
        doomed=len(told.confirmed),
        alone=sum(getattr(event, "series", event) is None for event, _ in truth.stored.values()),
    )
    finished = Run(
        stack.settings, app, operator.asked, truth, end_us, lambda: list(receiver.deliveries.verified)
    )
    began_s = time.monotonic()
    if unsettled := settle(finished, RECOVERY_SECONDS):
        found.append(Violation("recovery", unsettled))
    history.note("settled", seconds=round(time.monotonic() - began_s, 1), but=unsettled)
    found += violations(finished)
    found += [
        Violation("processes", f"{name} ended with {code}")
        for name, code in ends + [(name, str(code)) for name, code in injector.ends]
        # Kafka has codes of its own for an orderly end, and for a disk that is full.
        if name != "kafka" and code not in _FINE
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
