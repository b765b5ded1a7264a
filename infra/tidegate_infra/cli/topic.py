"""``tidegate topic``: topics as code."""

from dataclasses import asdict
from typing import TYPE_CHECKING

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
from tidegate_infra.cli.output import Format, say, write, write_rows

if TYPE_CHECKING:
    from tidegate_infra.kafka.topics import Change

app = noun("Topics as code.")


@app.command()
def plan(
    data_dir: DataDir = None, context: Context = None, output: Output = Format.TABLE, as_json: Json = False
) -> None:
    """Compare Kafka with the topic table: what `apply` would create, alter or refuse."""
    from tidegate_infra.kafka import scan, topics

    settings = settings_of(data_dir, context)
    scan.check_answers(settings)
    _print(topics.plan(settings), chosen(output, as_json))


@app.command()
def apply(
    data_dir: DataDir = None,
    context: Context = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing and set their configuration. Partition counts never change."""
    from tidegate_infra.kafka import scan, topics

    settings = settings_of(data_dir, context)
    scan.check_answers(settings)
    changes = topics.plan(settings)
    if not dry_run and changes:
        for change in changes:
            say(str(change))
        agreed(f"Change the topics of {settings.said(settings.kafka)}?", yes=yes, alone=True)
        changes = topics.apply(settings)
    _print(changes, chosen(Format.TABLE, as_json))


def _print(changes: "list[Change]", how: Format) -> None:
    if how is Format.TABLE:
        for change in changes:
            write(str(change))
    else:
        rows = [asdict(change) for change in changes]
        write_rows(rows, ("kind", "topic", "what", "before", "after"), how)
    if not changes:
        say("Kafka is as the topic table says")
