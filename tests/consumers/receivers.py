"""Receivers as their owners publish them: what each refuses, and what it answers."""

import json
import re
import threading
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + "A" * 32
ROUTING_KEY = "R" * 32

Fault = str
"""Why a request is refused; empty when it is taken."""


def slack(_headers: dict[str, str], body: bytes) -> Fault:
    """Incoming webhook: fallback text, at most 50 blocks, texts of limited length, `&<>` escaped."""
    message = json.loads(body)
    blocks = message.get("blocks", [])
    if not message.get("text") or not 1 <= len(blocks) <= 50:
        return "no_text"
    if sum(len(json.dumps(one, ensure_ascii=False)) for one in blocks) > 13_000:
        return "msg_blocks_too_long"
    texts = [message["text"]]
    for one in blocks:
        fields, text = one.get("fields", []), one.get("text")
        match one["type"]:
            case "header":
                if text["type"] != "plain_text" or not 1 <= len(text["text"]) <= 150:
                    return "invalid_blocks: header"
            case "section":
                if (text is None) == (not fields) or len(fields) > 10:
                    return "invalid_blocks: section"
                if text and not 1 <= len(text["text"]) <= 3_000:
                    return "invalid_blocks: section text"
                if any(not 1 <= len(field["text"]) <= 2_000 for field in fields):
                    return "invalid_blocks: field"
                texts += [field["text"] for field in fields] + ([text["text"]] if text else [])
            case "context":
                link = r"<https?://[^|>]+\|\w+>"
                if not 1 <= len(one["elements"]) <= 10:
                    return "invalid_blocks: context"
                if any(not re.fullmatch(rf"{link}( · {link})*", e["text"]) for e in one["elements"]):
                    return "a label became markup"
            case kind:
                return f"invalid_blocks: {kind}"
    if any(re.search(r"[<>]|&(?!amp;|lt;|gt;)", text) for text in texts):
        return "a label became markup"
    return ""


def pagerduty(_headers: dict[str, str], body: bytes) -> Fault:
    """Events API v2: 512 kB, a routing key of 32, a dedup key of 255, a summary of 1,024, four severities."""
    event = json.loads(body)
    if len(body) > 512_000:
        return "Length of event is too long"
    if not re.fullmatch(r"[A-Za-z0-9]{32}", event.get("routing_key", "")):
        return "'routing_key' is invalid"
    if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        return "'event_action' is invalid"
    if not 1 <= len(event.get("dedup_key", "")) <= 255:
        return "'dedup_key' is invalid"
    if event["event_action"] == "trigger":
        payload = event["payload"]
        if not 1 <= len(payload["summary"]) <= 1_024 or not payload["source"]:
            return "'payload' is invalid"
        if payload["severity"] not in ("critical", "error", "warning", "info"):
            return "'severity' is invalid"
        datetime.fromisoformat(payload["timestamp"])
        if any(set(link) != {"href", "text"} for link in event.get("links", [])):
            return "'links' is invalid"
    return ""


def alertmanager(_headers: dict[str, str], body: bytes) -> Fault:
    """API v2: an array of alerts with labels of the grammar, none empty, no end before the beginning."""
    for alert in json.loads(body):
        if not alert["labels"]:
            return "at least one label pair required"
        for name, value in [*alert["labels"].items(), *alert.get("annotations", {}).items()]:
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or not isinstance(value, str) or not value:
                return f"invalid label set: {name}"
        if datetime.fromisoformat(alert["startsAt"]) > datetime.fromisoformat(alert["endsAt"]):
            return "start time must be before end time"
    return ""


def teams(_headers: dict[str, str], body: bytes) -> Fault:
    """Workflow webhook: 28 kB, one Adaptive Card, no empty text, no link that a label wrote."""
    if len(body) > 28_000:
        return "RequestEntityTooLarge"
    message = json.loads(body)
    [attachment] = message["attachments"]
    card = attachment["content"]
    if (message["type"], attachment["contentType"]) != ("message", "application/vnd.microsoft.card.adaptive"):
        return "no card"
    if (card["type"], card["version"]) != ("AdaptiveCard", "1.4"):
        return "no card of a version that Teams shows"
    if any(part["type"] not in ("TextBlock", "FactSet") for part in card["body"]):
        return "unknown part"
    if any(part["type"] == "TextBlock" and not part["text"] for part in card["body"]):
        return "empty text"
    if any(not action["url"].startswith("https://") for action in card["actions"]):
        return "no link"
    return "a label became a link" if "](" in json.dumps(card["body"]) else ""


def webhook(headers: dict[str, str], body: bytes) -> Fault:
    """Standard Webhooks: a signature of the id, the time and the body; at most 20 kB."""
    try:
        said = Webhook(SECRET).verify(body, headers)
    except WebhookVerificationError as error:
        return str(error)
    return "" if set(said) == {"type", "timestamp", "data"} and len(body) <= 20_000 else "unknown body"


RULES: dict[str, tuple[Callable[[dict[str, str], bytes], Fault], int, bytes]] = {
    "slack": (slack, 200, b"ok"),
    "pagerduty": (pagerduty, 202, b'{"status":"success","message":"Event processed","dedup_key":"x"}'),
    "alertmanager": (alertmanager, 200, b""),
    "teams": (teams, 202, b""),
    "webhook": (webhook, 204, b""),
}
"""Kind -> what it checks, and how it answers what it takes; 400 with words is for the rest."""


class Strict:
    """A receiver of a kind on loopback that refuses what its owner would.

    Parameters
    ----------
    kind
        One of `RULES`.
    """

    def __init__(self, kind: str) -> None:
        self.taken: list[Any] = []
        self.refused: list[str] = []
        check, status, words = RULES[kind]
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                try:
                    fault = check({name.lower(): text for name, text in self.headers.items()}, body)
                except (ValueError, KeyError, TypeError) as error:
                    fault = f"{type(error).__name__} {error}"
                if self.headers["content-type"] != "application/json":
                    fault = "no JSON"
                (receiver.refused if fault else receiver.taken).append(fault or json.loads(body))
                answer = fault.encode() if fault else words
                self.send_response(400 if fault else status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
