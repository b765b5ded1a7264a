"""The fence: whoever has not heard of its group for a while sends nothing, for it may have been given up."""

import math
import time

FENCE_SHARE = 0.5
"""Nothing is sent when the group was last heard of longer ago than this part of a session."""

Moment = tuple[float, ...]
"""Seconds by each of the clocks."""

# On Linux the monotonic clock stands still while a machine is suspended, and this one goes on; elsewhere the
# monotonic one does. A machine that is paused from outside may find all its clocks where they were, until
# somebody sets the wall clock right.
_CLOCKS = (getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC), time.CLOCK_REALTIME)


def now() -> Moment:
    """Return the present moment, by clocks that go on while the process, or its machine, stands still."""
    return tuple(time.clock_gettime(clock) for clock in _CLOCKS)


class Fence:
    """How long ago a group counted this process among its members.

    Parameters
    ----------
    session_ms
        How long the group waits for a sign of life, in milliseconds.
    """

    def __init__(self, session_ms: int) -> None:
        self._most_s = session_ms / 1_000 * FENCE_SHARE
        self._heard_at: Moment = (-math.inf,) * len(_CLOCKS)

    def heard(self, at: Moment) -> None:
        """Note that the group counted this process among its members at that moment, or later."""
        self._heard_at = at

    @property
    def is_shut(self) -> bool:
        """Whether any of the clocks says that it was too long ago to send something."""
        gone_s = (now_s - at_s for now_s, at_s in zip(now(), self._heard_at, strict=True))
        return max(gone_s) > self._most_s
