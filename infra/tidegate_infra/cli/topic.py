"""``tidegate topic``: topics as code."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from tidegate_infra.cli.options import DataDir, DryRun, Json, Yes, agreed, noun, settings_of
from tidegate_infra.cli.output import say, to_json, write

if TYPE_CHECKING:
    from tidegate_infra.kafka.topics import Change

app = noun("Topics as code.")


@app.command()
def plan(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Compare Kafka with the topic table: what `apply` would create, alter or refuse."""
    from tidegate_infra.kafka import scan, topics

    settings = settings_of(data_dir)
    scan.check_answers(settings)
    _print(topics.plan(settings), as_json)


@app.command()
def apply(data_dir: DataDir = None, yes: Yes = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Create the topics that are missing and set their configuration. Partition counts never change."""
    from tidegate_infra.kafka import scan, topics

    settings = settings_of(data_dir)
    scan.check_answers(settings)
    changes = topics.plan(settings)
    if not dry_run and changes:
        for change in changes:
            say(str(change))
        agreed(f"Change the topics of {settings.kafka}?", yes=yes, alone=True)
        changes = topics.apply(settings)
    _print(changes, as_json)


def _print(changes: "list[Change]", as_json: bool) -> None:
    for change in changes:
        write(to_json(asdict(change)) if as_json else str(change))
    if not changes:
        say("Kafka is as the topic table says")
