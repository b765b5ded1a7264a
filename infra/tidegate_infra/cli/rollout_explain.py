"""``tidegate rollout explain``: why a rollout stands where it does, and what it would take to promote it."""

from functools import partial

import typer

from tidegate_infra.cli import extensions
from tidegate_infra.cli.options import (
    Context,
    DataDir,
    Environment,
    Json,
    Name,
    Output,
    Tenant,
    chosen,
    settings_of,
)
from tidegate_infra.cli.output import Format, write_one


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    name: Name,
    tenant: Tenant = None,
    environment: Environment = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Say why a rollout stands where it does, what each metric shows, and what a promotion would take."""
    from tidegate.errors import ConfigError
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import found

    settings = settings_of(data_dir, context)
    specs, progress = rollout_log.specs(settings), rollout_log.progress(settings)
    key = found(name, specs, progress, tenant, environment, partial(rollout_log.former, settings))
    if key not in specs:
        raise ConfigError(
            f"the specification of {key} was deleted: `tidegate rollout show {key}` tells its end"
        )
    # Who decides also explains.
    explanation = extensions.find("explain")
    stands = specs[key], progress.get(key)
    write_one(explanation.explained(*stands), chosen(output, as_json), lambda: explanation.lines(*stands))
