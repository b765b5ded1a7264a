"""``tidegate rollout lint``: every mistake of rollout files, for editors and for CI."""

import dataclasses
import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate_infra.cli.options import Json, Output, chosen
from tidegate_infra.cli.output import Format, say, write_rows

_ENDINGS = (".yaml", ".yml")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(lint)


def lint(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Rollouts as YAML; directories and patterns of them too."),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="The same, as `apply` takes it; repeat it for more."
        ),
    ] = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Check rollout files and name every error as FILE:LINE:COLUMN: what; asks neither Kafka nor the store.

    Exit 0 when all are fine, 3 when any is not or there is none.
    """
    asked = [*(places or []), *(file or [])]
    if not asked:
        raise typer.BadParameter("say which files", param_hint="FILE")
    found = [_checked(path) for path in _files(asked)]
    how = chosen(output, as_json)
    if how in (Format.JSON, Format.YAML):
        write_rows(found, (), how)
    bad = sum(not one["fine"] for one in found)
    if len(found) > 1:
        say(f"{len(found)} files: {f'{bad} with mistakes' if bad else 'all fine'}")
    raise typer.Exit(3 if bad else 0)


def _checked(path: Path) -> dict[str, Any]:
    from tidegate_infra import rollout_file

    problems: list[rollout_file.Problem] = []
    try:
        if path.is_dir():
            what = "no rollout file is in this directory: a name ends in .yaml or .yml"
            raise rollout_file.FileError([rollout_file.Problem(str(path), 1, 1, "", what)])
        spec = rollout_file.read(path)
        say(f"{path}: fine: {spec.name}, {len(spec.steps)} steps, {len(spec.metrics)} metrics")
    except rollout_file.FileError as error:
        problems = error.problems
        say(str(error))
    rows = [dataclasses.asdict(problem) for problem in problems]
    return {"file": str(path), "fine": not problems, "problems": rows}


def _files(places: Iterable[str]) -> Iterator[Path]:
    """Yield each file once: those named, those below directories, and those that patterns match."""
    seen = set()
    for place in places:
        path = Path(place)
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.suffix in _ENDINGS and one.is_file())
        elif path.exists():
            found = [path]
        else:
            found = sorted(map(Path, glob.glob(place, recursive=True)))  # noqa: PTH207 - also absolute ones
        # What does not exist, or holds nothing, is checked all the same: the error names it.
        for one in found or [path]:
            if one not in seen:
                seen.add(one)
                yield one
