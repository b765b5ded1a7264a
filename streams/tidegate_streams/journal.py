"""One assigned journal partition: how far it is, and when the next snapshot is due."""

import asyncio
import time
from dataclasses import dataclass, field

from tidegate_streams import fold

SNAPSHOT_MESSAGES = 1_000
SNAPSHOT_WORK_SECONDS = 1.0
"""For fewer messages, and less time that a restart would need for them, no snapshot is made."""

SNAPSHOT_SECONDS = 10.0
"""At least so long between two snapshots of a partition."""

SNAPSHOT_SHARE = 0.05
"""Most of the time that may go into making them: a large state is kept more seldom."""


@dataclass(slots=True)
class Journal:
    """One assigned partition."""

    starts_at: int
    end_at_assignment: int
    next_offset: int
    snapshot: fold.State | None = None
    """What it goes on from; None to begin with nothing."""
    kept_offset: int = 0
    """Where its last snapshot was made, or it began."""
    unkept_seconds: float = 0.0
    """How long it took to fold what came since."""
    kept_until: float = 0.0
    """Before this time no other is made."""
    keeping: "asyncio.Task[None] | None" = None
    state: fold.State | None = None
    """None before the first message: what was published has to be known first."""
    is_current: bool = False
    """Whether everything that stood there at assignment has been applied, and its outputs are complete."""
    progressed_at: float = field(default_factory=time.monotonic)

    @property
    def wants_snapshot(self) -> bool:
        """Whether a restart would take noticeably long, and the last one was not a short time ago."""
        messages = self.next_offset - self.kept_offset
        if messages < SNAPSHOT_MESSAGES and self.unkept_seconds < SNAPSHOT_WORK_SECONDS:
            return False
        if self.keeping is not None and not self.keeping.done():
            return False
        return time.monotonic() >= self.kept_until
