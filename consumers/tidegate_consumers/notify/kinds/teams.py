"""Microsoft Teams: the webhook of a workflow, which takes an Adaptive Card of at most 28 kB."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.notice import Notice, cut, notice_of
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request, to_json

LONGEST_BODY_BYTES = 28_000

_COLOURS = {"critical": "Attention", "error": "Attention", "warning": "Warning", "info": "Accent"}
_SIZES = (4_000, 2_000, 1_000, 500, 200, 100, 50, 25)
_MOST_FACTS = 20


def requests(channel: Channel, parcel: Parcel, _now: datetime) -> Sequence[Request]:
    """Return one card, its texts cut until it fits."""
    notice = notice_of(parcel)
    bodies = (to_json(_message(notice, most)) for most in _SIZES)
    body = next(body for body in bodies if len(body) <= LONGEST_BODY_BYTES)
    return [Request(url=channel.url, body=body, doubt=doubt)]


def doubt(status: int, body: bytes) -> str:
    """A workflow answers 202 without a word; a failure behind it has been answered 200 with words."""
    return "" if status == 202 or body.strip() in (b"", b"1") else "but not as a workflow that has begun"


def _message(notice: Notice, most: int) -> dict[str, Any]:
    colour = "Good" if notice.status == "resolved" else _COLOURS[notice.severity]
    body: list[dict[str, Any]] = [
        _text(cut(notice.title, most), weight="Bolder", size="Medium", style="heading", color=colour)
    ]
    body += [_text(cut(text, most)) for text in notice.text]
    facts = [
        {"title": _plain(cut(name, most)), "value": _plain(cut(value, most))}
        for name, value in notice.facts[-_MOST_FACTS:]
    ]
    body.append({"type": "FactSet", "facts": facts})
    links = (("Runbook", notice.runbook), ("Source", notice.source))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": [{"type": "Action.OpenUrl", "title": title, "url": url} for title, url in links if url],
        "msteams": {"width": "full"},
    }
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "attachments": [attachment]}


def _text(text: str, **style: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": _plain(text), "wrap": True, **style}


def _plain(text: str) -> str:
    """Take the sense out of Markdown's links: a label must not lead a reader anywhere."""
    return text.replace("[", "(").replace("]", ")").replace("\n", "\n\n")
