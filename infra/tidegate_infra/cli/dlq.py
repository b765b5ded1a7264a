"""``tidegate dlq``: what was refused, why, and putting it back."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any

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
    from tidegate_infra.kafka.requeue import Standing
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
    from tidegate_infra.kafka.requeue import standing

    rows = [
        _row(one)
        for one in standing(settings_of(data_dir, context), say)
        if topic in (None, one.letter.topic) and reason in (None, one.letter.reason)
    ]
    rows.sort(key=lambda row: row["ts"])
    rows = rows if last is None else rows[-last:]
    how = chosen(output, as_json)
    if how in (Format.TABLE, Format.WIDE):
        rows = [row | {"time": time_text(row["ts"])} for row in rows]
    columns = ("id", "time", "topic", "partition", "offset", "stage", "reason", "requeued", "error")
    write_rows(rows, columns, how, wide=("key", "bytes"), nothing="there are no dead letters")


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
    one = _one(settings_of(data_dir, context), letter_id)
    value = one.message.value() or b""
    if raw:
        import sys

        sys.stdout.buffer.write(value)
        return
    facts = _row(one) | {"topic_id": one.letter.topic_id, "text": _text(value), "hex": value.hex()}

    def lines() -> Iterator[str]:
        for name in (
            "id",
            "topic",
            "partition",
            "offset",
            "key",
            "stage",
            "reason",
            "error",
            "bytes",
            "requeued",
        ):
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
    """Put dead letters back to the end of where they came from, when what refused them was repaired.

    Their order among other events is lost. Each goes back once, however often this is asked for.
    """
    from tidegate import codec
    from tidegate.topics import TOPICS
    from tidegate_infra.kafka import requeue as back
    from tidegate_infra.kafka import rules

    if not (ids or topic or reason or every):
        raise typer.BadParameter("say which: by ID, --topic, --reason or --all", param_hint="ID")
    settings = settings_of(data_dir, context)
    found = back.standing(settings, say)
    unknown = [one for one in ids or [] if one not in {letter.id for letter in found}]
    if unknown:
        raise ConfigError(f"no dead letter has the id {', '.join(unknown)}: `tidegate dlq list`")
    _check("topic", topic, {*TOPICS, *(one.letter.topic for one in found)})
    _check("reason", reason, {*codec.REASONS, *rules.REASONS, *(one.letter.reason for one in found)})
    wanted = [
        one
        for one in found
        if (not ids or one.id in ids)
        and topic in (None, one.letter.topic)
        and reason in (None, one.letter.reason)
        # What is named and takes nothing back is refused in words.
        and (ids or one.letter.topic in back.RETURNABLE)
    ]
    chosen_letters = [one for one in wanted if not one.requeued]
    if len(chosen_letters) < len(wanted):
        say(f"{len(wanted) - len(chosen_letters)} were put back before, and are left out")
    target = f"{len(chosen_letters)} dead letters on {settings.said(settings.kafka)}"
    if not dry_run and chosen_letters:
        agreed(f"Put back {target}?", yes=yes)
        chosen_letters = back.requeue(settings, chosen_letters, say)
    for one in chosen_letters:
        if as_json:
            write(to_json(_row(one)))
    done = "would put" if dry_run else "put"
    say(f"{done} back {len(chosen_letters)} dead letters on {settings.said(settings.kafka)}")


def _check(what: str, wanted: str | None, there: Collection[str]) -> None:
    from tidegate_infra.document import suggestion

    if wanted is not None and wanted not in there:
        raise ConfigError(f"no dead letter has the {what} {wanted!r}: {suggestion(wanted, sorted(there))}")


def _one(settings: "Settings", letter_id: str) -> "Standing":
    from tidegate_infra.kafka.requeue import standing

    for one in standing(settings, say):
        if one.id == letter_id:
            return one
    raise ConfigError(f"no dead letter has the id {letter_id!r}: `tidegate dlq list`")


def _row(one: "Standing") -> dict[str, Any]:
    key = one.message.key()
    return {
        "id": one.id,
        "ts": one.message.timestamp()[1] * 1_000,
        "topic": one.letter.topic,
        "partition": one.letter.partition,
        "offset": one.letter.offset,
        "stage": one.letter.stage,
        "reason": one.letter.reason,
        "requeued": one.requeued,
        "error": one.letter.error,
        "key": None if key is None else key.decode(errors="replace"),
        "bytes": len(one.message.value() or b""),
    }


def _text(value: bytes) -> str | None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() or text.strip().isprintable() else None
