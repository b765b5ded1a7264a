"""``tidegate rollout pause`` and its like: what a person does to a rollout, recorded with who and why."""

import time
import uuid
from collections.abc import Callable
from typing import Annotated

import typer

from tidegate.errors import Refused
from tidegate_infra.cli.options import (
    Context,
    DataDir,
    DryRun,
    Environment,
    Json,
    Name,
    Tenant,
    Yes,
    actor,
    agreed,
    settings_of,
)
from tidegate_infra.cli.output import say, to_json, write

ACTIONS = {
    "pause": "Stop advancing; weights stay, and harm still rolls back.",
    "resume": "Go on after a pause.",
    "approve": "Let the present step be left once it is complete, where it waits for a person.",
    "promote": "Send all traffic to the candidate, whatever the metrics say.",
    "advance": "Go to the next step now.",
    "rollback": "Send all traffic to the baseline; the candidate has failed.",
    "abort": "Send all traffic to the baseline, without a verdict.",
}
"""Action -> what it does."""

Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the record.")]
ExpectedRevision = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Only if the deployment is still at this revision; else the one seen now."
    ),
]
ExpiresIn = Annotated[
    float | None, typer.Option(min=1, metavar="SECONDS", help="Void when it was not taken up by then.")
]

Target = Annotated[
    str | None,
    typer.Option(metavar="CANDIDATE", help="Of several candidates, the one to promote or to give up."),
]
Wait = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the stream to refuse it.")
]


def add_to(app: typer.Typer) -> None:
    """Add one command an action."""
    for name, help_text in ACTIONS.items():
        app.command(name, help=help_text)(_command(name))


def _command(action: str) -> Callable[..., None]:
    def act(
        name: Name,
        reason: Why = "no reason given",
        target: Target = None,
        expected_revision: ExpectedRevision = None,
        expires_in: ExpiresIn = None,
        wait: Wait = 3,
        yes: Yes = False,
        dry_run: DryRun = False,
        tenant: Tenant = None,
        environment: Environment = None,
        data_dir: DataDir = None,
        context: Context = None,
        as_json: Json = False,
    ) -> None:
        from tidegate import codec
        from tidegate.records import RolloutAction
        from tidegate_infra import rollout_log
        from tidegate_infra.cli.rollout_view import found, shown

        settings = settings_of(data_dir, context)
        specs, progress = rollout_log.specs(settings), rollout_log.progress(settings)
        key = found(name, specs, {}, tenant, environment)
        view = shown(specs[key], progress.get(key))
        now_us = time.time_ns() // 1_000
        record = RolloutAction(
            action_id=str(uuid.uuid4()),
            key=key,
            generation=specs[key].generation,
            action=action,
            target=target,
            expected_revision=view["revision"] if expected_revision is None else expected_revision,
            actor=actor(),
            reason=reason,
            ts=now_us,
            expires_at=None if expires_in is None else now_us + round(expires_in * 1e6),
        )
        of = f"{target} in " if target else ""
        what = f"{of}{view['name']} of {key} on {settings.said(settings.kafka)}"
        if dry_run:
            say(f"would {action} {what}, which is {view['state']}")
            write(codec.as_json(record))
            return
        agreed(f"{action.capitalize()} {what}, which is {view['state']}?", yes=yes)
        rollout_log.act(settings, record)
        answer = rollout_log.refusal(settings, record, wait) if wait else None
        if answer is not None:
            raise Refused(f"{what}: {action} was {answer.status}: {answer.detail}")
        say(f"recorded: {action} {what} by {record.actor}; `tidegate rollout status {view['name']}`")
        if as_json:
            write(to_json(codec.as_dict(record)))

    act.__name__ = action
    return act
