"""What the client says in the app's log: seldom."""

import logging

from tidegate.client.clock import SYSTEM, Clock

LOG = logging.getLogger("tidegate")

INTERVAL_US = 10_000_000
"""One notice of a kind in this time: an app that errs does so on every request."""


class Notices:
    """Warnings in the log ``tidegate``, at most one of a kind in ten seconds."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._last_us: dict[str, int] = {}
        self._silenced: dict[str, int] = {}

    def warn(self, kind: str, message: str, *args: object) -> None:
        """Log a warning, unless one of its kind was logged just now."""
        now_us = self._clock.monotonic_us()
        last_us = self._last_us.get(kind)
        if last_us is not None and now_us - last_us < INTERVAL_US:
            self._silenced[kind] = self._silenced.get(kind, 0) + 1
            return
        self._last_us[kind] = now_us
        silenced = self._silenced.pop(kind, 0)
        more = f" (and {silenced} more of this kind)" if silenced else ""
        LOG.warning("%s%s", message % args, more)
