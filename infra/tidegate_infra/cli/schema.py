"""``tidegate schema``: the contract, explained, exported and checked."""

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.errors import ConfigError
from tidegate_infra.cli.options import Json, Output, chosen, noun
from tidegate_infra.cli.output import Format, say, write, write_rows

if TYPE_CHECKING:
    from tidegate.versions import Version

app = noun("The contract: its records, fields and history.")

Record = Annotated[str | None, typer.Argument(metavar="[RECORD]", help="Such as LLMCall.")]


@app.command()
def explain(record: Record = None, output: Output = Format.TABLE, as_json: Json = False) -> None:
    """Say what the fields of a record mean; without one, list the records.

    NEED is `required` where an event must say it, `filled in` where it must stand and the client sees to it.
    """
    how = chosen(output, as_json)
    if record is None:
        write_rows(
            _records(), ("record", "version", "topic", "meaning"), how, wide=("subject", "fingerprint")
        )
        return
    newest = _history(record)[-1]
    if how in (Format.TABLE, Format.WIDE):
        write(f"{newest.name}: {newest.source['doc']}\n")
    write_rows(_fields(newest.source, ""), ("field", "type", "need", "meaning"), how)


@app.command()
def export(
    record: Record = None,
    number: Annotated[
        int | None, typer.Option("--version", help="Of its history; the newest unless given.")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the whole history there.")] = None,
) -> None:
    """Print a record's Avro schema, or write the history of every record into a directory."""
    from tidegate import versions

    if to is not None:
        chosen_histories = [_history(record)] if record else list(versions.history().values())
        for version in (version for history in chosen_histories for version in history):
            path = to / version.subject / f"{version.number}.avsc"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(version.source, indent=1, ensure_ascii=False) + "\n", "utf-8")
            say(f"wrote {path}")
        return
    if record is None:
        raise typer.BadParameter("say which record, or --to DIR for all", param_hint="RECORD")
    history = {version.number: version for version in _history(record)}
    if number is not None and number not in history:
        raise typer.BadParameter(f"there is 1 to {max(history)}", param_hint="--version")
    write(json.dumps(history[number or max(history)].source, indent=1, ensure_ascii=False))


@app.command()
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE.avsc]...", help="Proposed next versions of records of the contract."),
    ] = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Check that every version can still be read, and what the next one would break.

    Every version must be readable by the newest, and the newest by the one before it.
    """
    from tidegate import versions

    histories = {s: [v.source for v in history] for s, history in versions.history().items()}
    for file in files or []:
        proposed = _avsc(file)
        histories[_history(str(proposed["name"]))[-1].subject].append(proposed)
    problems = [
        {"subject": subject, "problem": problem}
        for subject, history in histories.items()
        for problem in _problems(history)
    ]
    write_rows(problems, ("subject", "problem"), chosen(output, as_json), nothing="")
    count = sum(map(len, histories.values()))
    found = "1 problem" if len(problems) == 1 else f"{len(problems) or 'no'} problems"
    say(f"{len(histories)} records, {count} versions: {found}")
    if problems:
        raise typer.Exit(1)


def _problems(history: list[Any]) -> list[str]:
    from tidegate_infra.compatibility import unreadable, unsupported

    newest = len(history)
    found = []
    for number, old in enumerate(history[:-1], 1):
        found += [f"v{newest} cannot read v{number}: {why}" for why in unreadable(old, history[-1])]
    if newest > 1:
        found += [
            f"v{newest - 1} cannot read v{newest}: {why}" for why in unreadable(history[-1], history[-2])
        ]
    return found + [f"v{newest}: {why}" for why in unsupported(history[-1])]


def _avsc(file: Path) -> dict[str, Any]:
    try:
        schema = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{file}: is no JSON: {error}") from None
    if not isinstance(schema, dict) or schema.get("type") != "record" or "fields" not in schema:
        raise ConfigError(f"{file}: is no Avro record: it should be an object with type, name and fields")
    from fastavro.schema import SchemaParseException, UnknownType, parse_schema

    try:
        parse_schema(schema)
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: is no Avro schema: {type(error).__name__}: {error}") from None
    return schema


def _history(record: str) -> "list[Version]":
    from tidegate import versions

    histories = {name: h for s, h in versions.history().items() for name in (s, h[-1].name)}
    if record in histories:
        return histories[record]
    near = difflib.get_close_matches(record, histories, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "`tidegate schema explain` lists all"
    raise typer.BadParameter(f"no record is called {record!r}: {hint}", param_hint="RECORD")


def _records() -> list[dict[str, Any]]:
    from tidegate import versions
    from tidegate.topics import TOPICS

    return [
        {
            "record": history[-1].name,
            "subject": subject,
            "version": history[-1].number,
            "fingerprint": history[-1].fingerprint.hex(),
            "topic": next((t.name for t in TOPICS.values() if history[-1].record in t.records), None),
            "meaning": history[-1].source["doc"],
        }
        for subject, history in versions.history().items()
    ]


def _fields(schema: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    from tidegate.client.rules import FILLED_IN

    rows = []
    for field in schema["fields"]:
        name = f"{prefix}{field['name']}"
        inner = field["type"][1] if isinstance(field["type"], list) else field["type"]
        item = inner["items"] if isinstance(inner, dict) and inner["type"] == "array" else inner
        need = None if "default" in field else "filled in" if name in FILLED_IN else "required"
        rows.append({"field": name, "type": _type_text(field["type"]), "need": need, "meaning": field["doc"]})
        if isinstance(item, dict) and item["type"] == "record":
            rows += _fields(item, f"{name}{'[]' if item is not inner else ''}.")
    return rows


def _type_text(kind: Any) -> str:
    if isinstance(kind, list):
        return f"{_type_text(kind[1])} or null"
    if not isinstance(kind, dict):
        return str(kind)
    match kind["type"]:
        case "array":
            return f"list of {_type_text(kind['items'])}"
        case "record":
            return str(kind["name"])
        case _:
            return str(kind.get("logicalType", kind["type"]))
