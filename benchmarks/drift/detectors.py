"""Detectors on a stream of values: ours, those of river as they come, and a fixed limit."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from tidegate_streams.drift.policy import Policy
from tidegate_streams.drift.watch import step, watch

SLOW = "KSWIN"
"""Takes half a millisecond a value, and so is given fewer of them."""
FINE = 100
"""Buckets in a standard deviation: ours counts values in buckets."""


class Detector(Protocol):
    """Takes values one by one; after an alarm it begins anew by itself."""

    def update(self, value: float) -> bool:
        """Take a value in; say whether this is an alarm."""


class Ours:
    """The watch of the stream, as it is: an alarm is a change that starts.

    Parameters
    ----------
    policy
        With the length of a window, as if values came in time.
    together
        Values in a window.
    """

    def __init__(self, policy: Policy, together: int) -> None:
        self._policy, self._together = policy, together
        self._watch, self._windows = watch(is_rate=False), 0
        self._held: list[float] = []

    def update(self, value: float) -> bool:
        self._held.append(value)
        if len(self._held) < self._together:
            return False
        sample = Counter(np.floor(np.array(self._held) * FINE).astype(int).tolist())
        self._held = []
        change = step(self._watch, self._policy, self._windows * self._policy.window_us, sample)
        self._windows += 1
        return change is not None and change.phase == "started"


class River:
    """A detector of river, begun anew after an alarm as river does it."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._one = make()

    def update(self, value: float) -> bool:
        self._one.update(value)  # type: ignore[attr-defined]
        return bool(self._one.drift_detected)  # type: ignore[attr-defined]


class Limit:
    """A mean of the last values that leaves what a person drew around the first: 50 % more or less.

    Of values around zero, three standard deviations.
    """

    def __init__(self, learning: int, last: int, *, is_relative: bool) -> None:
        self._learning, self._last, self._is_relative = learning, last, is_relative
        self._begin()

    def _begin(self) -> None:
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=self._last)
        self._sum = 0.0

    def update(self, value: float) -> bool:
        if len(self._first) < self._learning:
            self._first.append(value)
            if len(self._first) == self._learning:
                middle, spread = float(np.mean(self._first)), float(np.std(self._first))
                reach = 0.5 * abs(middle) if self._is_relative else 3 * spread
                self._low, self._high = middle - reach, middle + reach
            return False
        if len(self._recent) == self._last:
            self._sum -= self._recent[0]
        self._recent.append(value)
        self._sum += value
        if len(self._recent) < self._last or self._low <= self._sum / self._last <= self._high:
            return False
        self._begin()
        return True


def of_river() -> dict[str, Callable[[], Detector]]:
    """Those that are measured beside ours, at the settings they come with."""
    from river import drift  # seconds to import, and for this only

    return {
        "ADWIN": lambda: River(drift.ADWIN),
        "Page-Hinkley": lambda: River(drift.PageHinkley),
        SLOW: lambda: River(lambda: drift.KSWIN(seed=1)),
    }
