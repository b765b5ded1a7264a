"""From the ledger's rows to alerts: one a tenant and app whose events are nowhere. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tidegate.records import Alert, KeyValue
from tidegate.records.alert import fingerprint
from tidegate_infra.ledger import LedgerRow

RULE = "ledger_unbalanced"

_SHOWN = 5
"""Producers that an alert names."""


def published(alerts: Iterable[Alert]) -> dict[str, Alert]:
    """Return the last change of each of our alerts, whoever published it, by fingerprint."""
    last: dict[str, Alert] = {}
    for alert in alerts:
        known = last.get(alert.fingerprint)
        if alert.rule == RULE and (known is None or alert.sequence > known.sequence):
            last[alert.fingerprint] = alert
    return last


def changes(rows: Iterable[LedgerRow], last: Mapping[str, Alert], now: datetime) -> list[Alert]:
    """Return the alerts that begin to fire, and those that are over.

    Parameters
    ----------
    rows
        The ledger by hour, hours long over.
    last
        What was published, by fingerprint. What fires already is not said again.
    now
        When this was found.

    Returns
    -------
    list of Alert
        Numbered: a change that two processes find has the same fingerprint and sequence.
    """
    missing: dict[tuple[str, str], list[LedgerRow]] = {}
    for row in rows:
        if row.missing:
            missing.setdefault((row.tenant, row.app), []).append(row)
    firing = {alert.fingerprint: alert for alert in (_alert(of, now) for of in missing.values())}
    begun = [alert for mark, alert in firing.items() if mark not in last or last[mark].status != "firing"]
    over = [
        replace(alert, status="resolved", ends_at=_us(now), ts=_us(now))
        for mark, alert in last.items()
        if alert.status == "firing" and mark not in firing
    ]
    for alert in (*begun, *over):
        before = last.get(alert.fingerprint)
        alert.sequence = 1 if before is None else before.sequence + 1
    return [*begun, *over]


def _alert(rows: Sequence[LedgerRow], now: datetime) -> Alert:
    """Say what is missing of one tenant and app."""
    tenant, app = rows[0].tenant, rows[0].app
    labels = {"rule": RULE, "tenant": tenant, "app": app}
    events = sum(row.missing for row in rows)
    producers = {row.producer_id: row for row in rows}
    names = ", ".join(sorted(producers)[:_SHOWN]) + (" and others" if len(producers) > _SHOWN else "")
    silent = sum(not row.final for row in producers.values())
    begin = min(row.hour for row in rows if row.hour is not None)
    summary = (
        f"{events} events that {len(producers)} producers of {app or 'an unknown app'} accepted are nowhere: "
        f"neither stored nor duplicates nor dead letters, nor said to have failed. First in the hour "
        f"{begin:%Y-%m-%dT%H:%MZ}; producers: {names}. {silent} of them gave no last account: what Kafka had "
        f"not confirmed to these may never have reached it. See tidegate ledger --by hour."
    )
    return Alert(
        fingerprint=fingerprint(labels),
        status="firing",
        rule=RULE,
        rule_hash=fingerprint({"rule": RULE}),
        severity="error",
        labels=[KeyValue(key=key, value=value) for key, value in sorted(labels.items())],
        annotations=[KeyValue(key="summary", value=summary)],
        starts_at=_us(begin),
        value=float(events),
        threshold=0.0,
        unit="events",
        sequence=0,
        tenant=tenant,
        ts=_us(now),
    )


def _us(time: datetime) -> int:
    return round(time.astimezone(UTC).timestamp() * 1_000_000)
