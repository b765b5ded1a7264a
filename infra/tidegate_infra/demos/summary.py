"""What came of a demo: asked of the log and of the store, never of the player's own plans."""

import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.records import DeploymentCommand, Rollout, RolloutProgress
from tidegate.series import deployment_key
from tidegate.topics import DEPLOYMENTS
from tidegate_infra import ledger, rollout_file, rollout_log
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.demos.app import Played
from tidegate_infra.demos.receiver import Deliveries
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.end_of_stream import end_stream
from tidegate_infra.settings import Settings

_SETTLE_SECONDS = 60.0
_DECISIONS = ("rollback", "promote")

_NEXT = (
    "rollout show {rollout}",
    "deployment log",
    "ledger",
    "sql 'SELECT * FROM variant_health'",
)

QUERIES = {
    "What did each variant do while they were compared?": """
SELECT variant, count() AS calls, countIf(outcome = 'answered') AS answered,
       round(quantileExact(0.5)(latency_us) / 1e6, 2) AS p50_s, sum(cost_usd) AS cost_usd
FROM calls WHERE comparable AND assignment_reason = 'split'
GROUP BY variant ORDER BY variant""",
    "What was commanded, and when in event time?": """
SELECT revision, action, state, ts, length(evidence) AS metrics FROM deployment_commands ORDER BY revision""",
    "What do the five minutes with most calls look like?": """
SELECT window_start, variant, calls, outcome_abstained AS abstained, input_tokens, cost_usd
FROM windows_between(since = '2000-01-01', until = '2200-01-01')
WHERE rollup = 'release' AND window = '5m' ORDER BY calls DESC, window_start, variant LIMIT 4""",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """How a demo ended.

    Parameters
    ----------
    ok
        All that was expected came: the end of the rollout, a balanced ledger, a verified webhook.
    lines
        The same for a person.
    """

    ok: bool
    lines: list[str]


def summarise(
    settings: Settings, spec_file: Path, ends: str, played: Played, deliveries: Deliveries
) -> Summary:
    """Close the stream, wait until everything has settled, and compare with what was expected.

    Parameters
    ----------
    settings
        Of the stack.
    spec_file
        The rollout that was applied.
    ends
        State in which it must end.
    played
        What the app did.
    deliveries
        What the receiver of webhooks got.
    """
    spec = rollout_file.read(spec_file)
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    last_us = max(call.ts_end for call in played.calls)
    end_stream(settings, last_us + settings.allowed_lateness_us + 60_000_000)
    client = connect(settings, readonly=True)

    def commands() -> list[DeploymentCommand]:
        found = {r.revision: r for _, r in scan.records(settings, DEPLOYMENTS) if r is not None}
        return [found[revision] for revision in sorted(found)]

    def decision() -> DeploymentCommand | None:
        return next((c for c in reversed(commands()) if c.action in _DECISIONS), None)

    settled = _within(
        _SETTLE_SECONDS,
        lambda: (
            (present := rollout_log.progress(settings).get(key)) is not None
            and present.state == ends
            and (made := decision()) is not None
            and made.command_id in deliveries.verified
            and _closed(ledger.ledger(client), played)
        ),
    )
    progress, made = rollout_log.progress(settings).get(key), decision()
    lines = [
        *_calls(client, played),
        *_ledger(client),
        *_decision(spec, progress, made, commands(), client, played),
        *_webhooks(deliveries, made),
        *_answers(client),
        "",
        "Where to look next (while the stack runs):",
        *(
            f"  tidegate --data-dir {settings.data_dir} {command.format(rollout=spec.name)}"
            for command in _NEXT
        ),
    ]
    if not settled:
        lines += [
            "",
            f"NOT AS EXPECTED within {_SETTLE_SECONDS:.0f} s: {ends} should stand above, all balanced.",
        ]
    return Summary(settled, lines)


def _closed(rows: list[ledger.LedgerRow], played: Played) -> bool:
    """Say whether every call of the app and its check stand in the store, and every producer told its end."""
    stored = sum(row.stored for row in rows)
    return stored == 2 * len(played.calls) and all(
        row.final and row.balanced and not row.in_flight for row in rows
    )


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _calls(client: Any, played: Played) -> Iterator[str]:
    stored = client.query("SELECT count(), uniqExact(event_id) FROM calls").first_row
    yield ""
    yield f"calls      {len(played.calls)} emitted, {stored[0]} rows stored, {stored[1]} distinct"


def _ledger(client: Any) -> Iterator[str]:
    for row in ledger.ledger(client):
        yield (
            f"ledger     accepted {row.accepted} = stored {row.stored} + duplicate {row.duplicate} + "
            f"dead-lettered {sum(row.dead_lettered.values())} + in flight {row.in_flight}: "
            f"{'balanced' if row.balanced else 'NOT BALANCED'}{'' if row.final else ', account still open'}"
        )


def _decision(
    spec: Rollout,
    progress: RolloutProgress | None,
    made: DeploymentCommand | None,
    commands: list[DeploymentCommand],
    client: Any,
    played: Played,
) -> Iterator[str]:
    yield f"rollout    {spec.name}: {progress.state if progress else 'no progress was published'}"
    if made is None:
        return
    start = next(c for c in commands if c.generation == made.generation)
    seconds = (made.ts - start.ts) / 1e6
    calls, by_candidate = client.query(
        "SELECT count(), countIf(variant IN {candidates:Array(String)}) FROM calls "
        "WHERE assignment_reason = 'split' AND ts < fromUnixTimestamp64Micro({until:Int64})",
        parameters={
            "candidates": [v.name for v in spec.variants if v.role == "candidate"],
            "until": made.ts,
        },
    ).first_row
    yield (
        f"decision   {made.action} (revision {made.revision}) {seconds:.0f} s of event time after the start, "
        f"after {calls} compared calls, {by_candidate} of them by the candidate"
    )
    yield from _paragraph("because    ", made.reason)
    obeyed = played.calls_before.get(made.revision)
    if obeyed is None:
        yield "router     had finished before the decision"
    else:
        yield f"router     obeyed revision {made.revision} from call {obeyed + 1} on, of {len(played.calls)}"


def _paragraph(head: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 110, initial_indent=head, subsequent_indent=" " * len(head))


def _webhooks(deliveries: Deliveries, made: DeploymentCommand | None) -> Iterator[str]:
    signed = (
        "among them the decision" if made and made.command_id in deliveries.verified else "NOT the decision"
    )
    yield (
        f"webhooks   {len(deliveries.verified)} delivered with a valid signature, {signed}; "
        f"{deliveries.refused} refused"
    )


def _answers(client: Any) -> Iterator[str]:
    for question, query in QUERIES.items():
        result = client.query(query)
        rows = [list(result.column_names), *([str(value) for value in row] for row in result.result_rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(result.column_names))]
        yield ""
        yield f"-- {question}"
        yield from query.strip().splitlines()
        yield from (
            "  " + "  ".join(v.ljust(w) for v, w in zip(r, widths, strict=True)).rstrip() for r in rows
        )
