"""``tidegate sql``: query the store."""

import shutil
import sys
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer

from tidegate.errors import DependencyUnavailable, Refused, TidegateError
from tidegate_infra.cli.options import DataDir, Json, Output, chosen, noun, settings_of
from tidegate_infra.cli.output import Format, from_json_lines, to_yaml, write

if TYPE_CHECKING:
    from clickhouse_connect.driver.exceptions import Error

app = noun("Query the store.")

_FORMATS = {
    Format.TABLE: "PrettyCompactMonoBlock",
    Format.WIDE: "Vertical",
    Format.JSON: "JSONEachRow",
    Format.YAML: "JSONEachRow",
}
_READONLY = 164


@app.command("sql")
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY|-", help="- reads it from standard input.")],
    may_write: Annotated[
        bool, typer.Option("--write", help="Allow statements that change something.")
    ] = False,
    data_dir: DataDir = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Query the store, in ClickHouse's SQL; a FORMAT clause of your own wins over -o.

    Only reading is allowed unless --write is said.
    """
    from clickhouse_connect.driver.exceptions import Error

    from tidegate_infra.clickhouse import client

    text = sys.stdin.read() if query == "-" else query
    how = chosen(output, as_json)
    # The numbers of JSON hold no more than 53 bits; money and offsets stay exact as they are written.
    headers = {"X-ClickHouse-Format": _FORMATS[how]}
    with client.connect(settings_of(data_dir), readonly=not may_write) as store:
        try:
            answer = cast("IO[bytes]", store.raw_stream(text, transport_settings=headers))
            if how is Format.YAML:
                write(to_yaml(from_json_lines(answer.read().decode())))
            else:
                sys.stdout.flush()
                shutil.copyfileobj(answer, sys.stdout.buffer)
        except Error as error:
            raise _explained(error) from None


def _explained(error: "Error") -> TidegateError:
    if error.code == _READONLY:
        return Refused(f"only reading is allowed, unless you say --write: {error}")
    if error.code is None:
        return DependencyUnavailable(f"the store did not answer: {error}")
    return TidegateError(str(error))
