"""``tidegate doctor``: is everything reachable, compatible and balanced."""

import dataclasses

import typer

from tidegate_infra.cli.options import Context, DataDir, Json, Output, chosen, noun, settings_of
from tidegate_infra.cli.output import Format, say, write_rows

app = noun("Check that everything is reachable, compatible and balanced.")


@app.command("doctor")
def doctor(
    data_dir: DataDir = None, context: Context = None, output: Output = Format.TABLE, as_json: Json = False
) -> None:
    """Check that everything is reachable, compatible and balanced.

    Each line is ok, warn or fail, with the command that helps; exit 1 when any failed.
    """
    from tidegate_infra import contexts
    from tidegate_infra.checkup import checkup

    findings = list(checkup(settings_of(data_dir, context)))
    rows = [dataclasses.asdict(finding) for finding in findings]
    if context is not None:
        rows = [row | {"words": contexts.advice(row["words"], context)} for row in rows]
    write_rows(rows, ("verdict", "question", "words", "fix"), chosen(output, as_json))
    counts = {v: sum(f.verdict == v for f in findings) for v in ("ok", "warn", "fail")}
    say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["fail"]:
        raise typer.Exit(1)
