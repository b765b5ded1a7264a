"""Ratings that lack their series, and what becomes of each: pure, whatever the order they are asked in."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tidegate import codec
from tidegate.errors import ContractError
from tidegate.limits import LONGEST_NAME_BYTES
from tidegate.records import Evaluation, Feedback, Series
from tidegate.topics import CLAMP_US, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka.batches import decode_batch
from tidegate_infra.kafka.ranges import Message, Range

RECORDS: dict[str, type[Feedback] | type[Evaluation]] = {FEEDBACK: Feedback, EVALUATIONS: Evaluation}
"""Topic -> what it holds."""

Identity = tuple[str, str]
"""Tenant and event id: nobody's rating is about the call of another tenant."""


@dataclass(frozen=True, slots=True)
class Lonely:
    """A rating that names its call and lacks its series.

    Parameters
    ----------
    message
        As it stands in the log.
    record
        What it holds.
    """

    message: Message
    record: Feedback | Evaluation

    @property
    def append_us(self) -> int:
        """When the broker got it, in microseconds since the epoch."""
        return self.message.timestamp()[1] * 1_000

    @property
    def ts_us(self) -> int:
        """Its time, no further in the future than windows take it: its copy must count at the same one."""
        return min(self.record.ts, self.append_us + CLAMP_US)

    @property
    def identity(self) -> Identity:
        """What it is recognised by."""
        return self.record.tenant, self.record.event_id

    @property
    def call(self) -> Identity:
        """The call that it is about."""
        return self.record.tenant, self.record.target_event_id or ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store says.

    Parameters
    ----------
    series
        Series of the calls that it has.
    resolved
        Ratings that it has with their series already.
    """

    series: Mapping[Identity, Series]
    resolved: Collection[Identity]


@dataclass(slots=True)
class Outcome:
    """What becomes of ratings.

    Parameters
    ----------
    complete
        The ratings that are to be published again, with their series.
    repeated
        How many had their series before.
    unknown
        Those whose call will not come any more.
    open
        Those that wait for their call.
    """

    complete: list[tuple[Lonely, Feedback | Evaluation]] = field(default_factory=list)
    repeated: int = 0
    unknown: list[Lonely] = field(default_factory=list)
    open: list[Lonely] = field(default_factory=list)


def lonely(range_: Range, registry: codec.Registry | None = None) -> tuple[list[Lonely], int]:
    """Return the ratings of a range that lack their series, and how many are about no single call.

    What cannot be read, or breaks a rule, is none of them: it is dead-lettered elsewhere.
    """
    record = RECORDS[range_.topic]
    wanted = ("target_event_id", "series")
    batch = decode_batch(range_.messages, record.__name__, wanted, slow=range_.redo, registry=registry)
    is_lonely = batch.frame.get_column("series").is_null()
    targets = batch.frame.get_column("target_event_id")
    is_named = targets.is_not_null() & (targets != "")
    found = []
    for row in batch.rows.filter(is_lonely & is_named):
        message = range_.messages[row]
        # Something else in it may be wrong, for which the sink dead-letters it.
        with suppress(ContractError):
            found.append(Lonely(message, codec.decode(message.value() or b"", registry, record, mend=True)))
    return found, int((is_lonely & ~is_named).sum())


def decide(ratings: Iterable[Lonely], answer: Answer, *, final: bool) -> Outcome:
    """Say what becomes of ratings.

    Parameters
    ----------
    ratings
        All open ones of a range.
    answer
        Of the store.
    final
        Whether a call that is not in the store will not come any more.
    """
    outcome = Outcome()
    done = set(answer.resolved)
    for rating in ratings:
        series = answer.series.get(rating.call)
        if rating.identity in done:
            outcome.repeated += 1
        elif series is not None:
            done.add(rating.identity)
            outcome.complete.append((rating, replace(rating.record, ts=rating.ts_us, series=series)))
        elif final or len(rating.call[1]) > LONGEST_NAME_BYTES:
            outcome.unknown.append(rating)
        else:
            outcome.open.append(rating)
    return outcome
