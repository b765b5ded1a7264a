"""Options that several commands share, and the settings they lead to."""

import getpass
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.errors import Refused
from tidegate_infra.cli.output import Format, say

if TYPE_CHECKING:
    from tidegate_infra.settings import Settings


CONTEXT = "tidegate.context"
"""Where the command's context stands for all of the command line."""


def _named(ctx: typer.Context, name: str | None) -> str | None:
    """Find the context, and let its tenant and environment stand where the command line says none."""
    if name is None or ctx.resilient_parsing:
        return name
    if ctx.params.get("data_dir") is not None and _is_from_variable(ctx):
        return None
    from tidegate_infra import contexts
    from tidegate_infra.document import FileError

    try:
        defaults = contexts.find(name).defaults
    except FileError as error:
        say(str(error))
        raise typer.Exit(error.exit_code) from None
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    ctx.meta[CONTEXT] = name
    return name


def _is_from_variable(ctx: typer.Context) -> bool:
    here, root = (one.get_parameter_source("context") for one in (ctx, ctx.find_root()))
    return (here and here.name, root and root.name) == ("DEFAULT_MAP", "ENVIRONMENT")


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        is_eager=True,  # --context has to know whether it is said
        help="Local stack to talk to; else TIDEGATE_* say where, else .tidegate if it runs.",
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        is_eager=True,
        callback=_named,
        help="Place to talk to, of `config contexts`; else TIDEGATE_CONTEXT names one.",
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]
Json = Annotated[bool, typer.Option("--json", help="Short for -o json.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Print again whenever it changes, until Ctrl-C.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Rollout, or tenant/environment/deployment.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant.")]
Environment = Annotated[
    str | None, typer.Option("--environment", metavar="NAME", help="Only this environment.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept in the record.")]


def noun(help_text: str) -> typer.Typer:
    """Make the group of a noun's commands."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def settings_of(data_dir: Path | None, context: str | None) -> "Settings":
    """Read the settings for a command that talks to what they name.

    Raises
    ------
    ConfigError
        A setting is wrong, or they are of a local stack that does not run.
    """
    from tidegate_infra.settings import none_runs
    from tidegate_infra.stack.directory import DataDirectory

    settings = settings_said(data_dir, context)
    # A stack that was killed leaves its file behind.
    if settings.are_of_a_stack and DataDirectory(settings.data_dir).holder() is None:
        raise none_runs(settings.data_dir)
    return settings


def settings_said(data_dir: Path | None, context: str | None) -> "Settings":
    """Read the settings: of the local stack or the context that is named, else of the environment, else here.

    Raises
    ------
    ConfigError
        A setting is wrong, or there is no stack.
    """
    from tidegate_infra.settings import STACK_FILE, Settings

    if data_dir is not None:
        if context is not None:
            raise typer.BadParameter("names another place than --data-dir: say one", param_hint="--context")
        return Settings.for_data_dir(data_dir)
    if context is None:
        settings = Settings.load()
    else:
        from tidegate_infra import contexts

        settings = Settings.in_context(contexts.find(context))
    if settings.origin("kafka") != "default":
        return settings
    is_there = (settings.data_dir / STACK_FILE).exists()
    if settings.origin("data_dir") != "default":
        return settings if is_there else Settings.for_data_dir(settings.data_dir)
    return Settings.load_here() if settings.origin("clickhouse") == "default" else settings


def agreed(question: str, *, yes: bool, alone: bool = False) -> None:
    """Ask before something changes.

    Parameters
    ----------
    question
        What is about to happen, and to what.
    yes
        ``--yes`` was said.
    alone
        Whether to go on where nobody can be asked: for what a deployment job repeats without harm.

    Raises
    ------
    Refused
        The answer was no, or nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        if alone:
            return
        raise Refused(f"{question} Nobody can be asked here: say --yes")
    if not typer.confirm(question, err=True):
        raise Refused("nothing was changed")


def actor() -> str:
    """Return who is at the keyboard, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container's user id needs no name
    return f"{user}@{socket.gethostname()}"


def chosen(output: Format, as_json: bool) -> Format:
    """Return the format that the two options ask for."""
    return Format.JSON if as_json else output


__all__ = [
    "Context",
    "DataDir",
    "DryRun",
    "Environment",
    "Json",
    "Name",
    "Output",
    "Reason",
    "Tenant",
    "Watch",
    "Yes",
    "actor",
    "agreed",
    "chosen",
    "noun",
    "say",
    "settings_of",
    "settings_said",
]
