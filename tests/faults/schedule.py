"""What goes wrong in a run, and when: a function of the seed alone."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

PROCESSES = ("aggregate", "stream", "sink", "notify")
MEMBERS = ("kafka", "store", *PROCESSES)

SESSION_SECONDS = 6.0
"""A consumer that is silent for longer loses its partitions."""

POINTS = (
    "aggregate.after_claim",
    "aggregate.mid_produce",
    "aggregate.after_produce",
    "aggregate.after_settle",
    "stream.after_apply",
    "stream.mid_send",
    "stream.after_send",
    "sink.after_claim",
    "sink.after_insert",
    "sink.after_settle",
    "notify.after_post",
)
"""Where a process kills itself, between two effects."""

EVENTS = ("llm.calls", "llm.feedback", "llm.evaluations")

TARGETS: dict[str, tuple[str, ...]] = {
    "kill": MEMBERS,
    "crash": POINTS,
    "freeze": MEMBERS,
    "outlast": (*PROCESSES, "kafka"),
    "join": ("aggregate", "stream", "sink", "notify"),
    "replay": EVENTS,
    "poison": EVENTS,
    "hot": ("llm.calls",),
    "skew": ("ahead", "behind", "long past"),
    "webhook": ("hang", "refuse"),
}
"""Kind of fault -> what it can strike."""

MEANINGS = {
    "kill": "SIGKILL of a process; it is started again as an orchestrator would",
    "crash": "SIGKILL at a named point between two effects",
    "freeze": "SIGSTOP for 2 to 4 s, then SIGCONT",
    "outlast": "SIGSTOP for longer than a consumer's session, then SIGCONT: a zombie",
    "join": "a second process joins the group for 5 to 9 s, and leaves in order or by SIGKILL",
    "replay": "a stretch of the log is produced once more: same keys, same bytes",
    "poison": "a burst of records that cannot be read or break a rule",
    "hot": "for 3 to 6 s all calls go to one partition, the others are idle",
    "skew": "a burst of calls whose clock is an hour ahead, minutes behind or hours behind",
    "webhook": "the webhook's receiver hangs or refuses for 4 to 8 s",
}

_SECONDS = {
    "freeze": (2.0, 4.0),
    "outlast": (SESSION_SECONDS + 2, SESSION_SECONDS + 6),
    "join": (5.0, 9.0),
    "hot": (3.0, 6.0),
    "webhook": (4.0, 8.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Parameters
    ----------
    at_s
        Seconds after the traffic's beginning.
    kind
        One of `TARGETS`.
    target
        What it strikes.
    seconds
        How long it lasts; 0 when it is over at once.
    """

    at_s: float
    kind: str
    target: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" for {self.seconds:.1f} s" if self.seconds else "")

    def plain(self) -> dict[str, Any]:
        """As a history keeps it."""
        return asdict(self)


def schedule(seed: int, count: int, span_s: float) -> list[Fault]:
    """Draw the faults of a run, in the order of their beginnings.

    Parameters
    ----------
    seed
        Of the run. Kinds come about equally often; no pair of kind and target twice in a run, unless more
        faults are asked for than there are pairs.
    count
        How many.
    span_s
        Seconds within which they begin. They may overlap.
    """
    rng = random.Random(seed)
    drawn = _deck(rng)
    faults = []
    for at_s in sorted(rng.uniform(0.0, span_s) for _ in range(count)):
        kind, target = next(drawn)
        seconds = rng.uniform(*_SECONDS[kind]) if kind in _SECONDS else 0.0
        faults.append(Fault(round(at_s, 2), kind, target, round(seconds, 2)))
    return faults


def _deck(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Deal one target of every kind, then another of each, for ever."""
    hands: dict[str, list[str]] = {kind: [] for kind in TARGETS}
    while True:
        for kind in rng.sample(list(TARGETS), len(TARGETS)):
            hands[kind] = hands[kind] or rng.sample(TARGETS[kind], len(TARGETS[kind]))
            yield kind, hands[kind].pop()
