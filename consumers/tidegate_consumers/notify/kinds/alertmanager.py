"""Alertmanager, API v2: alerts with labels; it groups, inhibits and routes them itself."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tidegate.records import Alert
from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.notice import address, cut, moment, severity_of
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request, to_json

PATH = "/api/v2/alerts"
MOST_ALERTS = 64
"""Alerts of a request."""

LASTS_US = 24 * 3_600_000_000
"""How long an alert fires in Alertmanager when nothing more is heard of it: longer than we are away."""

_LONGEST_VALUE = 1_000
_NO_LABEL = re.compile(r"[^a-zA-Z0-9_]")


def requests(channel: Channel, parcel: Parcel, now: datetime) -> Sequence[Request]:
    """Return one array of alerts."""
    headers = {"authorization": f"Bearer {channel.secrets[0]}"} if channel.secrets else {}
    url = channel.url.rstrip("/") + PATH
    body = to_json([_alert(alert, now) for alert in parcel.alerts])
    return [Request(url=url, headers=headers, body=body, doubt=doubt)]


def doubt(status: int, body: bytes) -> str:
    """Alertmanager answers 200 without a word."""
    return "" if status == 200 and not body.strip() else "but not with the silence of an Alertmanager"


def _alert(alert: Alert, now: datetime) -> dict[str, Any]:
    # In Alertmanager an alert is its labels: what changes while it fires must not be among them.
    labels = {label_name(pair.key): pair.value for pair in alert.labels}
    labels |= {
        "alertname": alert.rule,
        "severity": severity_of(alert),
        "tenant": alert.tenant,
        "tidegate_fingerprint": alert.fingerprint,
        "dry_run": "true" if alert.dry_run else "",
    }
    annotations = {label_name(pair.key): pair.value for pair in alert.annotations}
    annotations["runbook_url"] = address(alert.runbook_url)
    # It refuses an end before the beginning, and takes one that is to come for firing.
    since = alert.starts_at
    now_us = round(now.timestamp() * 1_000_000)
    until = max(now_us, since) + LASTS_US if alert.ends_at is None else max(alert.ends_at, since)
    told: dict[str, Any] = {
        "labels": _filled(labels),
        "annotations": _filled(annotations),
        "startsAt": moment(since),
        "endsAt": moment(until),
    }
    if source := address(alert.generator_url):
        told["generatorURL"] = source
    return told


def label_name(name: str) -> str:
    """Return a name as the grammar of labels has it: letters, digits and underscores, no digit first."""
    name = _NO_LABEL.sub("_", name)
    return name if name and not name[0].isdigit() else f"_{name}"


def _filled(pairs: dict[str, str]) -> dict[str, str]:
    """Leave out what is empty: an empty label is none."""
    return {name: cut(value, _LONGEST_VALUE) for name, value in pairs.items() if value}
