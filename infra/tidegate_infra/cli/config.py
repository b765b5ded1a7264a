"""``tidegate config``: the settings in force."""

from tidegate_infra.cli.options import DataDir, Json, Output, chosen, noun, settings_of
from tidegate_infra.cli.output import Format, write_rows

app = noun("Settings and where they come from.")


@app.callback()
def _config() -> None:
    """Settings and where they come from."""


@app.command()
def show(data_dir: DataDir = None, output: Output = Format.TABLE, as_json: Json = False) -> None:
    """List every setting, its value and its origin; secrets are masked."""
    settings = settings_of(data_dir)
    rows = [
        {"setting": name, "value": settings.shown(name), "origin": settings.origin(name)}
        for name in type(settings).model_fields
    ]
    write_rows(rows, ("setting", "value", "origin"), chosen(output, as_json))
