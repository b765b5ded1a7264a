"""Slack: an incoming webhook, which takes blocks and answers ``ok``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.notice import Notice, cut, notice_of
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request, to_json

LONGEST_HEADER = 150
LONGEST_SECTION = 3_000
LONGEST_FIELD = 2_000
MOST_FIELDS = 10
MOST_BLOCKS = 50
LONGEST_BLOCKS = 12_000
"""Characters of all blocks; above some 13,000 Slack refuses a message whose every block is right."""

_SIGNS = {"critical": "🔴", "error": "🟠", "warning": "🟡", "info": "🔵"}
_LONGEST_TEXT = 2_500
_LONGEST_FACT = 200


def requests(channel: Channel, parcel: Parcel, _now: datetime) -> Sequence[Request]:
    """Return one message."""
    notice = notice_of(parcel)
    payload = {
        "text": _escaped(f"{_sign(notice)} {notice.title}", LONGEST_SECTION),
        "blocks": _blocks(notice),
    }
    return [Request(url=channel.url, body=to_json(payload), doubt=doubt)]


def doubt(_status: int, body: bytes) -> str:
    """Slack says ``ok``, and nothing else, when it has taken a message."""
    return "" if body.strip() == b"ok" else "but not with the ok that Slack says"


def _blocks(notice: Notice) -> list[dict[str, Any]]:
    title = cut(f"{_sign(notice)} {notice.title}", LONGEST_HEADER)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": True}}
    ]
    blocks += [
        {"type": "section", "text": _markdown(_escaped(text, _LONGEST_TEXT))} for text in notice.text if text
    ]
    fields = [
        _markdown(f"*{_escaped(name, _LONGEST_FACT)}*\n{_escaped(value, _LONGEST_FACT)}")
        for name, value in notice.facts
        if value
    ]
    # The last facts say when and which: they are never the ones that are left out.
    if fields:
        kept = fields[: MOST_FIELDS - 3] + fields[MOST_FIELDS - 3 :][-3:]
        blocks.append({"type": "section", "fields": kept})
    links = [
        f"<{_escaped(url, LONGEST_FIELD)}|{name}>"
        for name, url in (("runbook", notice.runbook), ("source", notice.source))
        if url
    ]
    if links:
        blocks.append({"type": "context", "elements": [_markdown(" · ".join(links))]})
    return blocks


def _sign(notice: Notice) -> str:
    return {"resolved": "✅", "command": "🚦"}.get(notice.status) or _SIGNS[notice.severity]


def _markdown(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _escaped(text: str, most: int) -> str:
    """Cut a text and escape it: `<!channel>` in somebody's label must not call everybody."""
    for keep in range(most, 0, -max(1, most // 20)):
        escaped = cut(text, keep).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        if len(escaped) <= most:
            return escaped
    return "…"
