"""Why what a person asks for is not carried out, in a sentence that says what to do instead."""

from collections.abc import Sequence

from tidegate.records import Rollout, RolloutAction
from tidegate_streams.rollouts import words
from tidegate_streams.rollouts.variants import candidates


def stale(generation: int, present: int) -> str:
    """It was meant for an older generation."""
    return (
        f"it was meant for generation {generation}, and generation {present} is in force: "
        f"look at the rollout again and repeat what still applies"
    )


def expired(action: RolloutAction) -> str:
    """It came too late."""
    return f"{action.action} by {action.actor} expired before it could be carried out"


def serves_nobody(spec: Rollout) -> str:
    """There is nothing to promote."""
    return f"a {spec.strategy} serves nobody: apply a canary to send traffic to {candidates(spec)[0].name}"


def needs_evidence(action: RolloutAction) -> str:
    """It would let a rollout go on whose evidence is gone."""
    return (
        f"{action.action} is not possible: the rollout's evidence is lost (state_lost); abort, roll back or "
        f"promote it, or apply it anew"
    )


def other_revision(expected: int, present: int) -> str:
    """Something happened in between."""
    return f"it expected revision {expected}, and revision {present} is in force: look again and repeat it"


def unknown_action(action: str, known: Sequence[str]) -> str:
    """It is no action."""
    return f"{action!r} is no action: use one of {', '.join(known)}"


def needless_target(action: RolloutAction) -> str:
    """It names something that the action does not take."""
    return f"{action.action} takes no target, and {action.target!r} was given: repeat it without"


def unknown_target(action: RolloutAction, tried: Sequence[str]) -> str:
    """It names no candidate that is tried."""
    return f"{action.target!r} is no candidate that is tried: {action.action} {' or '.join(tried)}"


def missing_target(tried: Sequence[str]) -> str:
    """It must name one of several."""
    return f"{len(tried)} candidates are tried: say which to promote, {' or '.join(tried)}"


def impossible(action: str, state: str) -> str:
    """The state does not allow it."""
    return f"{action} is not possible while the rollout is {state}"


def frozen(action: RolloutAction, end_us: int) -> str:
    """It would send more traffic to the candidate in a freeze."""
    return (
        f"{action.action} is not possible in a freeze, which ends {words.moment(end_us)}: wait for its end, "
        f"or apply the rollout with other freezes"
    )


def already_paused() -> str:
    """There is nothing to pause."""
    return "it is paused already: resume starts it again"


def thaws_by_itself() -> str:
    """There is nothing to pause before the end of a freeze."""
    return "it has not started and waits for the end of a freeze: abort it, or apply it with `paused: true`"


def not_started() -> str:
    """There is no step to leave."""
    return "it has not started: resume starts its first step"


def last_step() -> str:
    """There is no further step."""
    return "this is the last step: promote sends all traffic to the candidate"
