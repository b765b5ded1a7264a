"""What is known of a change of one metric of one series."""

from dataclasses import dataclass
from typing import Literal

from tidegate_streams.drift.past import Usual
from tidegate_streams.statistics.exceedances import Histogram

Phase = Literal["started", "updated", "ended"]


@dataclass(frozen=True, slots=True)
class Change:
    """What changed, as far as it is known.

    Parameters
    ----------
    phase, version
        How far it has come, and the number of this record of it.
    started_us, at_us
        End of the window that raised it, and of the window that this record is about.
    edge
        Which of the edges tells most of it.
    bucket
        That edge.
    share_before, share_since
        Of observations above the edge: of a rate, the rate.
    since
        Values since the change, as far as they are kept.
    log_e
        Evidence, as it stood at `started_us` or later.
    run_length
        Windows between false alarms, at least.
    changed_low_us, changed_us, changed_high_us
        When it began: likeliest, and the ends of an interval of 95 %.
    usual
        What it is compared with.
    n_since
        Observations since it began.
    """

    phase: Phase
    version: int
    started_us: int
    at_us: int
    edge: int
    bucket: int
    share_before: float
    share_since: float
    since: Histogram
    log_e: float
    run_length: float
    changed_low_us: int
    changed_us: int
    changed_high_us: int
    usual: Usual
    n_since: int
