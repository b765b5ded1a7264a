"""How far a partition is done when its records are done in any order."""


class Offsets:
    """Which offsets of a partition were read, and which of them wait.

    Parameters
    ----------
    start
        First offset that is read.

    Examples
    --------
    >>> offsets = Offsets(7)
    >>> for offset in (7, 8, 12):  # what compaction removed is not waited for
    ...     offsets.read(offset)
    >>> offsets.done(8)
    >>> offsets.next, offsets.waiting
    (7, 2)
    >>> offsets.done(7)
    >>> offsets.next
    12
    """

    def __init__(self, start: int) -> None:
        self._after = start
        self._open: set[int] = set()

    def read(self, offset: int) -> None:
        """Note a record that now waits."""
        self._open.add(offset)
        self._after = offset + 1

    def done(self, offset: int) -> None:
        """Note that a record waits no more."""
        self._open.remove(offset)

    @property
    def next(self) -> int:
        """What may be committed: every record before it is done."""
        return min(self._open, default=self._after)

    @property
    def waiting(self) -> int:
        """Records that were read and are not done."""
        return len(self._open)
