"""Event time that passes faster than life."""

import time


class Pace:
    """Maps event time to the wall clock, and waits.

    Parameters
    ----------
    start_us
        Event time of now.
    speed
        Seconds of event time a second, > 0.
    """

    def __init__(self, start_us: int, speed: float) -> None:
        self._start_us = start_us
        self._speed = speed
        self._zero = time.monotonic()

    def wait_until(self, event_us: int) -> None:
        """Return when it is this event time; at once when that has passed."""
        due = self._zero + (event_us - self._start_us) / 1e6 / self._speed
        left = due - time.monotonic()
        if left > 0:
            time.sleep(left)

    def pause(self, seconds: float) -> None:
        """Leave event time where it was some seconds ago."""
        self._zero += seconds
