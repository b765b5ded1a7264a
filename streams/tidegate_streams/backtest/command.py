"""``tidegate backtest``: what a rollout would have done over events of the past."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tidegate.errors import ConfigError
from tidegate_infra.cli.options import Context, DataDir, Json, Output, chosen, noun, settings_of
from tidegate_infra.cli.output import Format, say, time_text, write_one

if TYPE_CHECKING:
    from tidegate.records import Rollout, RolloutAction
    from tidegate_streams.backtest.outcome import Outcome
    from tidegate_streams.backtest.pieces import Piece
    from tidegate_streams.backtest.tally import Tally

T = TypeVar("T")

app = noun("Say what a rollout would have done over events of the past.")


class Assignment(StrEnum):
    """Which calls count for a command."""

    RECORDED = "recorded"
    ANY = "any"


@app.command("backtest")
def backtest(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROLLOUT EVENTS]", help="Short for --file ROLLOUT --events EVENTS."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Rollout as YAML.")
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|kafka|clickhouse",
            help="JSON lines, Parquet or Avro; or what Kafka or the store holds. Repeat it for more.",
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only events from this time on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only events before this time.")] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the rollout is applied; with the first event unless given."),
    ] = None,
    assignment: Annotated[
        Assignment | None,
        typer.Option(
            help="Count calls for the command that each obeyed, as live, or for the one in force; recorded "
            "wherever calls say what they obeyed, unless given."
        ),
    ] = None,
    revision: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of the first command, where calls say what they obeyed.")
    ] = 1,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw e-values and intervals over time.")
    ] = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Say what a rollout would have done over events of the past: the commands, when, and why.

    It is decided as live, by the same code, over the events in the order of their time. Exit 0 when it would
    have been promoted, 1 rolled back, 6 neither.
    """
    from tidegate_infra.prices import PriceBook
    from tidegate_streams.backtest import drive, picture
    from tidegate_streams.backtest.outcome import Outcome
    from tidegate_streams.backtest.tally import Tally

    figures = picture.library() if png else None
    file, events = _named(places or [], file, events or [])
    spec = _read(file)
    start_us = _time(start, "--start")
    tally = Tally(spec, PriceBook.load(), _time(since, "--since"), _time(until, "--until"))
    for source in events:
        read = _pieces(source, tally, data_dir, context)
        with _progress(source, read, lambda piece: piece.share) as pieces:
            for piece in pieces:
                tally.refuse(piece.source, piece.refused)
                tally.add(piece.source, piece.record, piece.events, piece.append_us)
    rows = tally.partials()
    _say_what_did_not_count(tally)
    _check_that_something_counts(tally, drive.last_pane_us(rows), start_us)
    begins_us = drive.first_pane_us(rows) if start_us is None else start_us
    if begins_us is not None:
        spec = _read(file, begins_us)
    obeyed = drive.obeyed(rows)
    if assignment is None:
        assignment = Assignment.RECORDED if obeyed else Assignment.ANY
    is_any = assignment is Assignment.ANY
    actions = [] if is_any or "kafka" not in events else _actions(tally, revision, data_dir, context)
    # Without anybody there is nobody who could resume it.
    spec = dataclasses.replace(spec, dry_run=spec.dry_run or is_any, paused=spec.paused and bool(actions))
    rows = drive.released(rows, as_if_assigned=is_any, asked={one.dimension for one in spec.filters})
    decided = drive.decide(spec, rows, start_us=start_us, revision=revision, actions=actions)
    with _progress("looks", decided, drive.share_of(rows)) as records:
        outcome = Outcome.of(spec, records)
    if outcome.refusal:
        say(f"the stream would refuse this rollout: {outcome.refusal}")
    _say_what_is_not_named(drive.by_variant(rows), spec)
    if assignment is Assignment.RECORDED:
        _say_what_was_not_commanded(obeyed, outcome)
    if png is not None:
        picture.draw(figures, outcome, png)
    view = outcome.view(tally) | {"assignment": assignment.value}
    write_one(view, chosen(output, as_json), outcome.lines)
    raise typer.Exit(outcome.exit_code)


def _named(places: list[str], file: Path | None, events: list[str]) -> tuple[Path, list[str]]:
    """Take the rollout and the events from either way of saying them."""
    if places and file is None:
        file, places = Path(places[0]), places[1:]
    events = [*places, *events]
    if file is None:
        raise typer.BadParameter("say which rollout", param_hint="--file")
    if not events:
        raise typer.BadParameter("say which events", param_hint="--events")
    return file, events


