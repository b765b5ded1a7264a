"""Ratings wait until those of the same calls are there: the strata in which ratings are compared.

At each of `waits.WAITS` the ratings that came since the wait before are a stratum. That may show one variant
only, if the other is rated later, and says nothing then. Where the variants' ratings so far came at different
ages, a wait is passed over, and what came by then is compared at the next. This depends on how many ratings
came and never on what they say, and it holds for all blocks alike: a block that waits because its own
candidate's ratings are not there would compare early ratings with late ones.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tidegate_streams.rollouts.strata import Rating, Strata, Stratum, VariantPane
from tidegate_streams.waits import WAITS, wait_of

MEETING = 0.25
"""Share of its ratings that a variant must have brought in some waits, relative to what the other has brought
of its own, for the two to be compared there."""

IsJudged = Callable[[int | None, str], bool]
"""(revision, metric) -> whether it decides something."""

_RATINGS = ("feedback.", "evaluation.")
_LAST = len(WAITS) - 1
_FORGOTTEN_US = WAITS[_LAST].block_us + WAITS[_LAST].age_us


class Batch(NamedTuple):
    """What will be a stratum of one metric.

    Parameters
    ----------
    wait
        Which of `WAITS` it is compared at.
    revision, metric
        As in `Rating`.
    block_us
        Start of its block of calls.
    """

    wait: int
    revision: int | None
    metric: str
    block_us: int


Counts = dict[str, tuple[int, int]]
"""Variant -> ratings and bad ones."""


@dataclass(slots=True)
class Ages:
    """How old calls were when their ratings came, of one metric under one revision.

    Parameters
    ----------
    by_variant
        Variant -> ratings by wait.
    last_us
        When the last of them came.
    """

    by_variant: dict[str, list[int]] = field(default_factory=dict)
    last_us: int = 0

    def meet(self, first: int, last: int) -> bool:
        """Whether all variants have brought comparable shares of their ratings in some waits."""
        shares = [sum(counts[first : last + 1]) / sum(counts) for counts in self.by_variant.values()]
        return min(shares, default=1.0) >= MEETING * max(shares, default=0.0)

    def add(self, variant: str, wait: int, n: int) -> None:
        """Count ratings."""
        self.by_variant.setdefault(variant, [0] * len(WAITS))[wait] += n


class Held(NamedTuple):
    """A batch that waits.

    Parameters
    ----------
    due_us
        When it is compared, or goes on to the next wait.
    since
        The wait from which on ratings are in it.
    counts
        What they are.
    """

    due_us: int
    since: int
    counts: Counts


@dataclass(slots=True)
class Unripe:
    """Ratings of one deployment that wait.

    Parameters
    ----------
    batches
        What waits.
    ages
        (revision, metric) -> what decides which waits are passed over.
    """

    batches: dict[Batch, Held] = field(default_factory=dict)
    ages: dict[tuple[int | None, str], Ages] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of any rating."""
        return not self.batches and not self.ages

    def compared(self, end_us: int, strata: Strata, ratings: Iterable[Rating], is_judged: IsJudged) -> Strata:
        """Return the strata of a look in which ratings stand where they are compared.

        Parameters
        ----------
        end_us
            End of the pane that is looked at, in microseconds since the epoch; ascending.
        strata
            What the look finds, ratings by their own time.
        ratings
            The same ratings by their calls.
        is_judged
            Whether ratings of a metric under a revision decide something. The others do not wait.
        """
        strata = {
            stratum: {name: _put_by(pane, stratum.revision, is_judged) for name, pane in variants.items()}
            for stratum, variants in strata.items()
        }
        judged = (one for one in ratings if is_judged(one.revision, one.metric))
        for batch, counts in self.look(end_us, judged).items():
            stratum = Stratum(batch.revision, batch.block_us, is_late=batch.wait > 0, wait=batch.wait)
            variants = strata.setdefault(stratum, {})
            for variant, (n, bad) in counts.items():
                ripe = VariantPane(rates={batch.metric: (n, bad)}, rated={batch.metric: (0, 0)})
                variants[variant] = variants.get(variant, VariantPane()) + ripe
        return strata

    def look(self, end_us: int, ratings: Iterable[Rating]) -> Mapping[Batch, Counts]:
        """Take in the ratings that a look finds, and return what is compared in it: each rating once.

        Parameters
        ----------
        end_us
            End of the pane that is looked at, in microseconds since the epoch; ascending.
        ratings
            Those that no look has found before. Ratings of calls that are too old are left out.
        """
        found = []
        for rating in ratings:
            wait = wait_of(rating.call_us, end_us)
            if wait is not None and rating.n:
                batch = Batch(wait, rating.revision, rating.metric, WAITS[wait].block_of(rating.call_us))
                self._put(batch, wait, {rating.variant: (rating.n, rating.bad)})
                found.append((rating, wait))
        ripe = self._ripe(end_us)
        # Only now: what is passed over was known before this look.
        for rating, wait in found:
            ages = self.ages.setdefault((rating.revision, rating.metric), Ages())
            ages.add(rating.variant, wait, rating.n)
            ages.last_us = end_us
        self.ages = {key: one for key, one in self.ages.items() if one.last_us > end_us - _FORGOTTEN_US}
        return ripe

    def _put(self, batch: Batch, since: int, more: Counts) -> None:
        held = self.batches.get(batch) or Held(WAITS[batch.wait].due_us(batch.block_us), since, {})
        total = dict(held.counts)
        for variant, (n, bad) in more.items():
            before_n, before_bad = total.get(variant, (0, 0))
            total[variant] = before_n + n, before_bad + bad
        self.batches[batch] = Held(held.due_us, min(held.since, since), total)

    def _ripe(self, end_us: int) -> dict[Batch, Counts]:
        ripe = {}
        # What goes on to a later wait may be due there as well, with all that is.
        while due := [one for one, held in self.batches.items() if held.due_us <= end_us]:
            wait = min(one.wait for one in due)
            for batch in sorted(one for one in due if one.wait == wait):
                held = self.batches.pop(batch)
                ages = self.ages.get((batch.revision, batch.metric), Ages())
                if wait == _LAST or ages.meet(held.since, wait):
                    ripe[batch] = held.counts
                else:
                    block_us = WAITS[wait + 1].block_of(batch.block_us)
                    self._put(batch._replace(wait=wait + 1, block_us=block_us), held.since, held.counts)
        return ripe


def _put_by(pane: VariantPane, revision: int | None, is_judged: IsJudged) -> VariantPane:
    """Leave the ratings that wait out of what is compared now."""
    rated = {
        name: counts
        for name, counts in pane.rates.items()
        if name.startswith(_RATINGS) and is_judged(revision, name)
    }
    if not rated:
        return pane
    rates = {name: counts for name, counts in pane.rates.items() if name not in rated}
    return replace(pane, rates=rates, rated=rated)
