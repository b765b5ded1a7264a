"""``tidegate alert``: what fires, who is told, and what nobody is told of for a while."""

import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.errors import ConfigError
from tidegate_infra.cli.options import (
    Context,
    DataDir,
    DryRun,
    Json,
    Output,
    Tenant,
    Yes,
    actor,
    agreed,
    chosen,
    noun,
    settings_of,
    settings_said,
)
from tidegate_infra.cli.output import Format, say, time_text, to_json, write, write_rows

if TYPE_CHECKING:
    from tidegate.records import Alert, Silence
    from tidegate_consumers.notify.channel import Channel
    from tidegate_infra.settings import Settings

app = noun("What fires, who is told, and silences.")

File = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="File of channels; TIDEGATE_CHANNELS names it else."),
]
Every = Annotated[bool, typer.Option("--all", help="Those that are over too.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the record.")]
Severity = Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this severity.")]
Rule = Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this rule.")]


@app.command("list")
def list_(
    every: Every = False,
    rule: Rule = None,
    severity: Severity = None,
    tenant: Tenant = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """List the alerts that fire, the worst and oldest first."""
    from tidegate_consumers.notify import silences
    from tidegate_consumers.notify.notice import SEVERITIES, severity_of
    from tidegate_consumers.notify.runbook import with_runbook

    settings = settings_of(data_dir, context)
    asked = {"rule": rule, "severity": severity, "tenant": tenant}
    found = [
        alert
        for alert in _last(settings)
        if (every or alert.status == "firing")
        and all(value in (None, getattr(alert, name)) for name, value in asked.items())
    ]
    found.sort(key=lambda alert: (SEVERITIES.index(severity_of(alert)), alert.starts_at))
    active = _active(silences.read(settings).values()) if found else []
    rows = [_row(with_runbook(alert, settings.runbooks), active) for alert in found]
    how = chosen(output, as_json)
    if how in (Format.TABLE, Format.WIDE):
        rows = [row | {"since": time_text(row["starts_at"])} for row in rows]
    columns = ("fingerprint", "status", "severity", "rule", "tenant", "since", "silence", "summary")
    write_rows(
        rows, columns, how, wide=("value", "threshold", "unit", "runbook_url"), nothing="nothing fires"
    )


@app.command()
def channels(
    file: File = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """List the channels and check their file; Kafka is not asked.

    Exit 3 when the file has mistakes: each is named with its line.
    """
    rows = [
        {
            "channel": one.name,
            "type": one.kind,
            "to": one.shown,
            "alerts": one.wants.alerts,
            "of": {label: "|".join(sorted(values)) for label, values in one.wants.labels.items()},
            "commands": one.wants.commands,
            "dry_runs": one.wants.dry_runs,
        }
        for one in _channels(settings_said(data_dir, context), file)
    ]
    columns = ("channel", "type", "to", "alerts", "of", "commands", "dry_runs")
    write_rows(
        rows, columns, chosen(output, as_json), nothing="no channels: docs/channels.md shows a file of them"
    )


@app.command("test")
def try_(
    channel: Annotated[str, typer.Option("--channel", "-c", metavar="NAME", help="Channel to try.")],
    severity: Annotated[str, typer.Option(metavar="NAME", help="Of the alert that is told.")] = "info",
    file: File = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Tell one channel of an alert that fires and is over at once: it looks like a real one.

    Kafka is not asked. Exit 1 when the channel did not take both.
    """
    import asyncio

    from tidegate_consumers.notify.notice import SEVERITIES
    from tidegate_consumers.notify.process import receiver_of
    from tidegate_consumers.notify.trial import trial
    from tidegate_infra.document import suggestion

    if severity not in SEVERITIES:
        raise typer.BadParameter(suggestion(severity, SEVERITIES), param_hint="--severity")
    found = {one.name: one for one in _channels(settings_said(data_dir, context), file)}
    if channel not in found:
        known = suggestion(channel, found) if found else "there is none, see docs/channels.md"
        raise ConfigError(f"no channel is called {channel!r}: {known}")
    target = f"{channel}, {found[channel].kind} at {found[channel].shown}"
    if dry_run:
        say(f"would tell {target}")
        return
    agreed(f"Tell {target}?", yes=yes)
    receiver = receiver_of(found[channel])
    outcomes = asyncio.run(trial(receiver, severity, actor(), time.time_ns() // 1_000))
    for status, outcome in outcomes:
        say(f"{status}: {outcome.words}")
        if as_json:
            row = {"channel": channel, "status": status, "outcome": outcome.kind, "words": outcome.words}
            write(to_json(row))
    if any(outcome.kind != "delivered" for _, outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def silence(
    matchers: Annotated[
        list[str],
        typer.Argument(
            metavar="LABEL=VALUE...",
            help="What alerts must all have: labels, rule, severity, tenant or fingerprint.",
        ),
    ],
    lasts: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long, such as 2h.")] = "1h",
    reason: Why = "no reason given",
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Tell nobody of some alerts for a while. What fires still when it ends is told then."""
    from tidegate import codec
    from tidegate.records import KeyValue, Silence
    from tidegate_consumers.notify import silences

    now_us = time.time_ns() // 1_000
    record = Silence(
        silence_id=str(uuid.uuid4()),
        matchers=[KeyValue(key=key, value=value) for key, value in sorted(_pairs(matchers).items())],
        starts_at=now_us,
        ends_at=now_us + _duration(lasts),
        actor=actor(),
        reason=reason,
        ts=now_us,
    )
    settings = settings_of(data_dir, context)
    firing = sum(silences.matches(record, alert) for alert in _last(settings) if alert.status == "firing")
    target = f"{_words(record)} until {time_text(record.ends_at)} on {settings.said(settings.kafka)}"
    if dry_run:
        say(f"would silence {target}; {firing} that fire now match")
        write(codec.as_json(record))
        return
    agreed(f"Silence {target}? {firing} that fire now match.", yes=yes)
    silences.put(settings, record)
    say(
        f"silenced {target} by {record.actor}; {firing} that fire now match; "
        f"`tidegate alert unsilence {record.silence_id}`"
    )
    if as_json:
        write(to_json(codec.as_dict(record)))


@app.command("silences")
def silences_(
    every: Every = False,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """List the silences, the one that ends first first."""
    from tidegate import codec
    from tidegate_consumers.notify import silences

    found = list(silences.read(settings_of(data_dir, context)).values())
    found = found if every else _active(found)
    how = chosen(output, as_json)
    rows = [codec.as_dict(one) for one in sorted(found, key=lambda one: one.ends_at)]
    if how in (Format.TABLE, Format.WIDE):
        rows = [
            row | {"of": _words(one), "until": time_text(one.ends_at)}
            for row, one in zip(rows, sorted(found, key=lambda one: one.ends_at), strict=True)
        ]
    write_rows(rows, ("silence_id", "of", "until", "actor", "reason"), how, nothing="nothing is silenced")


@app.command()
def unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="As `alert silences` prints it.")],
    reason: Why = "no reason given",
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """End a silence now: what it held back and still fires is told."""
    from dataclasses import replace

    from tidegate import codec
    from tidegate_consumers.notify import silences

    settings = settings_of(data_dir, context)
    found = {one.silence_id: one for one in _active(silences.read(settings).values())}
    if silence_id not in found:
        raise ConfigError(f"no silence has the id {silence_id!r}: `tidegate alert silences`")
    now_us = time.time_ns() // 1_000
    over = replace(found[silence_id], ends_at=now_us, ts=now_us, actor=actor(), reason=reason)
    target = f"the silence of {_words(over)} on {settings.said(settings.kafka)}"
    if dry_run:
        say(f"would end {target}")
        write(codec.as_json(over))
        return
    agreed(f"End {target}?", yes=yes)
    silences.put(settings, over)
    say(f"ended {target}")
    if as_json:
        write(to_json(codec.as_dict(over)))


def _last(settings: "Settings") -> list["Alert"]:
    """Read the last change of each alert."""
    from tidegate.topics import ALERTS
    from tidegate_infra.kafka import scan

    last: dict[str, Alert] = {}
    for _, alert in scan.records(settings, ALERTS):
        if alert is not None:
            last[alert.fingerprint] = alert
    return list(last.values())


def _channels(settings: "Settings", file: Path | None) -> list["Channel"]:
    from tidegate_consumers.notify.process import channels_of

    return channels_of(settings if file is None else settings.model_copy(update={"channels": file}))


def _active(silences: Iterable["Silence"]) -> list["Silence"]:
    now_us = time.time_ns() // 1_000
    return [one for one in silences if one.starts_at <= now_us < one.ends_at]


def _row(alert: "Alert", active: Iterable["Silence"]) -> dict[str, Any]:
    from tidegate import codec
    from tidegate_consumers.notify.silences import matches

    silence_id = next((one.silence_id for one in active if matches(one, alert)), None)
    summary = next((pair.value for pair in alert.annotations if pair.key == "summary"), None)
    return codec.as_dict(alert) | {"summary": summary, "silence": silence_id}


def _words(silence: "Silence") -> str:
    return " ".join(f"{pair.key}={pair.value}" for pair in silence.matchers)


def _pairs(matchers: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for matcher in matchers:
        label, sign, value = matcher.partition("=")
        if not (label and sign and value):
            raise typer.BadParameter(f"{matcher!r} is no LABEL=VALUE", param_hint="LABEL=VALUE")
        if pairs.get(label, value) != value:
            raise typer.BadParameter(f"no alert has two of {label!r}", param_hint="LABEL=VALUE")
        pairs[label] = value
    return pairs


def _duration(text: str) -> int:
    from tidegate_consumers.notify.silences import LONGEST_US
    from tidegate_infra.rollout_file import quantities

    try:
        us = quantities.time_limit(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    if us > LONGEST_US:
        raise typer.BadParameter("a silence lasts 30d at most: Kafka keeps it no longer", param_hint="--for")
    return us
