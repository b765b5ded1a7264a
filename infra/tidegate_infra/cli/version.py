"""``tidegate version``."""

import platform
from importlib.metadata import version as version_of

from tidegate_infra.cli.options import Json, Output, chosen, noun
from tidegate_infra.cli.output import Format, write_one

app = noun("Print the version.")


@app.command("version")
def version(output: Output = Format.TABLE, as_json: Json = False) -> None:
    """Print the version."""
    facts = {"version": version_of("tidegate"), "python": platform.python_version()}
    write_one(facts, chosen(output, as_json), lambda: [facts["version"]])
