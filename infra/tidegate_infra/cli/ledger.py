"""``tidegate ledger``: account for every event of every producer."""

import dataclasses

import typer

from tidegate_infra.cli.options import Context, DataDir, Json, Output, Tenant, chosen, noun, settings_of
from tidegate_infra.cli.output import Format, say, write_rows

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


@app.command("ledger")
def ledger(
    tenant: Tenant = None,
    data_dir: DataDir = None,
    context: Context = None,
    output: Output = Format.TABLE,
    as_json: Json = False,
) -> None:
    """Account for every event of every producer; exit 1 when one does not balance.

    accepted = stored + duplicate + dead lettered + failed + in flight + missing, and nothing may be missing.
    What was refused was never accepted.
    """
    from tidegate_infra import ledger as ledgers
    from tidegate_infra.cli.store import connected

    with connected(settings_of(data_dir, context)) as store:
        accounts = [row for row in ledgers.ledger(store) if tenant in (None, row.tenant)]
    rows = [dataclasses.asdict(account) for account in accounts]
    write_rows(rows, _COLUMNS, chosen(output, as_json), wide=("tenant", "reported"))
    unbalanced = sum(not account.balanced for account in accounts)
    say(f"{len(accounts)} producers, {unbalanced} not balanced")
    if unbalanced:
        raise typer.Exit(1)
