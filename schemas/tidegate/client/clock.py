"""The two clocks that the client reads, behind one seam."""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of times in microseconds."""

    def now_us(self) -> int:
        """Return the time since the epoch, UTC."""

    def monotonic_us(self) -> int:
        """Return a time that never goes backwards, for durations only."""


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Return the time since the epoch, UTC."""
        return time.time_ns() // 1_000

    def monotonic_us(self) -> int:
        """Return a time that never goes backwards, for durations only."""
        return time.monotonic_ns() // 1_000


SYSTEM = SystemClock()
