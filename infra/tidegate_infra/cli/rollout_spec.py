"""``tidegate rollout apply`` and its like: what rollout files say, made the present specification."""

import dataclasses
import difflib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate_infra.cli.options import (
    Context,
    DataDir,
    DryRun,
    Environment,
    Json,
    Name,
    Reason,
    Tenant,
    Yes,
    actor,
    agreed,
    settings_of,
)
from tidegate_infra.cli.output import say, to_json, write

if TYPE_CHECKING:
    from tidegate.records import Rollout

File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Rollout as YAML.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (apply, diff, delete):
        app.command()(command)


def _read(file: Path, applied_us: int) -> "Rollout":
    """Read a rollout file; on mistakes, say each in a line of its own that editors can follow."""
    from tidegate_infra import rollout_file

    try:
        return rollout_file.read(file, applied_us)
    except rollout_file.FileError as error:
        say(str(error))
        raise typer.Exit(error.exit_code) from None


def apply(
    file: File,
    reason: Reason = None,
    again: Annotated[
        bool, typer.Option("--again", help="Start over even if the specification is unchanged.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Take it although it cannot decide in its time at the present traffic."),
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Make a file's specification the present one of its deployment.

    A changed specification gets the next generation and starts the rollout over; one that is unchanged
    changes nothing. When somebody else applied at the same time, one of the two ends with 5.
    """
    from tidegate.series import deployment_key
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import ENDED

    now_us = time.time_ns() // 1_000
    spec = dataclasses.replace(_read(file, now_us), actor=actor(), reason=reason, ts=now_us)
    settings = settings_of(data_dir, context)
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    present = rollout_log.present(settings, key)
    spec = dataclasses.replace(spec, generation=present.generation + 1, force=force)
    target = f"{key} on {settings.said(settings.kafka)}"
    if present.spec is not None and present.spec.spec_hash == spec.spec_hash and not (again or force):
        say(f"{target}: {spec.name} is unchanged (generation {present.generation}); nothing was written")
        _applied(present.spec, "unchanged", as_json)
        return
    stands = rollout_log.progress(settings).get(key)
    if stands is not None and stands.state not in ENDED:
        running = f"{stands.rollout} (generation {stands.generation}), which is {stands.state}"
        say(f"{target}: {spec.name} replaces {running}: that ends without a verdict, its evidence is dropped")
    if dry_run:
        say(f"{target}: would apply {spec.name} as generation {spec.generation}")
        _applied(spec, "dry run", as_json)
        return
    agreed(f"Apply rollout {spec.name} to {target}?", yes=yes, alone=True)
    rollout_log.put(settings, spec, present)
    say(f"{target}: {spec.name} is generation {spec.generation}; `tidegate rollout status {spec.name}`")
    _applied(spec, "applied", as_json)


def _applied(spec: "Rollout", what: str, as_json: bool) -> None:
    if as_json:
        write(
            to_json(
                {
                    "result": what,
                    "name": spec.name,
                    "tenant": spec.tenant,
                    "environment": spec.environment,
                    "deployment": spec.deployment,
                    "generation": spec.generation,
                    "spec_hash": spec.spec_hash,
                }
            )
        )


def diff(file: File, data_dir: DataDir = None, context: Context = None, as_json: Json = False) -> None:
    """Print how a file differs from the present specification; exit 1 when it does."""
    from tidegate.series import deployment_key
    from tidegate_infra import rollout_log

    spec = _read(file, 0)
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    present = rollout_log.present(settings_of(data_dir, context), key).spec
    differs = present is None or present.spec_hash != spec.spec_hash
    before = [] if present is None else present.source_yaml.splitlines()
    name = "nothing" if present is None else f"{key} generation {present.generation}"
    lines = list(difflib.unified_diff(before, spec.source_yaml.splitlines(), name, str(file), lineterm=""))
    if as_json:
        write(to_json({"key": key, "differs": differs, "diff": lines if differs else []}))
    elif differs:
        write("\n".join(lines))
    if differs:
        raise typer.Exit(1)
    say(f"{name}: no difference")


def delete(
    name: Name,
    yes: Yes = False,
    dry_run: DryRun = False,
    tenant: Tenant = None,
    environment: Environment = None,
    data_dir: DataDir = None,
    context: Context = None,
) -> None:
    """Withdraw a specification: a rollout that has not ended is aborted, all traffic goes to the baseline."""
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import found

    settings = settings_of(data_dir, context)
    specs = rollout_log.specs(settings)
    key = found(name, specs, {}, tenant, environment)
    target = f"{key} on {settings.said(settings.kafka)}"
    if dry_run:
        say(f"{target}: would delete rollout {specs[key].name}")
        return
    agreed(f"Delete rollout {specs[key].name} of {target}?", yes=yes)
    rollout_log.delete(settings, key)
    say(f"{target}: rollout {specs[key].name} is deleted")
