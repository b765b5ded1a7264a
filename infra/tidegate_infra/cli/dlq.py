"""``tidegate dlq``: what was refused, why, and putting it back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tidegate.errors import ConfigError
from tidegate_infra.cli.options import (
    Context,
    DataDir,
    DryRun,
    Json,
    Output,
    Yes,
    agreed,
    chosen,
    noun,
    settings_of,
)
from tidegate_infra.cli.output import Format, say, time_text, to_json, write, write_one, write_rows

if TYPE_CHECKING:
    from confluent_kafka import Message

    from tidegate_infra.kafka.dead_letters import DeadLetter
    from tidegate_infra.settings import Settings

app = noun("Dead letters: what was refused, why, and putting it back.")

Topic = Annotated[str | None, typer.Option(metavar="NAME", help="Only those that came from this topic.")]
Why = Annotated[str | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason.")]


@app.command("list")
def list_(
    topic: Topic = None,
    reason: Why = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="Only the newest so many.")] = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """List the dead letters, oldest first."""
    rows = [
        _row(message, letter)
        for message, letter in _letters(settings_of(data_dir, context))
        if topic in (None, letter.topic) and reason in (None, letter.reason)
    ]
    rows.sort(key=lambda row: row["ts"])
    rows = rows if last is None else rows[-last:]
    how = chosen(output, as_json)
    if how in (Format.TABLE, Format.WIDE):
        rows = [row | {"time": time_text(row["ts"])} for row in rows]
    columns = ("id", "time", "topic", "partition", "offset", "stage", "reason", "error")
    write_rows(rows, columns, how, wide=("key", "bytes"))


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `dlq list` prints it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write the bytes themselves.")] = False,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Show one dead letter: where it came from, why it was refused, and its bytes."""
    message, letter = _one(settings_of(data_dir, context), letter_id)
    value = message.value() or b""
    if raw:
        import sys

        sys.stdout.buffer.write(value)
        return
    facts = _row(message, letter) | {"topic_id": letter.topic_id, "text": _text(value), "hex": value.hex()}

    def lines() -> Iterator[str]:
        for name in ("id", "topic", "partition", "offset", "key", "stage", "reason", "error", "bytes"):
            yield f"{name:<10} {facts[name]}"
        yield f"{'value':<10} {facts['text'] if facts['text'] is not None else facts['hex']}"

    write_one(facts, chosen(output, as_json), lines)


@app.command()
def requeue(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As `dlq list` prints them.")
    ] = None,
    topic: Topic = None,
    reason: Why = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Put dead letters back to the end of the topic they came from, when what refused them was repaired.

    Their order among other events is lost. Putting one back twice counts once.
    """
    from tidegate_infra.kafka.duplicates import REQUEUED_HEADER
    from tidegate_infra.kafka.outgoing import Outgoing, send

    if not (ids or topic or reason or every):
        raise typer.BadParameter("say which: by ID, --topic, --reason or --all", param_hint="ID")
    settings = settings_of(data_dir, context)
    found = {_id(message): (message, letter) for message, letter in _letters(settings)}
    unknown = [one for one in ids or [] if one not in found]
    if unknown:
        raise ConfigError(f"no dead letter has the id {', '.join(unknown)}: `tidegate dlq list`")
    chosen_letters = {
        one: (message, letter)
        for one, (message, letter) in found.items()
        if (not ids or one in ids) and topic in (None, letter.topic) and reason in (None, letter.reason)
    }
    target = f"{len(chosen_letters)} dead letters on {settings.said(settings.kafka)}"
    if not dry_run and chosen_letters:
        agreed(f"Put back {target}?", yes=yes)
        send(
            settings,
            [
                Outgoing(
                    topic=letter.topic,
                    key=message.key(),
                    value=message.value(),
                    headers=((REQUEUED_HEADER, letter.coordinates.encode()),),
                )
                for message, letter in chosen_letters.values()
            ],
            timeout_seconds=60,
        )
    for message, letter in chosen_letters.values():
        if as_json:
            write(to_json(_row(message, letter)))
    say(f"{'would put' if dry_run else 'put'} back {target}")


def _letters(settings: "Settings") -> "Iterator[tuple[Message, DeadLetter]]":
    """Read every dead letter once: what was redone after a crash may stand twice."""
    from tidegate.errors import ContractError
    from tidegate.topics import DLQ
    from tidegate_infra.kafka import dead_letters, scan

    seen = set()
    for message in scan.messages(settings, DLQ):
        try:
            letter = dead_letters.read(cast("list[tuple[str, bytes | None]]", message.headers()))
        except ContractError as error:
            say(f"{_id(message)} is skipped: {error}")
            continue
        if (letter.coordinates, letter.stage) not in seen:
            seen.add((letter.coordinates, letter.stage))
            yield message, letter


def _one(settings: "Settings", letter_id: str) -> "tuple[Message, DeadLetter]":
    for message, letter in _letters(settings):
        if _id(message) == letter_id:
            return message, letter
    raise ConfigError(f"no dead letter has the id {letter_id!r}: `tidegate dlq list`")


def _id(message: "Message") -> str:
    return f"{message.partition()}:{message.offset()}"


def _row(message: "Message", letter: "DeadLetter") -> dict[str, Any]:
    key = message.key()
    return {
        "id": _id(message),
        "ts": message.timestamp()[1] * 1_000,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "stage": letter.stage,
        "reason": letter.reason,
        "error": letter.error,
        "key": None if key is None else key.decode(errors="replace"),
        "bytes": len(message.value() or b""),
    }


def _text(value: bytes) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() or text.strip().isprintable() else None
