"""The transition table of a rollout: data that the machine follows."""

from typing import NamedTuple

NEW = ""
LIVE = ("initialising", "progressing", "holding")
MOVING = (*LIVE, "promoting", "rolling_back")
FINISHED = ("succeeded", "rolled_back", "aborted", "superseded")
STATES = (*MOVING, *FINISHED)

ACTIONS = ("pause", "resume", "promote", "advance", "rollback", "abort", "approve")
"""What people may ask for."""


class Transition(NamedTuple):
    """Where an event leads.

    Parameters
    ----------
    state
        Next state.
    action
        Action of the command that is published; None publishes none.
    """

    state: str
    action: str | None


TRANSITIONS: dict[tuple[str, str], Transition] = {
    (state, event): Transition(following, action)
    for states, event, following, action in (
        # What a specification does.
        ((NEW,), "start", "initialising", "start"),
        ((NEW,), "start_paused", "initialising", "pause"),
        ((NEW,), "start_frozen", "initialising", "hold"),
        (MOVING, "superseded", "superseded", None),
        ((*LIVE, "promoting"), "deleted", "aborted", "abort"),
        # What a look finds, in the order in which it is asked for.
        (("promoting",), "settled", "succeeded", None),
        (("rolling_back",), "settled", "rolled_back", None),
        (("initialising",), "thawed", "initialising", "start"),
        (LIVE, "harm", "rolling_back", "rollback"),
        (("initialising",), "dropped", "initialising", "drop"),
        (("progressing",), "dropped", "progressing", "drop"),
        (("holding",), "dropped", "holding", "drop"),
        (("initialising",), "warm", "progressing", None),
        (("progressing", "holding"), "uneven", "holding", "hold"),
        (("progressing",), "unapproved", "holding", "hold"),
        (("progressing", "holding"), "exposed", "progressing", "advance"),
        (("progressing", "holding"), "safe", "promoting", "promote"),
        (("progressing", "holding"), "unharmed", "promoting", "promote"),
        (("progressing", "holding"), "better", "promoting", "promote"),
        (("progressing", "holding"), "concluded", "succeeded", "conclude"),
        (("initialising", "progressing"), "overdue_hold", "holding", "hold"),
        (("initialising", "progressing"), "overdue_rollback", "rolling_back", "rollback"),
        (("progressing",), "overdue_promote", "promoting", "promote"),
        # What people ask for.
        (LIVE, "pause", "holding", "pause"),
        (("initialising",), "resume", "initialising", "start"),
        (("holding",), "resume", "progressing", "resume"),
        (LIVE, "promote", "promoting", "promote"),
        (LIVE, "advance", "progressing", "advance"),
        ((*LIVE, "promoting", "succeeded"), "rollback", "rolling_back", "rollback"),
        ((*LIVE, "promoting"), "abort", "aborted", "abort"),
        (("initialising",), "approve", "initialising", None),
        (("progressing",), "approve", "progressing", None),
        (("holding",), "approve", "holding", None),
    )
    for state in states
}
"""(state, event) -> where it leads. What is not here does not happen; a person is told so."""
