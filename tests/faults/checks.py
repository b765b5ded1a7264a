"""The invariants: what stands after a run, compared with the truth, exactly."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from tests.faults import doomed
from tests.faults import windows as anew
from tests.faults.decisions import commands, decided, replayed, versions
from tests.faults.findings import Run, Violation
from tests.faults.operator import unequal_effects
from tests.faults.traffic import LONG_PAST, Place
from tests.faults.truth import TABLES

from tidegate.errors import DependencyUnavailable
from tidegate.series import ROLLUPS
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra import ledger
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.kafka import lag
from tidegate_infra.settings import Settings

_SHOWN = 5


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
    waiting = {c.command_id for c in commands(run.settings)} - set(run.delivered())
    return f"{len(waiting)} commands are not delivered" if waiting else ""


def violations(run: Run) -> Iterator[Violation]:
    """Check every invariant of what stands."""
    yield from (Violation("confirmed", what) for what in run.truth.unexplained)
    yield from (Violation("actions", what) for what in unequal_effects(run.settings, run.asked))
    with closing(connect(run.settings, readonly=True)) as client:
        yield from _facts(client, run)
        yield from _windows(client, run)
        yield from _ledger(client, run)
        yield from decided(client, run)
        yield from replayed(client, run)
    yield from versions(run)


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


_COMPARED = {
    CALLS: ("seq", "variant", "status", "outcome", "input_tokens", "output_tokens", "server_address"),
    FEEDBACK: ("seq", "name", "value", "comment"),
    EVALUATIONS: ("seq", "name", "passed", "explanation"),
}
"""Topic -> fields of which every row has the value that was sent."""


def _facts(client: Any, run: Run) -> Iterator[Violation]:
    for topic, table in TABLES.items():
        must = run.truth.of(topic)
        rows = client.query(
            "SELECT _partition, _offset, event_id, toUnixTimestamp64Micro(ts), "
            f"{', '.join(_COMPARED[topic])} FROM {table}"
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
            and fields != [event[0].event_id, event[1], *(getattr(event[0], f) for f in _COMPARED[topic])]
        ]
        if wrong:
            yield Violation("stored once", f"{table}: {len(wrong)} rows differ, such as {wrong[:_SHOWN]}")
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
    must = dict(anew.recomputed(run.truth, run.end_us // 10_000_000 * 10_000_000 - 10_000_000))
    exact = {w: content for w, content in must.items() if not anew.is_long_past(w, run.app.start_us)}
    stands = {}
    unsettled = []
    final_us = run.end_us - run.settings.allowed_lateness_us - 10_000_000
    late = by_window = 0
    for row in client.query(_WINDOWS).named_results():
        dimensions = ROLLUPS[row["rollup"]]
        window = (row["rollup"], row["window"], row["start_us"], tuple(row[d] for d in dimensions))
        stands[window] = anew.stored(row)
        if row["end_us"] <= final_us and row["phase"] != "final":
            unsettled.append(window)
        if row["rollup"] == "release" and row["window"] == "10s" and row["deployment"] == LONG_PAST:
            by_window += row["calls"]
            late += row["late"]
    if absent := sorted(set(exact) - set(stands)):
        yield Violation("windows", f"{len(absent)} absent, such as {absent[:_SHOWN]}")
    if unsettled:
        yield Violation("windows", f"{len(unsettled)} not final, such as {unsettled[:_SHOWN]}")
    wrong = sorted(window for window, content in exact.items() if stands.get(window, content) != content)
    if wrong:
        shown = [(window, exact[window].differences(stands[window])) for window in wrong[:2]]
        yield Violation("windows", f"{len(wrong)} of {len(exact)} differ (truth, row), such as {shown}")
    sent = sum(e.deployment == LONG_PAST for e, _ in run.truth.of(CALLS).values())
    if late + by_window != sent:
        yield Violation("late", f"{sent} calls from long ago, {by_window} in windows and {late} late")


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
