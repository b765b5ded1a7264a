"""What is looked for after a run, and what was found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.faults.operator import Asked
from tests.faults.traffic import App
from tests.faults.truth import Truth

from tidegate_infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be.

    Parameters
    ----------
    invariant
        Its short name, as in `INVARIANTS`.
    what
        What was found.
    """

    invariant: str
    what: str


INVARIANTS = {
    "confirmed": "every event that was confirmed is in the log, and nobody else's",
    "stored once": "every event stands once in its table, as it was sent; nothing else stands there",
    "duplicates": "every further copy is accounted for as a duplicate, once",
    "dead letters": "every record that cannot count is a dead letter with its reason, and no other is",
    "windows": "every closed window equals its recomputation, and none is absent",
    "late": "calls that came too late for their window are counted as late",
    "versions": "a window's final row is published with one content under one version",
    "ledger": "every producer's account balances, with nothing in flight or missing",
    "actions": "every recorded action took effect once, or was refused once",
    "commands": "a revision is one command, revisions have no gap, and all are stored",
    "delivered": "every command reached the webhook with a valid signature",
    "replay": "folding the journal anew gives the commands and the windows that were published",
    "processes": "no process ends by a broken invariant or a defect",
    "recovery": "everything has settled within two minutes of the last fault",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose traffic has ended.

    Parameters
    ----------
    settings
        Of the stack.
    app
        What emitted.
    asked
        What a person told the command line to do.
    truth
        What must stand.
    end_us
        Event time to which the stream was ended.
    delivered
        Ids that the webhook's receiver verified.
    """

    settings: Settings
    app: App
    asked: list[Asked]
    truth: Truth
    end_us: int
    delivered: Callable[[], Iterable[str]]
