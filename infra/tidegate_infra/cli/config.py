"""``tidegate config``: the settings in force, and the places that have a name."""

from typing import Annotated

import typer

from tidegate.errors import ConfigError
from tidegate_infra.cli.options import Context, DataDir, Json, Output, chosen, noun, settings_said
from tidegate_infra.cli.output import Format, say, write_rows

app = noun("Settings and where they come from.")


@app.command()
def show(
    data_dir: DataDir = None, context: Context = None, output: Output = Format.TABLE, as_json: Json = False
) -> None:
    """List every setting, its value and its origin; secrets are masked."""
    from tidegate_infra import contexts
    from tidegate_infra.settings import Incomplete

    try:
        settings = settings_said(data_dir, context)
    except Incomplete as incomplete:
        # Whoever looks for what is missing wants to see what is there.
        settings = incomplete.settings
        say(str(incomplete) if context is None else contexts.advice(str(incomplete), context))
    rows = [
        {"setting": name, "value": settings.shown(name), "origin": settings.origin(name)}
        for name in type(settings).model_fields
    ]
    write_rows(rows, ("setting", "value", "origin"), chosen(output, as_json))


@app.command()
def contexts(
    context: Annotated[
        str | None, typer.Option("--context", metavar="NAME", help="The current one; else TIDEGATE_CONTEXT.")
    ] = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """List the named contexts: places that --context and TIDEGATE_CONTEXT may name.

    Exit 3 when the current one is none of them.
    """
    from tidegate_infra import contexts as named
    from tidegate_infra.document import FileError, suggestion

    file = named.path()
    if not file.exists():
        say(f"no contexts: {file} is not there")
        return
    found, mistakes = named.read(file)
    rows = [
        {"current": name == context, "context": name, **one.where, **one.defaults}
        for name, one in found.items()
    ]
    columns = ("current", "context", "kafka", "clickhouse", "data_dir", "tenant", "environment")
    write_rows(rows, columns, chosen(output, as_json), nothing="")
    if mistakes:
        error = FileError(mistakes)
        say(str(error))
        raise typer.Exit(error.exit_code)
    if context is not None and context not in found:
        raise ConfigError(f"the current context {context!r} is none of them: {suggestion(context, found)}")
