"""What is called drift: beside which past, from which size on, and how seldom by mistake."""

from dataclasses import dataclass
from typing import Literal

ReferenceKind = Literal["rolling", "pinned", "release"]

MINUTE_US = 60_000_000
DAY_US = 1_440 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Policy:
    """What an installation, or a rule, asks for.

    Parameters
    ----------
    reference
        ``rolling``: each series beside its own past. ``pinned``: beside its own past in a range that a person
        chose. ``release``: beside what another variant of its deployment does at the same time.
    pinned_from_us, pinned_to_us
        The range, from and until, of event time.
    release
        Name of the variant.
    window_us
        Length of the windows that are looked at.
    block_us, blocks
        A rolling past is so many blocks of this length: 96 half hours, two days. It is used once it has half
        of them, and 30 of about equal weight.
    days_between_false_alarms
        Of all metrics of all series of a tenant together, at least, on average.
    tolerated
        Change of the log odds that is none: 0.1 is 10 % more or fewer of what is rare, and of calls slower
        than the usual median 52.5 % instead of 50 %.
    least_psi
        Population stability index from which on a changed mix is one.
    most_watches
        Metrics of series that are watched at most for each tenant; those that come first.
    forget_us
        A series is forgotten after so long without traffic.
    """

    reference: ReferenceKind = "rolling"
    pinned_from_us: int = 0
    pinned_to_us: int = 0
    release: str = ""
    window_us: int = MINUTE_US
    block_us: int = 30 * MINUTE_US
    blocks: int = 96
    days_between_false_alarms: float = 30.0
    tolerated: float = 0.1
    least_psi: float = 0.1
    most_watches: int = 10_000
    forget_us: int = 7 * DAY_US

    def run_length(self, watches: int) -> float:
        """Windows between false alarms of one watch, at least, when there are so many of them.

        The mean over all watches of what they sum up is again such a sum, and exceeds 1/watches of it.
        """
        return self.days_between_false_alarms * DAY_US / self.window_us * max(watches, 1)
