"""Event time that passes faster than life."""

import time

from tidegate.records import RolloutProgress

_ENDED = ("succeeded", "rolled_back", "aborted", "superseded")


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


class Leash:
    """Keeps a replay from running away from the stream that decides over it.

    On a busy machine the stream may need longer for a minute of event time than the replay does. The replay
    then waits, so that the same story is told, only slower.

    Parameters
    ----------
    lead_us
        How far event time may be ahead of what the stream has looked at, in microseconds.
    patience_seconds
        How long to wait for the stream at a time; then the replay goes on.
    """

    def __init__(self, lead_us: int, patience_seconds: float) -> None:
        self._lead_us = lead_us
        self._patience_seconds = patience_seconds
        self._looked: RolloutProgress | None = None

    def take(self, progress: RolloutProgress) -> None:
        """Note how far the stream has come."""
        self._looked = progress

    def wait(self, event_us: int) -> float:
        """Return when the stream is near enough to an event time; says how many seconds that took."""
        began = time.monotonic()
        while time.monotonic() - began < self._patience_seconds and self._is_behind(event_us):
            time.sleep(0.02)
        return time.monotonic() - began

    def _is_behind(self, event_us: int) -> bool:
        looked = self._looked
        if looked is None or looked.watermark is None or looked.state in _ENDED:
            return False
        return event_us - looked.watermark > self._lead_us
