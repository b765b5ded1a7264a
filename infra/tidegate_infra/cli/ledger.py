"""``tidegate ledger``: account for every event of every producer."""

import dataclasses
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate_infra.cli.options import Context, DataDir, Json, Output, Tenant, chosen, noun, settings_of
from tidegate_infra.cli.output import Format, say, write_rows

if TYPE_CHECKING:
    from tidegate_infra.ledger import LedgerRow

app = noun("Account for every event of every producer.")

_COLUMNS = (
    "producer_id",
    "app",
    "accepted",
    "stored",
    "duplicate",
    "dead_lettered",
    "failed",
    "in_flight",
    "missing",
    "refused",
    "balanced",
)


DEFAULT_LAST = "24h"


class By(StrEnum):
    """What has a row of its own."""

    PRODUCER = "producer"
    HOUR = "hour"


@app.command("ledger")
def ledger(
    by: Annotated[By, typer.Option("--by", help="A row a producer, or a producer and hour.")] = By.PRODUCER,
    last: Annotated[
        str, typer.Option("--last", metavar="TIME", help="How far to look back, such as 90m, 24h or 7d.")
    ] = DEFAULT_LAST,
    tenant: Tenant = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Account for every event of every producer; exit 1 when one does not balance.

    accepted = stored + duplicate + dead lettered + failed + in flight + missing, and nothing may be missing.
    What was refused was never accepted. A number counts in the hour in which it was first heard of.
    """
    from tidegate_infra import ledger as ledgers
    from tidegate_infra.cli.store import connected

    since = datetime.now(UTC) - _duration(last)
    account = ledgers.by_hour if by is By.HOUR else ledgers.ledger
    with connected(settings_of(data_dir, context)) as store:
        accounts = [row for row in account(store, since=since) if tenant in (None, row.tenant)]
    how = chosen(output, as_json)
    rows = [_printed(one, by) for one in accounts]
    columns = _COLUMNS if by is By.PRODUCER else ("hour", *_COLUMNS)
    write_rows(rows, columns, how, wide=("tenant", "reported"), nothing="")
    producers = {(one.producer_id, one.tenant) for one in accounts}
    unbalanced = {(one.producer_id, one.tenant) for one in accounts if not one.balanced}
    say(f"{len(producers)} producers in the last {last}, {len(unbalanced)} not balanced")
    if unbalanced:
        say("what is missing may still be on its way if the sink is behind: tidegate doctor says so")
        raise typer.Exit(1)


def _duration(text: str) -> timedelta:
    from tidegate_infra.rollout_file import quantities

    try:
        return timedelta(microseconds=quantities.duration(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--last") from None


def _printed(account: "LedgerRow", by: By) -> dict[str, Any]:
    row = dataclasses.asdict(account)
    hour = row.pop("hour")
    return row if by is By.PRODUCER else {"hour": f"{hour:%Y-%m-%dT%H:%MZ}"} | row
