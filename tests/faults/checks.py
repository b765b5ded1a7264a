"""The invariants: what stands after a run, compared with the truth, exactly."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import polars as pl
from tests.faults import doomed
from tests.faults import truth as truths
from tests.faults.operator import Asked, unequal_effects
from tests.faults.traffic import LONG_PAST, App, Place
from tests.faults.truth import COUNTS, TABLES, Truth

from tidegate import codec
from tidegate.errors import DependencyUnavailable
from tidegate.records import DeploymentCommand
from tidegate.series import ROLLUPS, deployment_key
from tidegate.topics import CALLS, DEPLOYMENTS, METRICS, PARTIALS, TOPICS
from tidegate_infra import ledger
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.kafka import lag, scan
from tidegate_infra.settings import Settings
from tidegate_streams import fold, partials
from tidegate_streams.replay import newest, replay
from tidegate_streams.replay import windows as windows_of

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be.

    Parameters
    ----------
    invariant
        Its short name, as in `INVARIANTS`.
    what
        What was found.
    """

    invariant: str
    what: str


INVARIANTS = {
    "confirmed": "every event that was confirmed is in the log, and nobody else's",
    "stored once": "every event stands once in its table, as it was sent; nothing else stands there",
    "duplicates": "every further copy is accounted for as a duplicate, once",
    "dead letters": "every record that cannot count is a dead letter with its reason, and no other is",
    "windows": "every closed window equals its recomputation, and none is absent",
    "late": "calls that came too late for their window are counted as late",
    "versions": "a window's final row is published with one content under one version",
    "ledger": "every producer's account balances, with nothing in flight or missing",
    "actions": "every recorded action took effect once, or was refused once",
    "commands": "a revision is one command, revisions have no gap, and all are stored",
    "delivered": "every command reached the webhook with a valid signature",
    "replay": "folding the journal anew gives the commands and the windows that were published",
    "processes": "no process ends by a broken invariant or a defect",
    "recovery": "everything has settled within two minutes of the last fault",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose traffic has ended.

    Parameters
    ----------
    settings
        Of the stack.
    app
        What emitted.
    asked
        What a person told the command line to do.
    truth
        What must stand.
    end_us
        Event time to which the stream was ended.
    delivered
        Ids that the webhook's receiver verified.
    """

    settings: Settings
    app: App
    asked: list[Asked]
    truth: Truth
    end_us: int
    delivered: Callable[[], Iterable[str]]


def settle(run: Run, timeout_s: float) -> str:
    """Wait until everything has arrived; says what has not in time, or nothing."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            words = _unsettled(run)
        except DependencyUnavailable as error:
            words = str(error)
        if not words:
            # What is one too many comes later than what was expected.
            time.sleep(3)
            return ""
        if time.monotonic() > deadline:
            return words
        time.sleep(1)


def _behind(settings: Settings, *names: str) -> str:
    return ", ".join(f"{group.name} lags {group.lag}" for group in lag.groups(settings, names) if group.lag)


def _unsettled(run: Run) -> str:
    if words := _behind(run.settings, "aggregate", "resolve", "sink", "notify"):
        return words
    with closing(connect(run.settings, readonly=True)) as client:
        [(watermark_us,)] = client.query(
            "SELECT toUnixTimestamp64Micro(coalesce(max(watermark), toDateTime64(0, 6))) FROM window_metrics"
        ).result_rows
    if watermark_us < run.end_us:
        return f"windows stand at {watermark_us}, {(run.end_us - watermark_us) / 1e6:.0f} s before the end"
    waiting = {c.command_id for c in _commands(run.settings)} - set(run.delivered())
    return f"{len(waiting)} commands are not delivered" if waiting else ""


def violations(run: Run) -> Iterator[Violation]:
    """Check every invariant of what stands."""
    yield from (Violation("confirmed", what) for what in run.truth.unexplained)
    yield from (Violation("actions", what) for what in unequal_effects(run.settings, run.asked))
    with closing(connect(run.settings, readonly=True)) as client:
        yield from _facts(client, run)
        yield from _windows(client, run)
        yield from _ledger(client, run)
        yield from _decisions(client, run)
        yield from _replay(client, run)
    yield from _versions(run)


def _differing(invariant: str, what: str, must: set[Any], stands: Iterable[Any]) -> Iterator[Violation]:
    """Compare places: each once, none absent, none strange."""
    found = list(stands)
    twice = sorted(place for place, n in _counted(found).items() if n > 1)
    for words, places in (
        ("absent", sorted(must - set(found))),
        ("strange", sorted(set(found) - must)),
        ("more than once", twice),
    ):
        if places:
            yield Violation(invariant, f"{what}: {len(places)} {words}, such as {places[:_SHOWN]}")


def _counted(found: Iterable[Any]) -> dict[Any, int]:
    counts: defaultdict[Any, int] = defaultdict(int)
    for one in found:
        counts[one] += 1
    return counts


def _facts(client: Any, run: Run) -> Iterator[Violation]:
    for topic, table in TABLES.items():
        must = run.truth.of(topic)
        rows = client.query(
            "SELECT _partition, _offset, event_id, toUnixTimestamp64Micro(ts), coalesce(seq, -1) "
            f"FROM {table}"
        ).result_rows
        yield from _differing("stored once", table, set(must), ((topic, p, o) for p, o, *_ in rows))
        ids = _counted(event_id for _, _, event_id, *_ in rows)
        alone = {event.event_id for event, _ in must.values() if getattr(event, "series", event) is None}
        # What came without a series is stored as it came, and once more with it.
        if again := [event_id for event_id, n in ids.items() if n > 1 + (event_id in alone)]:
            yield Violation("stored once", f"{table}: {len(again)} ids twice, such as {again[:_SHOWN]}")
        wrong = [
            (topic, p, o)
            for p, o, *fields in rows
            if (event := must.get((topic, p, o))) is not None
            and fields != [event[0].event_id, event[1], -1 if event[0].seq is None else event[0].seq]
        ]
        if wrong:
            yield Violation("stored once", f"{table}: {len(wrong)} rows differ, such as {wrong[:_SHOWN]}")
    calls = client.query(
        "SELECT _partition, _offset, variant, status, outcome, input_tokens, output_tokens FROM calls"
    ).result_rows
    fields = ("variant", "status", "outcome", "input_tokens", "output_tokens")
    for p, o, *values in calls:
        event = run.truth.stored.get((CALLS, p, o))
        if event is not None and values != [getattr(event[0], name) for name in fields]:
            yield Violation("stored once", f"calls: {event[0].event_id} is stored as {values}")
    copies = client.query("SELECT topic, _partition, _offset FROM duplicates").result_rows
    yield from _differing("duplicates", "duplicates", run.truth.duplicates, map(tuple, copies))
    yield from _dead(client, run.truth.dead)


def _dead(client: Any, must: dict[Place, str]) -> Iterator[Violation]:
    rows = client.query(
        "SELECT source_topic, source_partition, source_offset, reason, stage, _topic_id, _partition, _offset "
        "FROM dead_letters"
    ).result_rows
    yield from _differing("dead letters", "sources", set(must), {tuple(row[:3]) for row in rows})
    written = _counted(tuple(row[5:]) for row in rows)
    if again := [place for place, n in written.items() if n > 1]:
        yield Violation("dead letters", f"{len(again)} rows twice, such as {again[:_SHOWN]}")
    wrong = {
        (*place, reason) for *place, reason, _, _, _, _ in rows if must.get(tuple(place), reason) != reason
    }
    if wrong:
        yield Violation("dead letters", f"{len(wrong)} for another reason, such as {sorted(wrong)[:_SHOWN]}")
    for stage in ("aggregate", "sink"):
        of_stage = {tuple(row[:3]) for row in rows if row[4] == stage}
        if missing := sorted(set(must) - of_stage):
            yield Violation(
                "dead letters", f"{len(missing)} unnoticed by {stage}, such as {missing[:_SHOWN]}"
            )


_WINDOWS = """
SELECT *, toUnixTimestamp64Micro(window_start) AS start_us, toUnixTimestamp64Micro(window_end) AS end_us
FROM windows_between(since = '2000-01-01', until = '2200-01-01') WHERE window != '1d' AND phase != 'early'
"""


def _windows(client: Any, run: Run) -> Iterator[Violation]:
    # What ends in the last ten seconds before the end of the stream is closed with it or not at all.
    must = dict(truths.windows(run.truth, run.end_us // 10_000_000 * 10_000_000 - 10_000_000))
    exact = {w: counts for w, counts in must.items() if not truths.is_long_past(w, run.app.start_us)}
    stands = {}
    unsettled = []
    final_us = run.end_us - run.settings.allowed_lateness_us - 10_000_000
    late = by_window = 0
    for row in client.query(_WINDOWS).named_results():
        dimensions = ROLLUPS[row["rollup"]]
        window = (row["rollup"], row["window"], row["start_us"], tuple(row[d] for d in dimensions))
        stands[window] = _counts(row)
        if row["end_us"] <= final_us and row["phase"] != "final":
            unsettled.append(window)
        if row["rollup"] == "release" and row["window"] == "10s" and row["deployment"] == LONG_PAST:
            by_window += row["calls"]
            late += row["late"]
    if absent := sorted(set(exact) - set(stands)):
        yield Violation("windows", f"{len(absent)} absent, such as {absent[:_SHOWN]}")
    if unsettled:
        yield Violation("windows", f"{len(unsettled)} not final, such as {unsettled[:_SHOWN]}")
    wrong = sorted(window for window, counts in exact.items() if stands.get(window, counts) != counts)
    if wrong:
        shown = [
            (w, dict(zip(COUNTS, zip(exact[w], stands[w], strict=True), strict=True))) for w in wrong[:2]
        ]
        yield Violation("windows", f"{len(wrong)} of {len(exact)} differ (truth, row), such as {shown}")
    sent = sum(e.deployment == LONG_PAST for e, _ in run.truth.of(CALLS).values())
    if late + by_window != sent:
        yield Violation("late", f"{sent} calls from long ago, {by_window} in windows and {late} late")


def _counts(row: dict[str, Any]) -> tuple[int, ...]:
    rated = {f"evaluations_{name}": sum(e[name] for e in row["evaluations"]) for name in ("n", "passed")}
    rated |= {f"feedback_{name}": sum(f[name] for f in row["feedback"]) for name in ("n", "positive")}
    return tuple(int(rated[name] if name in rated else row[name]) for name in COUNTS)


def _ledger(client: Any, run: Run) -> Iterator[Violation]:
    rows = [row for row in ledger.ledger(client, 0, 0) if row.producer_id]
    for row in rows:
        if row.app == doomed.APP:
            # Nobody knows what was left in its queue; what came is counted.
            whose = [
                event for event, _ in run.truth.of(CALLS).values() if event.producer_id == row.producer_id
            ]
            if row.final or row.stored != len(whose):
                yield Violation("ledger", f"{len(whose)} calls are in the log: {row}")
        elif not (row.balanced and row.final) or row.missing or row.in_flight or row.failed or row.refused:
            yield Violation("ledger", str(row))
    accepted = sum(row.accepted for row in rows if row.app != doomed.APP)
    if accepted != run.app.emitted.events:
        yield Violation(
            "ledger", f"{run.app.emitted.events} events were emitted, {accepted} are accounted for"
        )


def _commands(settings: Settings) -> list[DeploymentCommand]:
    return [r for _, r in scan.records(settings, DEPLOYMENTS, timeout_seconds=60) if r is not None]


def _decisions(client: Any, run: Run) -> Iterator[Violation]:
    by_revision: dict[tuple[str, int], DeploymentCommand] = {}
    for command in _commands(run.settings):
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


def _replay(client: Any, run: Run) -> Iterator[Violation]:
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
    for command in _commands(run.settings):
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


def _versions(run: Run) -> Iterator[Violation]:
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
