"""The root of the command line: what there is, how errors end, and nothing imported before it is needed."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from tidegate.errors import InvariantBroken, TidegateError
from tidegate_infra.cli import extensions
from tidegate_infra.cli.options import CONTEXT, DataDir
from tidegate_infra.cli.output import say

COMMANDS = {
    "up": ("stack", "Start the local stack: Kafka, the store and every process."),
    "down": ("stack", "Stop the local stack."),
    "status": ("stack", "Show the processes of the local stack."),
    "logs": ("stack", "Print what the processes of the local stack logged."),
    "run": ("run", "Run one process in the foreground, as containers do."),
    "emit": ("emit", "Send JSON lines to Kafka: calls, feedback and evaluations."),
    "backtest": (extensions.INSTALLED, "Say what a rollout would have done over events of the past."),
    "rollout": ("rollout", "Specifications of rollouts, where they stand, and manual actions."),
    "deployment": ("deployment", "Present weights, and the commands that led to them."),
    "alert": (extensions.INSTALLED, "What fires, who is told, and silences."),
    "sql": ("sql", "Query the store."),
    "ledger": ("ledger", "Account for every event of every producer."),
    "topic": ("topic", "Topics as code."),
    "migration": ("migration", "Tables of the store as code."),
    "schema": ("schema", "The contract: its records, fields and history."),
    "dlq": ("dlq", "Dead letters: what was refused, why, and putting it back."),
    "config": ("config", "Settings and where they come from."),
    "doctor": ("doctor", "Check that everything is reachable, compatible and balanced."),
    "version": ("version", "Print the version."),
}
"""Command -> its module in this package, or that it is an extension, and what it is for."""

_OF_A_LOCAL_STACK = [name for name, (module, _) in COMMANDS.items() if module == "stack"]


class Root(TyperGroup):
    """Group that imports a command's module when the command is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # The names alone, from which a misspelt command finds its nearest.
        self.commands = dict.fromkeys(COMMANDS, cast("Any", None))

    def list_commands(self, _ctx: Any) -> list[str]:
        """Return the names in the table's order."""
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """Import the module that holds a command."""
        if cmd_name not in COMMANDS:
            return None
        named = COMMANDS[cmd_name][0]
        if named == extensions.INSTALLED:
            commands = extensions.find(cmd_name)
        else:
            commands = importlib.import_module(f"tidegate_infra.cli.{named}").app
        group = typer.main.get_group(commands)
        return group.commands.get(cmd_name, group)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; --data-dir and --context before it hold as if they were said behind it."""
        name, command, rest = super().resolve_command(ctx, args)
        said = {key: value for key, value in ctx.params.items() if value is not None}
        source = ctx.get_parameter_source("context")
        if name in _OF_A_LOCAL_STACK and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{name} is about a local stack: say --data-dir", param_hint="--context")
        ctx.default_map = {name: said | dict.fromkeys(getattr(command, "commands", {}), said)}
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except TidegateError as error:
            say(f"tidegate: {_advice(str(error), ctx.meta.get(CONTEXT))}")
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            # Who reads us has seen enough. The interpreter must not fail again on its own last flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        return result

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write the table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - always ends with an exit code
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with the code that its outcome has in the documentation."""
        try:
            code = super().main(
                args, prog_name or "tidegate", complete_var, False, windows_expand_args, **extra
            )
        except TyperException as error:
            error.show()  # type: ignore[attr-defined]  # every one that gets here has it
            code = error.exit_code
        except (KeyboardInterrupt, typer.Abort):
            code = 130
        except ModuleNotFoundError:
            raise
        except Exception:  # noqa: BLE001 - printed in full
            traceback.print_exc()
            say("tidegate: this is a defect of Tidegate; please report it with the lines above")
            code = InvariantBroken.exit_code
        sys.exit(code if isinstance(code, int) else 0)


def _advice(words: str, context: str | None) -> str:
    if context is None:
        return words
    from tidegate_infra import contexts

    return contexts.advice(words, context)


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Release control for LLM applications, on Kafka.",
    epilog=(
        "Exit codes: 0 fine, 1 found problems, 2 usage, 3 configuration invalid, 4 dependency unreachable, "
        "5 refused, 6 timed out or undecided, 70 a defect, 130 interrupted."
    ),
)


@app.callback()
def _root(
    data_dir: DataDir = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="NAME",
            envvar="TIDEGATE_CONTEXT",
            help="Place to talk to: `config contexts`.",
        ),
    ] = None,
) -> None:
    """Take what may be said before the command; `Root.resolve_command` hands it on."""
