"""Commands and windows as stage 2 published them, compared with what its journal gives anew."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import polars as pl
from tests.faults.findings import Run, Violation

from tidegate import codec
from tidegate.records import DeploymentCommand
from tidegate.series import deployment_key
from tidegate.topics import DEPLOYMENTS, METRICS, PARTIALS, TOPICS
from tidegate_infra.kafka import scan
from tidegate_infra.settings import Settings
from tidegate_streams import fold, partials
from tidegate_streams.replay import newest, replay
from tidegate_streams.replay import windows as windows_of

_SHOWN = 5


def commands(settings: Settings) -> list[DeploymentCommand]:
    """Read every command as often as it was published."""
    return [r for _, r in scan.records(settings, DEPLOYMENTS, timeout_seconds=60) if r is not None]


def decided(client: Any, run: Run) -> Iterator[Violation]:
    """Check that a revision is one command, and that all of them are stored and delivered."""
    by_revision: dict[tuple[str, int], DeploymentCommand] = {}
    for command in commands(run.settings):
        key = deployment_key(command.tenant, command.environment, command.deployment)
        first = by_revision.setdefault((key, command.revision), command)
        if first != command:
            yield Violation("commands", f"{key} revision {command.revision}: {first} and {command}")
    revisions = defaultdict(list)
    for key, revision in sorted(by_revision):
        revisions[key].append(revision)
    if len(revisions) < 2:
        yield Violation("commands", f"two rollouts were applied, only {list(revisions)} were commanded")
    for key, found in revisions.items():
        if found != list(range(1, len(found) + 1)):
            yield Violation("commands", f"{key} has revisions {found}")
    ids = {command.command_id for command in by_revision.values()}
    stored = {i for (i,) in client.query("SELECT command_id FROM deployment_commands").result_rows}
    if stored != ids:
        yield Violation("commands", f"stored but not in the log {stored - ids}, not stored {ids - stored}")
    if missed := ids - set(run.delivered()):
        yield Violation("delivered", f"{len(missed)} of {len(ids)} commands were not: {sorted(missed)}")


def replayed(client: Any, run: Run) -> Iterator[Violation]:
    """Check that the journal gives what was published."""
    journal: defaultdict[int, list[tuple[int, Any]]] = defaultdict(list)
    for message, record in scan.records(run.settings, PARTIALS, timeout_seconds=120):
        journal[message.partition()].append((message.offset(), record))
    rules = fold.Rules(run.settings.allowed_lateness_us, run.settings.series_cap)
    outputs = [
        record
        for partition, records in journal.items()
        for _, caused in replay(records, partition, rules)
        for record in caused
    ]
    again = {
        (deployment_key(c.tenant, c.environment, c.deployment), c.revision): c
        for c in outputs
        if isinstance(c, DeploymentCommand)
    }
    for command in commands(run.settings):
        key = deployment_key(command.tenant, command.environment, command.deployment)
        if again.get((key, command.revision)) != command:
            yield Violation(
                "replay", f"published {command}; the journal gives {again.get((key, command.revision))}"
            )
    anew = newest(windows_of(outputs)).select("series_id", "window", "window_start", "version", "calls")
    rows = client.query(
        "SELECT series_id, window, toUnixTimestamp64Micro(window_start), version, calls "
        "FROM window_metrics FINAL"
    ).result_rows
    expected = set(anew.with_columns(pl.col("window_start").dt.epoch("us")).iter_rows())
    if (found := set(map(tuple, rows))) != expected:
        yield Violation(
            "replay",
            f"windows: {len(found - expected)} stored ones differ from the journal's, "
            f"{len(expected - found)} of these are not stored, such as {sorted(found ^ expected)[:_SHOWN]}",
        )


def versions(run: Run) -> Iterator[Violation]:
    """Check that a window has one content under a version, and one final version."""
    seen: dict[tuple[Any, ...], int] = {}
    finals: dict[tuple[Any, ...], int] = {}
    for message in scan.messages(run.settings, METRICS, timeout_seconds=120):
        rows = partials.unpack(codec.decode(message.value() or b"", None, TOPICS[METRICS].records).rows)
        for values in rows.select(
            "rollup", "series_id", "window", "window_start", "version", "phase", "calls"
        ).rows():
            *key, version, phase, calls = values
            if seen.setdefault((*key, version), calls) != calls:
                yield Violation(
                    "versions", f"{key} version {version}: {seen[*key, version]} and {calls} calls"
                )
            if phase == "final" and finals.setdefault(tuple(key), version) != version:
                yield Violation("versions", f"{key} is final as {finals[tuple(key)]} and as {version}")
