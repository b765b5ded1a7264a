"""What one journal partition has come to: data that the fold changes in place."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any

import polars as pl

from tidegate.records import Alert, RolloutProgress
from tidegate_streams import emissions, rollups
from tidegate_streams.alerts import Alerts
from tidegate_streams.bag import Bag
from tidegate_streams.history import History
from tidegate_streams.panes import Pool
from tidegate_streams.ranges import Ranges
from tidegate_streams.rollouts.past import Past
from tidegate_streams.rollouts.ripening import Unripe
from tidegate_streams.rollouts.state import State as Deployment
from tidegate_streams.rollups import Frames
from tidegate_streams.watermark import Watermark

NEVER = -(2**62)
"""Before all event time."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an installation chooses; the same for the life of a journal."""

    allowed_lateness_us: int = 600_000_000
    series_cap: int = 100_000


@dataclass(slots=True)
class State:
    """All that one journal partition has come to."""

    partition: int
    rules: Rules = field(default_factory=Rules)
    begins_at: int = 0
    """Offset of the first message that the journal still has."""
    pasts: InitVar[Mapping[str, Past] | None] = None
    """Deployment key -> what was published of it."""
    overflows: InitVar[Mapping[str, Alert] | None] = None
    """Fingerprint -> what was published last of each alert about too many series."""
    refused: frozenset[tuple[str, int]] = frozenset()
    """What was published to be refused, and when: the journal may no longer tell why."""
    forgotten: dict[str, Past] = field(init=False)
    """Deployments from before the journal's beginning, until what is left says where they stand."""
    unproven: dict[str, Past] = field(init=False)
    """Deployments that the journal tells from their start, until it has told all that was published."""
    expected: list[tuple[int, int, str]] = field(init=False)
    """Offset, revision and deployment of each command that the journal has still to cause, the last first."""
    strange: set[str] = field(default_factory=set)
    """Deployments of which something was published from a journal that was there before this one."""
    hears_from_us: int | None = None
    """Event time at which the journal's watermark begins."""
    ranges: Ranges[Any] = field(default_factory=Ranges)
    watermark: Watermark = field(default_factory=Watermark)
    closed_us: int | None = None
    """Event time before which every pane has been looked at."""
    quiet_since_us: int = 0
    panes: dict[int, Pool] = field(default_factory=dict)
    """Open panes by their start: what the next looks will see."""
    late: Pool = field(init=False)
    """Rows of closed panes since the last look."""
    arrived: list[Frames] = field(default_factory=list)
    """Rows that are not rolled up yet."""
    put_off: list[Frames] = field(default_factory=list)
    """Rows that a replay, having nothing to show, has not added up, although their panes may be closed."""
    put_off_since_us: int | None = None
    """Event time before which everything was closed when the first of them was put off."""
    unclosed: Bag = field(default_factory=lambda: Bag([rollups.EMPTY]))
    """Rolled-up rows of `panes` and `late`."""
    unshown: list[Frames] = field(default_factory=list)
    """Rows since the last tick."""
    changed: pl.DataFrame = field(default_factory=lambda: rollups.series(rollups.EMPTY))
    """Series that changed before it and have not been shown since, the longest waiting first."""
    history: History = field(default_factory=History)
    ticks: emissions.Ticks = field(default_factory=emissions.Ticks)
    rollouts: dict[str, Any] = field(default_factory=dict)
    unripe: dict[str, Unripe] = field(default_factory=dict)
    """Deployment key -> ratings that are compared later."""
    told: dict[str, RolloutProgress] = field(default_factory=dict)
    """The last progress of each deployment that went out."""
    alerts: Alerts = field(default_factory=Alerts)
    overflowed_us: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self, pasts: Mapping[str, Past] | None, overflows: Mapping[str, Alert] | None) -> None:
        pasts = pasts or {}
        self.late = Pool(self.rules.series_cap)
        self.alerts.published = overflows or {}
        self.forgotten = {key: past for key, past in pasts.items() if past.precedes(self.begins_at)}
        self.unproven = {key: past for key, past in pasts.items() if key not in self.forgotten}
        self.expected = sorted(
            ((*one, key) for key, past in pasts.items() for one in past.causes), reverse=True
        )
        # They are looked at from the start, as they were before: the past hour sets what is usual.
        self.rollouts = {key: Deployment(key) for key in self.forgotten}

    def gather(self) -> None:
        """Put rows that wait in many tables into one each: nothing else changes, and it is quicker kept."""
        self.arrived, self.put_off, self.unshown = (
            [rollups.concat(tables)] if tables else []
            for tables in (self.arrived, self.put_off, self.unshown)
        )
        for bag in (self.unclosed, self.late.bag, *(pool.bag for pool in self.panes.values())):
            bag.rows()
