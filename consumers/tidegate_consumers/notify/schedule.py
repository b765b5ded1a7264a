"""When a delivery is tried again, and when no more."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Growing pauses after a round of failed attempts; when they are used up, the record is dead-lettered.

    Parameters
    ----------
    pauses_s
        Seconds after the first failed round, the second, and so on. By default about 17 hours in all: a
        receiver that broke in the evening is repaired in the morning.
    longest_asked_s
        A receiver may ask for a longer pause, but for no more seconds than these.
    """

    pauses_s: tuple[float, ...] = (5, 30, 300, 1_800, 7_200, 18_000, 36_000)
    longest_asked_s: float = 3_600

    def pause_s(self, failures: int, asked_s: float, luck: float) -> float | None:
        """Return how many seconds to wait after so many failed rounds; None to give up.

        Parameters
        ----------
        failures
            Rounds that failed, at least 1.
        asked_s
            What the receiver asked for (``Retry-After``), 0 when it did not.
        luck
            In [0, 1]: moves a pause by a fifth either way: what failed together is not tried together.

        Examples
        --------
        >>> Schedule().pause_s(1, asked_s=0, luck=0.5), Schedule().pause_s(1, asked_s=60, luck=0.5)
        (5.0, 60)
        >>> Schedule().pause_s(8, asked_s=0, luck=0.5) is None
        True
        """
        if failures > len(self.pauses_s):
            return None
        pause_s = self.pauses_s[failures - 1] * (0.8 + 0.4 * luck)
        return max(pause_s, self.granted_s(asked_s))

    def granted_s(self, asked_s: float) -> float:
        """Return how much of what a receiver asked for it gets."""
        return min(asked_s, self.longest_asked_s)
