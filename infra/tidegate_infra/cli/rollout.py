"""``tidegate rollout``: specifications, and where they stand."""

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate_infra.cli import rollout_action, rollout_explain, rollout_lint, rollout_spec
from tidegate_infra.cli.options import (
    Context,
    DataDir,
    Environment,
    Json,
    Name,
    Output,
    Tenant,
    Watch,
    chosen,
    noun,
    settings_of,
)
from tidegate_infra.cli.output import Format, say, time_text, watched, write_one, write_rows

if TYPE_CHECKING:
    from tidegate.records import Rollout, RolloutProgress
    from tidegate_infra.settings import Settings

app = noun("Specifications of rollouts, where they stand, and manual actions.")


@app.command("list")
def list_(
    tenant: Tenant = None,
    environment: Environment = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those too whose specification is gone.")
    ] = False,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
    watch: Watch = False,
) -> None:
    """List the rollouts and where each stands."""
    from tidegate_infra.cli.rollout_view import weights_text, within

    settings = settings_of(data_dir, context)
    how = chosen(output, as_json)

    def read() -> list[dict[str, Any]]:
        return [
            view
            for key, view in _views(settings).items()
            if within(key, tenant, environment) and (deleted or not view["deleted"])
        ]

    def print_them(views: list[dict[str, Any]]) -> None:
        if how in (Format.TABLE, Format.WIDE):
            views = [view | {"weights": weights_text(view["weights"])} for view in views]
            views = [view | {"started": time_text(view["started_at"])} for view in views]
            views = [view | {"step": None if view["step"] is None else view["step"] + 1} for view in views]
        write_rows(
            views,
            ("name", "tenant", "environment", "deployment", "state", "step", "steps", "weights"),
            how,
            wide=("revision", "generation", "started", "reason"),
        )

    watched(read, print_them, watch)


@app.command()
def show(
    name: Name,
    tenant: Tenant = None,
    environment: Environment = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
    watch: Watch = False,
) -> None:
    """Show one rollout: state, weights, and what every metric says with its evidence."""
    from tidegate_infra.cli.rollout_view import lines

    settings = settings_of(data_dir, context)
    watched(
        lambda: _view(settings, name, tenant, environment),
        lambda view: write_one(view, chosen(output, as_json), lambda: lines(view)),
        watch,
    )


@app.command()
def status(
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is promoted or rolled back.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="How long to wait; without end unless given."),
    ] = None,
    tenant: Tenant = None,
    environment: Environment = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Say in a line where a rollout stands.

    With --wait: exit 0 promoted, 1 rolled back, 6 ended otherwise or still undecided.
    """
    from tidegate_infra.cli.rollout_view import ENDED, PROMOTED, ROLLED_BACK, weights_text

    settings = settings_of(data_dir, context)
    view = _view(settings, name, tenant, environment)
    if wait and view["state"] not in ENDED:
        view = _awaited(settings, view, timeout)
    step = "" if view["step"] is None else f", step {view['step'] + 1} of {view['steps']}"
    line = f"{view['name']}: {view['state']}{step}, {weights_text(view['weights'])}: {view['reason']}"
    write_one(view, chosen(output, as_json), lambda: [line])
    if wait:
        state = view["state"]
        raise typer.Exit(0 if state in PROMOTED else 1 if state in ROLLED_BACK else 6)


def _awaited(settings: "Settings", view: dict[str, Any], timeout_seconds: float | None) -> dict[str, Any]:
    """Follow the topic until the rollout has ended or time is up, and return the last view."""
    from tidegate.series import deployment_key
    from tidegate.topics import PROGRESS
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import ENDED
    from tidegate_infra.kafka import scan

    key = deployment_key(view["tenant"], view["environment"], view["deployment"])
    spec = rollout_log.present(settings, key).spec
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    newest: RolloutProgress | None = None
    said = ""
    for step in scan.follow(settings, PROGRESS):
        if step is not None and step[0] == key and step[1] is not None:
            rank = scan.RANKS[PROGRESS]
            newest = step[1] if newest is None or rank(step[1]) > rank(newest) else newest
        elif step is None:
            view = _joined(settings, spec, newest) if spec or newest else view
            if view["state"] in ENDED:
                break
            if said != (said := f"{view['state']}: {view['reason']}"):
                say(said)
        if deadline is not None and time.monotonic() > deadline:
            break
    return view


@app.command()
def history(
    name: Name,
    tenant: Tenant = None,
    environment: Environment = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """List what was applied, done by hand and commanded, by the time at which it was written to Kafka.

    Kafka keeps the newest specification and command; of specifications all of the last day, of commands all
    of the last 30 days.
    """
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import found

    settings = settings_of(data_dir, context)
    specs, progress = rollout_log.specs(settings), rollout_log.progress(settings)
    former = partial(rollout_log.former, settings)
    key = found(name, specs, progress, tenant, environment, former, past=True)
    events = rollout_log.history(settings, key)
    how = chosen(output, as_json)
    if how in (Format.TABLE, Format.WIDE):
        events = [event | {"time": time_text(event["ts"])} for event in events]
    columns = ("time", "kind", "what", "generation", "revision", "by", "reason")
    write_rows(events, columns, how, wide=("id",), most_chars=80)


rollout_explain.add_to(app)
rollout_lint.add_to(app)
rollout_spec.add_to(app)
rollout_action.add_to(app)


def _views(settings: "Settings") -> dict[str, dict[str, Any]]:
    from tidegate_infra import rollout_log

    specs, progress = rollout_log.specs(settings), rollout_log.progress(settings)
    keys = sorted({*specs, *progress})
    return {key: _joined(settings, specs.get(key), progress.get(key)) for key in keys}


def _view(settings: "Settings", name: str, tenant: str | None, environment: str | None) -> dict[str, Any]:
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import found

    specs, progress = rollout_log.specs(settings), rollout_log.progress(settings)
    key = found(name, specs, progress, tenant, environment, partial(rollout_log.former, settings))
    return _joined(settings, specs.get(key), progress.get(key))


def _joined(
    settings: "Settings", spec: "Rollout | None", progress: "RolloutProgress | None"
) -> dict[str, Any]:
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import is_pending, shown

    refusal = rollout_log.refused(settings, spec) if spec is not None and is_pending(spec, progress) else None
    return shown(spec, progress, refusal)