def _read(file: Path, applied_us: int = 0) -> "Rollout":
    from tidegate_infra import rollout_file

    try:
        return dataclasses.replace(rollout_file.read(file, applied_us), generation=1, actor="backtest")
    except rollout_file.FileError as error:
        say(str(error))
        raise typer.Exit(error.exit_code) from None


def _time(text: str | None, option: str) -> int | None:
    from tidegate.intake import microseconds

    if text is None:
        return None
    ts_us = int(text) if text.isdecimal() else microseconds(text)
    if ts_us is None:
        raise typer.BadParameter(
            f"{text!r} is neither microseconds nor such as 2026-03-01T12:00:00Z", param_hint=option
        )
    return ts_us


def _pieces(source: str, tally: "Tally", data_dir: Path | None, context: str | None) -> "Iterator[Piece]":
    if source == "kafka":
        from tidegate_streams.backtest import log

        return log.read(settings_of(data_dir, context), tally.since_us)
    if source == "clickhouse":
        from tidegate_streams.backtest import store

        return store.read(settings_of(data_dir, context), tally.spec, tally.since_us, tally.until_us)
    from tidegate_streams.backtest import files

    spec = tally.spec
    stand_ins = {"tenant": spec.tenant, "environment": spec.environment, "app": spec.deployment}
    return files.read(Path(source), stand_ins | {"variant": "default"})


def _actions(
    tally: "Tally", revision: int, data_dir: Path | None, context: str | None
) -> "list[RolloutAction]":
    from tidegate.limits import LATEST_US
    from tidegate.series import deployment_key
    from tidegate_streams.backtest import people

    spec = tally.spec
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    actions = people.read(
        settings_of(data_dir, context), key, revision, tally.since_us or 0, tally.until_us or LATEST_US
    )
    for one in actions:
        say(f"{time_text(one.ts)}: {one.actor} asked to {one.action}: {one.reason}")
    return actions


@contextmanager
def _progress(what: str, items: Iterator[T], share: Callable[[T], float | None]) -> Iterator[Iterator[T]]:
    """Show on a terminal how far it is: `share` says it of an item, from 0 to 1, where it can."""
    if not sys.stderr.isatty():
        yield items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0)

        def shown() -> Iterator[T]:
            for item in items:
                yield item
                progress.update(task, completed=share(item))

        yield shown()


def _say_what_did_not_count(tally: "Tally") -> None:
    for one in tally.named:
        say(f"{one.place}: {one.reason}: {one.detail}")
    if tally.refused:
        counts = ", ".join(f"{n:,} {reason}" for reason, n in tally.refused.most_common())
        say(f"not counted: {counts}; the first {len(tally.named)} are named above")
    read = ", ".join(f"{n:,} of {record}" for record, n in tally.events.items()) or "no events"
    elsewhere = f"; {tally.elsewhere:,} are of other deployments" if tally.elsewhere else ""
    outside = f"; {tally.outside:,} lie outside the time that is looked at" if tally.outside else ""
    say(f"read: {read}{elsewhere}{outside}")


def _check_that_something_counts(tally: "Tally", last_pane_us: int | None, start_us: int | None) -> None:
    if last_pane_us is None:
        spec = tally.spec
        causes = {
            "refused": tally.refused.total(),
            "of other deployments": tally.elsewhere,
            "outside the time that is looked at": tally.outside,
        }
        said = ", ".join(f"{n:,} {cause}" for cause, n in causes.items() if n) or "there are none"
        raise ConfigError(f"no event of {spec.tenant}/{spec.environment}/{spec.deployment} counts: {said}")
    if start_us is not None and start_us > last_pane_us:
        raise ConfigError(
            f"--start {time_text(start_us)} is after the last event, which is within ten seconds of "
            f"{time_text(last_pane_us)}: start earlier"
        )


def _say_what_is_not_named(calls: dict[str, int], spec: "Rollout") -> None:
    named = [variant.name for variant in spec.variants]
    strange = {variant: n for variant, n in calls.items() if variant not in named}
    if strange:
        said = ", ".join(f"{n:,} of {variant}" for variant, n in strange.items())
        say(f"calls of variants that the rollout does not name: {said}; it names {' and '.join(named)}")


def _say_what_was_not_commanded(obeyed: dict[int, int], outcome: "Outcome") -> None:
    if not obeyed:
        say("no call says which command it obeyed, so none decides: say --assignment any to count all calls")
    commanded = {command.revision for command in outcome.commands}
    strange = {revision: calls for revision, calls in obeyed.items() if revision not in commanded}
    if not strange:
        return
    revisions = ", ".join(map(str, strange))
    say(
        f"{sum(strange.values()):,} calls obeyed revision {revisions}, which was not commanded here, and "
        f"decide nothing: say --revision {min(obeyed)} to begin there, or --assignment any to count all calls"
    )
