"""``tidegate sql``: query the store."""

import shutil
import sys
from typing import IO, Annotated, cast

import typer

from tidegate_infra.cli.options import Context, DataDir, Json, Output, chosen, noun, settings_of
from tidegate_infra.cli.output import Format, from_json_lines, to_yaml, write

app = noun("Query the store.")

_FORMATS = {
    Format.TABLE: "PrettyCompactMonoBlock",
    Format.WIDE: "Vertical",
    Format.JSON: "JSONEachRow",
    Format.YAML: "JSONEachRow",
}


@app.command("sql")
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY|-", help="- reads it from standard input.")],
    may_write: Annotated[
        bool, typer.Option("--write", help="Allow statements that change something.")
    ] = False,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Query the store, in ClickHouse's SQL; a FORMAT clause of your own wins over -o.

    Only reading is allowed unless --write is said. Exit 1 when the query is wrong or fails, with the store's
    message; 3 when Tidegate's tables are not there, 4 when the store does not answer, 5 when a change is
    refused.
    """
    from tidegate_infra.cli.store import connected

    text = sys.stdin.read() if query == "-" else query
    how = chosen(output, as_json)
    headers = {"X-ClickHouse-Format": _FORMATS[how]}
    with connected(settings_of(data_dir, context), readonly=not may_write) as store:
        answer = cast("IO[bytes]", store.raw_stream(text, transport_settings=headers))
        if how is Format.YAML:
            write(to_yaml(from_json_lines(answer.read().decode())))
        else:
            sys.stdout.flush()
            shutil.copyfileobj(answer, sys.stdout.buffer)
