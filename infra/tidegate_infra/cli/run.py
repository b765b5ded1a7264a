"""``tidegate run``: one process in the foreground."""

from typing import Annotated

import typer

from tidegate_infra.cli.options import Context, DataDir, noun, settings_of

app = noun("Run one process in the foreground, as containers do.")


def _names() -> list[str]:
    from tidegate_infra import process

    return process.names()


@app.command("run")
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Process to run.", autocompletion=_names)],
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long Kafka or the store may be away at start."),
    ] = 0,
    data_dir: DataDir = None,
    context: Context = None,
) -> None:
    """Run one process in the foreground, as containers do."""
    from tidegate_infra import process
    from tidegate_infra.settings import Settings

    settings = settings_of(data_dir, context) if context else Settings.load(data_dir=data_dir)
    raise typer.Exit(process.run(name, process.find(name), settings, wait))
