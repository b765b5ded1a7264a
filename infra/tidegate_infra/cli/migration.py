"""``tidegate migration``: tables of the store as code."""

from typing import TYPE_CHECKING, Annotated

import typer

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
from tidegate_infra.cli.output import Format, say, to_json, write, write_rows

if TYPE_CHECKING:
    from tidegate_infra.clickhouse.migrations import Step

app = noun("Tables of the store as code.")


@app.command()
def status(
    data_dir: DataDir = None, context: Context = None, output: Output = Format.TABLE, as_json: Json = False
) -> None:
    """List the migrations: applied, pending, changed or unknown; exit 1 unless all are applied."""
    from tidegate_infra.cli.store import connected
    from tidegate_infra.clickhouse import migrations

    with connected(settings_of(data_dir, context)) as store:
        rows = [
            {"number": one.number, "name": one.name, "state": one.state} for one in migrations.status(store)
        ]
    write_rows(rows, ("number", "name", "state"), chosen(output, as_json))
    if any(row["state"] != "applied" for row in rows):
        raise typer.Exit(1)


@app.command()
def up(
    to: Annotated[int | None, typer.Option(metavar="N", help="Last number; all unless given.")] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Apply the migrations that are pending; makes the database if it is not there."""
    from tidegate_infra.cli.store import connected
    from tidegate_infra.clickhouse import migrations

    settings = settings_of(data_dir, context)
    with connected(settings, readonly=False) as store:
        steps = migrations.up(store, to=to, dry_run=True)
        if steps and not dry_run:
            _announce(steps)
            agreed(f"Migrate {settings.said(settings.clickhouse)}?", yes=yes, alone=True)
            steps = migrations.up(store, to=to)
    _print(steps, dry_run, as_json)


@app.command()
def down(
    to: Annotated[
        int | None, typer.Option(metavar="N", help="Number to go back to; one back unless given.")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Take migrations back, the last one first. Tables are dropped with their rows."""
    from tidegate_infra.cli.store import connected
    from tidegate_infra.clickhouse import migrations

    settings = settings_of(data_dir, context)
    with connected(settings, readonly=False) as store:
        steps = migrations.down(store, to=to, dry_run=True)
        if steps and not dry_run:
            _announce(steps)
            agreed(f"Drop these tables of {settings.said(settings.clickhouse)} with their rows?", yes=yes)
            steps = migrations.down(store, to=to)
    _print(steps, dry_run, as_json)


def _announce(steps: "list[Step]") -> None:
    for step in steps:
        say(f"{step.direction:<4} {step.migration.label}")


def _print(steps: "list[Step]", dry_run: bool, as_json: bool) -> None:
    for step in steps:
        facts = {
            "number": step.migration.number,
            "name": step.migration.name,
            "direction": step.direction,
            "done": not dry_run,
        }
        if as_json:
            write(to_json(facts))
        else:
            write(f"{'would go ' if dry_run else ''}{step.direction} {step.migration.label}")
        if dry_run and not as_json:
            for statement in step.statements:
                write(statement + ";\n")
    if not steps:
        say("nothing to do")
