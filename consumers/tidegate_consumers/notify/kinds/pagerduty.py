"""PagerDuty, Events API v2: an alert is an incident by its fingerprint, opened once and closed once."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.notice import Notice, cut, moment, notice_of
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request, to_json

URL = "https://events.pagerduty.com/v2/enqueue"
LONGEST_BODY_BYTES = 512_000
LONGEST_KEY = 255
LONGEST_SUMMARY = 1_024

_LONGEST_DETAIL = 300
_LONGEST_TEXT = 5_000
_MOST_DETAILS = 50
_SOURCE = "tidegate"
_NAMES = frozenset({"source", "component", "group", "class"})


def requests(channel: Channel, parcel: Parcel, _now: datetime) -> Sequence[Request]:
    """Return an event for each incident that opens or closes: one for a group, however many it has."""
    events = []
    # A group stays open while one of its members fires.
    if parcel.group and (parcel.alerts[0].status == "firing" or not parcel.left):
        events.append(_event(channel, parcel, parcel.group))
    if not parcel.group or parcel.assumed:
        events += [_event(channel, Parcel(records=(alert,)), alert.fingerprint) for alert in parcel.alerts]
    return events


def doubt(status: int, body: bytes) -> str:
    """PagerDuty answers 202 and ``{"status": "success"}`` when it has taken an event."""
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if status == 202 and isinstance(said, dict) and said.get("status") == "success":
        return ""
    return "but not with the success that PagerDuty says"


def _event(channel: Channel, parcel: Parcel, key: str) -> Request:
    notice = notice_of(parcel)
    event: dict[str, Any] = {
        "routing_key": channel.secrets[0],
        "event_action": "resolve" if notice.status == "resolved" else "trigger",
        "dedup_key": cut(key, LONGEST_KEY),
    }
    if event["event_action"] == "trigger":
        event |= {"client": "Tidegate", "payload": _payload(parcel, notice), "links": _links(notice)}
    return Request(url=channel.url, body=to_json(event), doubt=doubt)


def _payload(parcel: Parcel, notice: Notice) -> dict[str, Any]:
    alert = parcel.alerts[0]
    labels = {pair.key: pair.value for pair in alert.labels}
    said = "" if parcel.group or not notice.text else f": {notice.text[0]}"
    details = {
        cut(name, _LONGEST_DETAIL): cut(value, _LONGEST_DETAIL)
        for name, value in notice.facts[:_MOST_DETAILS]
    }
    payload: dict[str, Any] = {
        "summary": cut(notice.title + said.replace("\n", " "), LONGEST_SUMMARY),
        "source": labels.get("deployment") or labels.get("app") or labels.get("process") or _SOURCE,
        "severity": notice.severity,
        "timestamp": moment(notice.ts_us),
        "component": labels.get("deployment") or labels.get("topic") or "",
        "group": alert.tenant,
        "class": alert.rule,
        "custom_details": details | {"text": cut("\n\n".join(notice.text), _LONGEST_TEXT)},
    }
    return {
        name: cut(value, _LONGEST_DETAIL) if name in _NAMES else value
        for name, value in payload.items()
        if value
    }


def _links(notice: Notice) -> list[dict[str, str]]:
    links = (("Runbook", notice.runbook), ("Source", notice.source))
    return [{"href": url, "text": text} for text, url in links if url]
