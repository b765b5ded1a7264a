"""What a person should know: an alert fires once, resolves once, and a replay numbers it the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tidegate.records import Alert, DeploymentCommand, KeyValue
from tidegate.records.alert import fingerprint as fingerprint


@dataclass(slots=True)
class Alerts:
    """Which alerts fire, and how often each has changed."""

    firing: dict[str, Alert] = field(default_factory=dict)
    sequence: dict[str, int] = field(default_factory=dict)
    published: Mapping[str, Alert] = field(default_factory=dict)
    """The last record of alerts of which the journal may have deleted the first."""

    def remember(self, published: Iterable[Alert]) -> None:
        """Go on where the last record of each of these alerts stands."""
        for alert in published:
            self.sequence[alert.fingerprint] = alert.sequence
            if alert.status == "firing":
                self.firing[alert.fingerprint] = alert

    def number(self, alert: Alert) -> Alert | None:
        """Give an alert its sequence number; None when it says what is known already."""
        known = self.firing.get(alert.fingerprint)
        if (known is not None) == (alert.status == "firing"):
            return None
        alert.sequence = self.sequence.get(alert.fingerprint, 0) + 1
        last = self.published.get(alert.fingerprint)
        if last is not None and _follows(alert, last):
            alert.sequence = max(alert.sequence, last.sequence + 1)
        self.sequence[alert.fingerprint] = alert.sequence
        if alert.status == "firing":
            self.firing[alert.fingerprint] = alert
        else:
            del self.firing[alert.fingerprint]
        return alert


def _follows(alert: Alert, last: Alert) -> bool:
    """Whether it is later in event time than what was published last, and not the same once more."""
    return alert.ts > last.ts or (alert.ts == last.ts and last.status == "resolved" != alert.status)


def series_overflow(shard: str, tenant: str, *, pane_us: int, excess: int, cap: int) -> Alert:
    """More live series than the cap allows: what is above goes to one overflow series."""
    labels = {"rule": "series_overflow", "tenant": tenant, "shard": shard}
    return Alert(
        fingerprint=fingerprint(labels),
        status="firing",
        rule="series_overflow",
        rule_hash=fingerprint({"rule": "series_overflow", "threshold": str(cap)}),
        severity="warning",
        labels=[KeyValue(key=key, value=value) for key, value in sorted(labels.items())],
        annotations=[
            KeyValue(
                key="summary",
                value=f"Shard {shard} has more than {cap:,} live series in 10 s: {excess:,} went to the "
                f"series __overflow__. Look for a dimension that takes a new value with each call.",
            )
        ],
        starts_at=pane_us,
        value=float(cap + excess),
        threshold=float(cap),
        unit="series",
        sequence=0,
        tenant=tenant,
        ts=pane_us,
    )


def command_conflict(decided: DeploymentCommand, published: DeploymentCommand, summary: str) -> Alert:
    """Two commands for one revision: the one that was decided is not sent."""
    labels = {
        "rule": "command_conflict",
        "tenant": decided.tenant,
        "environment": decided.environment,
        "deployment": decided.deployment,
        "revision": str(decided.revision),
    }
    return Alert(
        fingerprint=fingerprint(labels),
        status="firing",
        rule="command_conflict",
        rule_hash=fingerprint({"rule": "command_conflict"}),
        severity="critical",
        labels=[KeyValue(key=name, value=value) for name, value in sorted(labels.items())],
        annotations=[KeyValue(key="summary", value=summary)],
        starts_at=decided.ts,
        cause_id=published.command_id,
        sequence=1,
        tenant=decided.tenant,
        ts=decided.ts,
    )


def resolved(alert: Alert, at_us: int) -> Alert:
    """The same alert, over since `at_us`."""
    return Alert(
        fingerprint=alert.fingerprint,
        status="resolved",
        rule=alert.rule,
        rule_hash=alert.rule_hash,
        severity=alert.severity,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=alert.starts_at,
        ends_at=at_us,
        value=alert.value,
        threshold=alert.threshold,
        unit=alert.unit,
        sequence=0,
        tenant=alert.tenant,
        ts=at_us,
        dry_run=alert.dry_run,
    )
