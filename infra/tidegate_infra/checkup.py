"""Is everything reachable, compatible and balanced: one finding a question, with what to do about it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as StoreError

from tidegate.errors import TidegateError
from tidegate_infra import document, ledger, process
from tidegate_infra.clickhouse import client, migrations
from tidegate_infra.kafka import lag, requeue, scan, topics
from tidegate_infra.settings import Settings

Verdict = Literal["ok", "warn", "fail"]

_MOST_LAG = 10_000
_MOST_SKEW_SECONDS = 1.0
_LEAST_FREE = {"fail": 0.05, "warn": 0.15}
_LEDGER_OF = timedelta(days=1)
_LOST = """SELECT topic, sum(last_offset - first_offset + 1), max(noted_ts) FROM log_losses
GROUP BY topic ORDER BY topic"""
_SET_ASIDE = """SELECT count(), any(database || '.' || table || ': ' || name) FROM system.detached_parts
WHERE startsWith(reason, 'broken')"""
_NEEDED = frozenset({"aggregate", "stream", "sink"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What one question found.

    Parameters
    ----------
    question
        What was asked, in a word or two.
    verdict
        ``warn`` works and may not for long; ``fail`` does not work.
    words
        What was found.
    fix
        The command that helps; empty when nothing must be done.
    """

    question: str
    verdict: Verdict
    words: str
    fix: str = ""


def checkup(settings: Settings) -> Iterator[Finding]:
    """Ask every question; what depends on a server that is away is not asked.

    Parameters
    ----------
    settings
        Of the installation.
    """
    kafka = _guarded("kafka", "tidegate up", partial(_kafka, settings))
    yield kafka
    if kafka.verdict != "fail":
        yield _guarded("topics", "tidegate topic apply", partial(_topics, settings))
        for name in process.names():
            if name != "store":
                fix = f"tidegate run {name}"
                yield _guarded(f"process {name}", fix, partial(_group, settings, name, fix))
        yield _guarded("dead letters", "tidegate dlq list", partial(_dead_letters, settings))
    try:
        store = client.connect(settings, readonly=True)
    except TidegateError as error:
        yield Finding("store", "fail", str(error), "tidegate up")
        return
    with store:
        yield _guarded("store", "tidegate up", partial(_store, settings, store))
        yield _guarded("store's disk", "", partial(_disk, store))
        yield _guarded("store's parts", "", partial(_parts, store))
        tables = _guarded("tables", "tidegate migration up", partial(_tables, store))
        yield tables
        if tables.verdict == "ok":
            yield _guarded("ledger", "tidegate ledger", partial(_ledger, store))
            yield _guarded("losses", "", partial(_losses, store))


def _guarded(question: str, fix: str, ask: Callable[[], Finding]) -> Finding:
    try:
        return ask()
    except (TidegateError, StoreError) as error:
        return Finding(question, "fail", str(error), fix)


def _kafka(settings: Settings) -> Finding:
    began = time.monotonic()
    scan.check_answers(settings)
    milliseconds = (time.monotonic() - began) * 1_000
    return Finding("kafka", "ok", f"{settings.kafka} answers in {milliseconds:.0f} ms")


def _topics(settings: Settings) -> Finding:
    changes = topics.plan(settings)
    if not changes:
        return Finding("topics", "ok", "as the topic table says")
    refused = [change for change in changes if change.kind == "refuse"]
    if refused:
        return Finding(
            "topics", "fail", f"{refused[0]}; a topic keeps its partitions for life", "tidegate topic plan"
        )
    missing = [change for change in changes if change.kind == "create"]
    words = f"{len(missing)} missing, {len(changes) - len(missing)} configured otherwise"
    return Finding("topics", "fail" if missing else "warn", words, "tidegate topic apply")


