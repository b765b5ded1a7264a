"""What a person reads of a parcel, in every channel the same: a title, sentences, facts and a runbook."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tidegate.records import Alert, DeploymentCommand
from tidegate_consumers.notify.parcel import Parcel

MOST_MEMBERS = 10
"""Members of a group that are named."""

SEVERITIES = ("critical", "error", "warning", "info")
"""From the worst on; what we do not know is an error."""

_LONGEST_MEMBER = 200
_LONGEST_ADDRESS = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A parcel in words.

    Parameters
    ----------
    status
        ``firing``, ``resolved`` or ``command``.
    severity
        Of the worst record.
    title
        One line.
    text
        Paragraphs; one may have several lines.
    facts
        Name and value, such as labels.
    runbook, source
        Addresses, if there are any.
    ts_us
        When it began, in microseconds since the epoch.
    """

    status: str
    severity: str
    title: str
    text: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    runbook: str = ""
    source: str = ""
    ts_us: int = 0


def notice_of(parcel: Parcel) -> Notice:
    """Put a parcel into words."""
    match parcel.records:
        case (DeploymentCommand() as command,):
            return _of_command(command)
        case (Alert() as alert,) if not parcel.group:
            return _of_alert(alert)
        case _:
            return _of_group(parcel.alerts, parcel)


def _of_alert(alert: Alert) -> Notice:
    said = {pair.key: pair.value for pair in alert.annotations}
    facts = [(pair.key, pair.value) for pair in alert.labels]
    if alert.value is not None:
        unit = alert.unit or ""
        limit = "" if alert.threshold is None else f", threshold {alert.threshold:g} {unit}"
        facts.append(("value", f"{alert.value:g} {unit}{limit}".strip()))
    facts.append(("since", moment(alert.starts_at)))
    if alert.ends_at is not None:
        facts.append(("until", moment(alert.ends_at)))
    where = f" of {alert.tenant}" if alert.tenant else ""
    return Notice(
        status=alert.status,
        severity=severity_of(alert),
        title=line(f"{_dry(alert)}{_shout(alert)}: {alert.rule}{where}"),
        text=tuple(text for key in ("summary", "description") if (text := block(said.get(key, "")))),
        facts=tuple((line(name), line(value)) for name, value in [*facts, ("alert", alert.fingerprint)]),
        runbook=address(alert.runbook_url),
        source=address(alert.generator_url),
        ts_us=alert.starts_at,
    )


def _of_group(alerts: Sequence[Alert], parcel: Parcel) -> Notice:
    first = min(alerts, key=lambda alert: SEVERITIES.index(severity_of(alert)))
    rules = sorted({alert.rule for alert in alerts})
    tenants = sorted({alert.tenant for alert in alerts if alert.tenant})
    what = rules[0] if len(rules) == 1 else f"{len(rules)} rules"
    where = f" of {tenants[0]}" if len(tenants) == 1 else f" of {len(tenants)} tenants" if tenants else ""
    facts = [("alerts", f"{len(alerts):,}"), ("since", moment(min(alert.starts_at for alert in alerts)))]
    if parcel.group:
        facts += [("still firing", f"{parcel.left:,}"), ("group", parcel.group)]
    rest = len(alerts) - MOST_MEMBERS
    text = [block("\n".join(f"• {_member(alert)}" for alert in alerts[:MOST_MEMBERS]))]
    if rest > 0:
        text.append(f"and {rest:,} more: tidegate alert list")
    return Notice(
        status=first.status,
        severity=severity_of(first),
        title=line(f"{_dry(first)}{_shout(first)}: {_count(len(alerts), parcel)}, {what}{where}"),
        text=tuple(text),
        facts=tuple((name, line(value)) for name, value in facts),
        runbook=address(first.runbook_url) if len(rules) == 1 else "",
        ts_us=min(alert.starts_at for alert in alerts),
    )


def _count(count: int, parcel: Parcel) -> str:
    alerts = f"{count:,} alert{'s' * (count != 1)}"
    return f"{alerts}, {parcel.left:,} in all" if parcel.left > count else alerts


def _of_command(command: DeploymentCommand) -> Notice:
    where = f"{command.environment}/{command.deployment} of {command.tenant}"
    weights = ", ".join(f"{one.variant} {one.weight_bp / 100:g}%" for one in command.weights)
    facts = [
        ("rollout", command.rollout),
        ("revision", str(command.revision)),
        ("weights", weights),
        ("by", command.actor),
        ("at", moment(command.ts)),
    ]
    return Notice(
        status="command",
        severity="info",
        title=line(f"{'dry run: ' if command.dry_run else ''}{command.action}: {where}"),
        text=(text,) if (text := block(command.reason)) else (),
        facts=tuple((name, line(value)) for name, value in facts),
        ts_us=command.ts,
    )


def _member(alert: Alert) -> str:
    said = {pair.key: pair.value for pair in alert.annotations}
    return cut(line(said.get("summary") or " ".join(pair.value for pair in alert.labels)), _LONGEST_MEMBER)


def _dry(alert: Alert) -> str:
    return "dry run: " if alert.dry_run else ""


def _shout(alert: Alert) -> str:
    return "resolved" if alert.status == "resolved" else severity_of(alert).upper()


def severity_of(alert: Alert) -> str:
    """Return one of `SEVERITIES`."""
    return alert.severity if alert.severity in SEVERITIES else "error"


def moment(ts_us: int) -> str:
    """Return a time in UTC to the second, and the number itself where it is none."""
    try:
        return f"{_EPOCH + timedelta(microseconds=ts_us):%Y-%m-%dT%H:%M:%SZ}"
    except OverflowError:
        return str(ts_us)


def line(text: str) -> str:
    """Make one line of a text: no sign in it ends a header, a cell or a terminal's line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def block(text: str) -> str:
    """Make every line of a text printable, and leave out empty ones."""
    return "\n".join(filter(None, map(line, text.splitlines())))


def cut(text: str, most: int) -> str:
    """Cut a text to so many characters; what was cut ends in ``…``."""
    return text if len(text) <= most else text[: most - 1] + "…"


def address(url: str | None) -> str:
    """Return an address that a person may follow: http, in ASCII, without signs that a channel reads."""
    text = line(url or "")
    is_plain = text.isascii() and len(text) <= _LONGEST_ADDRESS and not set(text) & set('<>|()[] "')
    return text if is_plain and text.startswith(("https://", "http://")) else ""
