"""Times in which nothing advances: intervals of event time that a specification names."""

from collections.abc import Iterable

from tidegate.records import Freeze


def until(freezes: Iterable[Freeze], now_us: int) -> int | None:
    """Return when the freeze that holds now ends, with those that follow on it without a gap; None without.

    Parameters
    ----------
    freezes
        In any order; they may overlap. The start belongs to a freeze, the end does not.
    now_us
        Event time in microseconds.
    """
    end_us = None
    for freeze in sorted(freezes, key=lambda one: one.starts_at):
        if freeze.starts_at <= (now_us if end_us is None else end_us) and freeze.ends_at > now_us:
            end_us = max(freeze.ends_at, end_us or freeze.ends_at)
    return end_us


def unfrozen_us(freezes: Iterable[Freeze], from_us: int, until_us: int) -> int:
    """Return how much of an interval no freeze covers, in microseconds: what time limits count."""
    free_us, at_us = 0, from_us
    within = (one for one in freezes if one.starts_at < until_us and one.ends_at > from_us)
    for freeze in sorted(within, key=lambda one: one.starts_at):
        free_us += max(freeze.starts_at - at_us, 0)
        at_us = max(at_us, freeze.ends_at)
    return free_us + max(until_us - at_us, 0)
