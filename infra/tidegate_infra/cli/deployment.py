"""``tidegate deployment``: present weights, and the commands that led to them."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from tidegate_infra.cli.options import (
    Context,
    DataDir,
    Environment,
    Json,
    Output,
    Tenant,
    Watch,
    chosen,
    noun,
    settings_of,
)
from tidegate_infra.cli.output import Format, time_text, watched, write_rows

app = noun("Present weights, and the commands that led to them.")

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Deployment; all of them unless given.")]


_COLUMNS = (
    "tenant",
    "environment",
    "deployment",
    "revision",
    "state",
    "commanded",
    "weights",
    "rollout",
    "since",
)


@app.command()
def show(
    name: Name = None,
    tenant: Tenant = None,
    environment: Environment = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
    watch: Watch = False,
) -> None:
    """Show what each deployment should serve now: the highest revision, with its weights.

    STATE is where its rollout stands at present, COMMANDED what it came to by that revision: a rollout goes
    on after a command, and ends without one.
    """
    from tidegate import codec
    from tidegate.topics import DEPLOYMENTS
    from tidegate_infra import rollout_log
    from tidegate_infra.cli.rollout_view import weights_text, within
    from tidegate_infra.kafka import scan

    settings = settings_of(data_dir, context)
    how = chosen(output, as_json)

    def read() -> list[dict[str, Any]]:
        commands = scan.newest(settings, DEPLOYMENTS)
        progress = rollout_log.progress(settings)
        return [
            _row(codec.as_dict(command), progress.get(key))
            for key, command in sorted(commands.items())
            if within(key, tenant, environment) and name in (None, command.deployment, key)
        ]

    def print_them(commands: list[dict[str, Any]]) -> None:
        rows = commands
        if how in (Format.TABLE, Format.WIDE):
            rows = [
                command
                | {
                    "weights": weights_text({w["variant"]: w["weight_bp"] for w in command["weights"]}),
                    "since": time_text(command["ts"]),
                }
                for command in commands
            ]
        write_rows(
            rows,
            _COLUMNS,
            how,
            wide=("generation", "step", "action", "actor", "reason", "command_id"),
            nothing="no deployment has a command",
        )

    watched(read, print_them, watch)


def _row(command: dict[str, Any], progress: Any) -> dict[str, Any]:
    """Return a command with the state at present beside the one it came to; None while it is not known."""
    is_same = progress is not None and progress.generation == command["generation"]
    return command | {"commanded": command["state"], "state": progress.state if is_same else None}


@app.command()
def log(
    name: Name = None,
    tenant: Tenant = None,
    environment: Environment = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """List the commands on llm.deployments and what appliers answered, in order of time.

    Kafka keeps the newest command of a deployment, and all of the last 30 days; the store's table
    deployment_commands keeps every one.
    """
    settings = settings_of(data_dir, context)
    entries = [
        entry
        for entry in _entries(settings)
        if name in (None, entry["deployment"])
        and tenant in (None, entry["tenant"])
        and environment in (None, entry["environment"])
    ]
    how = chosen(output, as_json)
    if how in (Format.TABLE, Format.WIDE):
        entries = [entry | {"time": time_text(entry["ts"])} for entry in entries]
    write_rows(
        entries,
        ("time", "deployment", "kind", "revision", "what", "by", "detail"),
        how,
        wide=("tenant", "environment", "command_id"),
        most_chars=80,
    )


def _entries(settings: Any) -> list[dict[str, Any]]:
    from tidegate.topics import DEPLOYMENTS, STATUS
    from tidegate_infra.kafka import scan

    def read() -> Iterator[dict[str, Any]]:
        for _, command in scan.records(settings, DEPLOYMENTS):
            if command is not None:
                yield _entry(command, "command", command.action, command.actor, command.reason)
        for _, status in scan.records(settings, STATUS):
            if status is not None:
                yield _entry(status, "answer", status.status, status.applier, status.detail)

    # A command may stand twice: it is published again when a lower revision was appended behind it.
    once = {(entry["command_id"], entry["kind"], entry["by"], entry["what"]): entry for entry in read()}
    return sorted(
        once.values(), key=lambda entry: (entry["ts"], entry["revision"], entry["kind"] != "command")
    )


def _entry(record: Any, kind: str, what: str, by: str, detail: str | None) -> dict[str, Any]:
    return {
        "ts": record.ts,
        "tenant": record.tenant,
        "environment": record.environment,
        "deployment": record.deployment,
        "kind": kind,
        "revision": record.revision,
        "what": what,
        "by": by,
        "detail": detail,
        "command_id": record.command_id,
    }