def _group(settings: Settings, name: str, fix: str) -> Finding:
    question = f"process {name}"
    found = lag.groups(settings, _channels(settings) if name == "notify" else [name])
    group = lag.Group(name, min(one.members for one in found), max(one.lag for one in found))
    if name == "notify" and not (group.members or group.lag or settings.webhook_url or settings.channels):
        return Finding(question, "ok", "idle: no webhook and no channels are named, so nothing is delivered")
    if not group.members:
        verdict: Verdict = "fail" if name in _NEEDED else "warn"
        return Finding(question, verdict, f"none runs; {group.lag} messages behind", fix)
    running = f"{group.members} run{'s' * (group.members == 1)}"
    if group.lag > _MOST_LAG:
        return Finding(question, "warn", f"{running}, {group.lag} messages behind", fix)
    return Finding(question, "ok", f"{running}, {group.lag} messages behind")


def _channels(settings: Settings) -> list[str]:
    """Return the groups of notify: one for each channel."""
    names = ["notify"] if settings.webhook_url or not settings.channels else []
    if settings.channels:
        _, root = document.compose(
            document.read(settings.channels), str(settings.channels), "`kind: Channels`"
        )
        listed = root.section().take("channels")
        names += [f"notify.{name}" for name, _ in listed.section()] if listed else []
    return names or ["notify"]


def _dead_letters(settings: Settings) -> Finding:
    # Offsets would count marks, and copies of a letter.
    count = sum(not one.requeued for one in requeue.standing(settings))
    if count:
        return Finding("dead letters", "warn", f"{count} were not put back", "tidegate dlq list")
    return Finding("dead letters", "ok", "none that were not put back")


def _store(settings: Settings, store: Client) -> Finding:
    began = time.time()
    version, theirs = store.query("SELECT version(), toFloat64(now64(6))").result_rows[0]
    ours = (began + time.time()) / 2
    skew_seconds = float(theirs) - ours
    words = f"{settings.clickhouse} is ClickHouse {version}, its clock {skew_seconds:+.2f} s from ours"
    if abs(skew_seconds) > _MOST_SKEW_SECONDS:
        return Finding("store", "warn", words, "chronyc makestep")
    return Finding("store", "ok", words)


def _disk(store: Client) -> Finding:
    shares = store.query("SELECT name, free_space / total_space FROM system.disks WHERE total_space > 0")
    name, free = min(shares.result_rows, key=lambda row: row[1])
    verdict: Verdict = next((v for v in ("fail", "warn") if free < _LEAST_FREE[v]), "ok")
    fix = "" if verdict == "ok" else "shorten the retention of tables (docs/keeping.md), or add disk"
    return Finding("store's disk", verdict, f"{free:.0%} of disk {name} is free", fix)


def _parts(store: Client) -> Finding:
    count, one = store.query(_SET_ASIDE).result_rows[0]
    if not count:
        return Finding("store's parts", "ok", "none was set aside")
    words = f"{count} could not be read and were set aside, one is {one}"
    return Finding("store's parts", "warn", words, "docs/keeping.md says what that means")


def _tables(store: Client) -> Finding:
    states = migrations.status(store)
    wrong = [one for one in states if one.state != "applied"]
    if wrong:
        words = ", ".join(f"{one.number:04}_{one.name} is {one.state}" for one in wrong)
        return Finding("tables", "fail", words, "tidegate migration up")
    return Finding("tables", "ok", f"{len(states)} migrations are applied")


def _ledger(store: Client) -> Finding:
    rows = ledger.ledger(store, since=datetime.now(UTC) - _LEDGER_OF)
    open_rows = [row for row in rows if not row.balanced]
    if open_rows:
        words = f"{len(open_rows)} of {len(rows)} producers do not balance"
        return Finding("ledger", "fail", words, "tidegate ledger")
    return Finding("ledger", "ok", f"{len(rows)} producers of the last day balance")


def _losses(store: Client) -> Finding:
    rows = store.query(_LOST).result_rows
    if not rows:
        return Finding("losses", "ok", "retention took nothing that was not stored")
    words = ", ".join(f"{n:,} offsets of {topic}, last noted {at:%Y-%m-%d %H:%M}" for topic, n, at in rows)
    return Finding("losses", "warn", f"retention took {words}: docs/ledger.md says what that means")
