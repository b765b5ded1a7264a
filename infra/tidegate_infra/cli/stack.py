"""``tidegate up``, ``down``, ``status`` and ``logs``: the local stack."""

import os
import re
import signal
import sys
import time
from collections import deque
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tidegate.errors import ConfigError
from tidegate_infra.cli.options import Json, Output, Watch, chosen, noun
from tidegate_infra.cli.output import Format, say, table, watched, write, write_one

if TYPE_CHECKING:
    from tidegate_infra.demos import Stage
    from tidegate_infra.settings import Settings
    from tidegate_infra.stack.member import Status

app = noun("The local stack.")

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", metavar="DIR", envvar="TIDEGATE_DATA_DIR", help="Where the stack lives."),
]
DEFAULT = Path(".tidegate")

_FOLLOW_SECONDS = 0.3
_NUMBER = re.compile(r"\d+")


@app.command()
def up(
    demo: Annotated[
        str | None, typer.Option(metavar="NAME", help="Play this demo when all is ready.")
    ] = None,
    exit_: Annotated[bool, typer.Option("--exit", help="End after the demo instead of staying up.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the demo's random choices.")] = 1,
    speed: Annotated[
        float, typer.Option(min=0, metavar="X", help="Times faster than life; 0 is the demo's own.")
    ] = 0,
    kafka_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 0,
    store_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 0,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Start the local stack: Kafka, the store and every process; Ctrl-C stops it.

    A demo begins anew: the Kafka and store that an earlier one left in the directory are removed; those of
    anything else are refused.
    With --demo --exit: 0 when the demo went as expected, else 1.
    """
    if exit_ and (demo is None or detach):
        raise typer.BadParameter("goes with --demo, and without --detach", param_hint="--exit")
    if demo is not None:
        _check(demo)
    if detach:
        _detached(
            data_dir,
            demo,
            [
                *_said("--seed", seed),
                *_said("--speed", speed),
                *_said("--kafka-port", kafka_port),
                *_said("--store-port", store_port),
            ],
        )
        return
    from tidegate_infra.stack.supervisor import Stack

    say(f"starting the stack in {data_dir}")
    with ExitStack() as resources:
        stage = None if demo is None else resources.enter_context(_staged(demo))
        stack = resources.enter_context(
            Stack(
                data_dir,
                kafka_port=kafka_port,
                store_port=store_port,
                settings=None if stage is None else stage.settings,
                demo=stage is not None,
                on_status=_Teller(),
            )
        )
        signal.signal(signal.SIGTERM, _asked_to_stop)
        say(_ready(stack.settings, data_dir))
        if stage is not None:
            summary = stage.play(stack.settings, seed=seed, speed=speed, say=say)
            for line in summary.lines:
                write(line)
            sys.stdout.flush()
            if exit_:
                say(f"the stack stops, its data stay; to start it again: tidegate up --data-dir {data_dir}")
                raise typer.Exit(0 if summary.ok else 1)
        say(f"Ctrl-C stops it; from another terminal: tidegate status --data-dir {data_dir}")
        stack.run_until_stopped()
    raise typer.Exit(130)


def _check(demo: str) -> None:
    from tidegate_infra.demos import DEMOS

    if demo not in DEMOS:
        raise typer.BadParameter(
            f"no demo is called {demo!r}: there is {', '.join(DEMOS)}", param_hint="--demo"
        )


def _staged(demo: str) -> "AbstractContextManager[Stage]":
    from tidegate_infra import demos

    return demos.staged(demos.DEMOS[demo])


def _asked_to_stop(_number: int, _frame: FrameType | None) -> NoReturn:
    # `tidegate down` ends it as intended, unlike Ctrl-C.
    raise typer.Exit(0)


class _Teller:
    """Says each change of a member's state once; that a wait goes on is no change."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, str]] = {}

    def __call__(self, status: "Status") -> None:
        news, last = (status.state, _NUMBER.sub("", status.detail)), self._said.get(status.name)
        never_ran = last is None and status.state == "stopped"
        if news not in (last, ("starting", "")) and not never_ran:
            say(f"  {status.name:<10} {status.state}{': ' if status.detail else ''}{status.detail}")
        self._said[status.name] = news


def _said(flag: str, value: object) -> list[str]:
    return [flag, str(value)] if value else []


def _detached(data_dir: Path, demo: str | None, flags: list[str]) -> None:
    from tidegate_infra.settings import Settings
    from tidegate_infra.stack import control

    command = [sys.executable, "-m", "tidegate_infra.cli", "up", "--data-dir", str(data_dir)]
    command += [*_said("--demo", demo), *flags]
    supervisor = control.up_detached(command, data_dir)
    running = Settings.for_data_dir(data_dir)
    say(_ready(running, data_dir))
    if demo is not None:
        say(f"demo {demo} plays; what comes of it: tidegate logs supervisor --data-dir {data_dir}")
    say(f"process {supervisor.pid}; stop it with: tidegate down --data-dir {data_dir}")


def _ready(settings: "Settings", data_dir: Path) -> str:
    return f"ready: Kafka {settings.kafka}, store {settings.clickhouse}, logs in {data_dir}/logs"


@app.command()
def down(data_dir: DataDir = DEFAULT) -> None:
    """Stop the local stack; its data stay.

    Exit 0 when one was stopped, 1 when none runs there.
    """
    from tidegate_infra.stack import control

    if not control.down(data_dir):
        say(_none_runs(data_dir))
        raise typer.Exit(1)
    say(f"stopped the stack in {data_dir}")


def _none_runs(data_dir: Path | str) -> str:
    return f"no stack runs in {data_dir}: tidegate up --data-dir {data_dir}"


@app.command()
def status(
    data_dir: DataDir = DEFAULT, output: Output = Format.TABLE, as_json: Json = False, watch: Watch = False
) -> None:
    """Show the processes of the local stack.

    Exit 0 when all of them are ready, 1 when one is not or no stack runs there.
    """
    facts: dict[str, Any] = {}

    def show(present: dict[str, Any]) -> None:
        facts.update(present)
        write_one(present, chosen(output, as_json), lambda: _status_lines(present))

    watched(lambda: _status(data_dir), show, watch)
    if not facts["ready"]:
        raise typer.Exit(1)


def _status(data_dir: Path) -> dict[str, Any]:
    from tidegate_infra.stack.directory import DataDirectory

    directory = DataDirectory(data_dir)
    pid, content = directory.holder(), directory.read()
    where = {"data_dir": str(directory.path), "running": pid is not None, "pid": pid}
    if pid is None or content is None:
        return where | {"ready": False, "settings": {}, "processes": []}
    return where | {
        "ready": content["ready"],
        "settings": content["settings"],
        "processes": list(content["processes"].values()),
    }


def _status_lines(present: dict[str, Any]) -> list[str]:
    if not present["running"]:
        return [_none_runs(present["data_dir"])]
    state = "ready" if present["ready"] else "not ready"
    return [
        f"stack in {present['data_dir']}, process {present['pid']}: {state}",
        *table(present["processes"], ("name", "state", "pid", "restarts", "health_port", "detail")),
    ]


@app.command()
def logs(
    process: Annotated[
        str | None, typer.Argument(metavar="[PROCESS]", help="All of them unless given.")
    ] = None,
    last: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines of each.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    data_dir: DataDir = DEFAULT,
) -> None:
    """Print what the processes of the local stack logged."""
    files = {file.stem: file for file in sorted((data_dir / "logs").glob("*.log"))}
    if not files:
        raise ConfigError(f"there are no logs in {data_dir}: tidegate up --data-dir {data_dir}")
    if process is not None and process not in files:
        raise typer.BadParameter(
            f"nothing called {process!r} logged here: there is {', '.join(files)}", param_hint="PROCESS"
        )
    shown = files if process is None else {process: files[process]}
    prefix = {name: f"{name:<{max(map(len, shown))}} | " if process is None else "" for name in shown}
    positions: dict[str, int] = {}
    for name, file in shown.items():
        with file.open(errors="replace") as lines:
            for line in deque(lines, maxlen=last):
                write(prefix[name] + line.rstrip("\n"))
            positions[name] = lines.tell()
    while follow:
        sys.stdout.flush()
        time.sleep(_FOLLOW_SECONDS)
        for name, file in shown.items():
            positions[name] = _print_new(file, positions[name], prefix[name])


def _print_new(file: Path, position: int, prefix: str) -> int:
    # A log that was begun anew is shorter than what was read of the old one.
    size = file.stat().st_size if file.exists() else 0
    with open(os.devnull if not size else file, errors="replace") as lines:  # noqa: PTH123
        lines.seek(position if size >= position else 0)
        for line in lines:
            write(prefix + line.rstrip("\n"))
        return lines.tell()
