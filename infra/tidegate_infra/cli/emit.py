"""``tidegate emit``: JSON lines to Kafka."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from tidegate.errors import ConfigError, DependencyUnavailable
from tidegate_infra.cli.options import Context, DataDir, Json, noun, settings_of
from tidegate_infra.cli.output import say, to_json, write

if TYPE_CHECKING:
    from tidegate.client.client import Client
    from tidegate.client.configuration import Configuration
    from tidegate.client.rules import Problem
    from tidegate_infra.settings import Settings

app = noun("Send JSON lines to Kafka.")

# The longest of the windows that a short replay fills on its own.
_MINUTE_US = 60_000_000
_TENANT = "default"
_MOST_PROBLEMS_SAID = 1_000
_PROGRESS_EVERY = 100_000


@app.command("emit")
def emit(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON lines; - is standard input.")],
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of lines that name none; default unless given.")
    ] = None,
    environment: Annotated[str, typer.Option(metavar="NAME", help="Of lines that name none.")] = "",
    app_name: Annotated[str, typer.Option("--app", metavar="NAME", help="Of lines that name none.")] = "",
    content: Annotated[
        bool, typer.Option("--content", help="Send prompts, answers and comments too.")
    ] = False,
    end_of_stream: Annotated[
        bool, typer.Option("--end-of-stream", help="Close a replay: its last windows are complete.")
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Where the stream ends; unless given, when nothing late is taken any more."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long Kafka may take to confirm the rest.")
    ] = 30,
    data_dir: DataDir = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Send JSON lines to Kafka: calls, feedback and evaluations.

    A line is a call unless its "type" is feedback or evaluation. Field names are the contract's:
    `tidegate schema explain LLMCall`. A line without event_id gets one that
    follows from the file and the line's number, so that emitting a file twice counts once. A bad line is
    named and does not stop the rest; exit 1 when there was any, 4 when Kafka did not confirm all.
    """
    from tidegate import topics
    from tidegate.client.client import Client
    from tidegate_infra.kafka import scan
    from tidegate_infra.kafka.end_of_stream import end_stream

    if until is not None and not end_of_stream:
        raise typer.BadParameter("goes with --end-of-stream", param_hint="--until")
    until_us = None if until is None else _time(until)
    settings = settings_of(data_dir, context)
    with _opened(file) as lines:
        scan.check_topics(settings, [topics.CALLS, topics.FEEDBACK, topics.EVALUATIONS, topics.PRODUCERS])
        whose = (tenant or _TENANT, environment, app_name)
        client = Client(_configuration(settings, *whose, content, timeout))
        try:
            latest_us, doubtful = _send(client, lines, "stdin" if file == "-" else file)
            client.flush(timeout)
        finally:
            client.shutdown(timeout)
    if doubtful and tenant is None:
        say(f"ratings of calls of tenant {_TENANT}: {doubtful}; if the calls have another, say --tenant")
    counts = client.counts
    rejected = sum(count for reason, count in counts.dropped.items() if reason != "exit")
    undelivered = counts.accepted - counts.delivered + counts.dropped.get("exit", 0)
    result = {"accepted": counts.accepted, "rejected": rejected}
    if undelivered:
        if as_json:
            write(to_json(result | {"undelivered": undelivered}))
        raise DependencyUnavailable(
            f"Kafka at {settings.kafka} did not confirm {undelivered} events within {timeout:g} s: emit the "
            "file again, what was delivered counts once"
        )
    if end_of_stream:
        if until_us is None and latest_us is None:
            raise typer.BadParameter(
                "no event says where the stream ends: add --until", param_hint="--end-of-stream"
            )
        final_us = (latest_us or 0) + _MINUTE_US + settings.allowed_lateness_us
        end_stream(settings, final_us if until_us is None else until_us)
    if as_json:
        write(to_json(result))
    else:
        say(f"{counts.accepted} accepted, {rejected} rejected")
    if rejected:
        raise typer.Exit(1)


def _time(text: str) -> int:
    from tidegate.intake import microseconds

    ts_us = int(text) if text.isdecimal() else microseconds(text)
    if ts_us is None:
        raise typer.BadParameter(
            f"{text!r} is neither microseconds nor such as 2026-03-01T12:00:00Z", param_hint="--until"
        )
    return ts_us


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        lines = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    with lines:
        yield lines


def _configuration(
    settings: "Settings", tenant: str, environment: str, app_name: str, content: bool, timeout_seconds: float
) -> "Configuration":
    from tidegate.client.configuration import Configuration

    has_user = settings.kafka_security_protocol.startswith("sasl")
    return Configuration(
        tenant=tenant,
        # What no line and no flag names stays empty, and the line is refused.
        app=app_name,
        environment=environment,
        kafka=settings.kafka,
        topic_prefix=settings.topic_prefix,
        kafka_security_protocol=settings.kafka_security_protocol,
        kafka_sasl_mechanism=settings.kafka_sasl_mechanism if has_user else None,
        kafka_username=settings.kafka_username if has_user else None,
        kafka_password=settings.kafka_password.get_secret_value() if has_user else None,
        kafka_ca=None if settings.kafka_ca is None else str(settings.kafka_ca),
        schema_registry_url=settings.schema_registry_url or None,
        content=content,
        when_full="wait",
        delivery_seconds=timeout_seconds,
    )


def _send(client: "Client", lines: IO[bytes], name: str) -> tuple[int | None, int]:
    """Send every good line, and name every problem of the bad ones.

    Returns
    -------
    tuple
        The latest event's time, in microseconds since the epoch; and how many ratings look for their call
        under the tenant of lines that name none.
    """
    from tidegate import intake
    from tidegate.records import LLMCall

    latest_us: int | None = None
    said = doubtful = 0
    for line in intake.read(lines, client.configuration):
        if (event := line.event) is not None:
            if isinstance(event, LLMCall):
                latest_us = max(latest_us or 0, event.ts_end)
            else:
                latest_us = max(latest_us or 0, event.ts)
                is_assumed = event.tenant == client.configuration.tenant
                doubtful += bool(is_assumed and event.target_event_id and event.series is None)
            client.emit(event)
        else:
            client.refuse(None, *line.problems)
            for problem in line.problems:
                if said < _MOST_PROBLEMS_SAID:
                    say(f"{name}:{line.number}: {problem}{_remedy(problem)}")
                said += 1
        if line.number % _PROGRESS_EVERY == 0 and sys.stderr.isatty():
            say(f"{line.number} lines")
    if said > _MOST_PROBLEMS_SAID:
        say(f"{name}: {said - _MOST_PROBLEMS_SAID} more problems are not shown")
    return latest_us, doubtful


def _remedy(problem: "Problem") -> str:
    is_of_all = problem.reason == "missing" and problem.field in ("app", "environment")
    return f": name it in the line, or say --{problem.field}" if is_of_all else ""
