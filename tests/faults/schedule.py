"""What goes wrong in a run, and when: a function of the seed alone."""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tests.faults.liar import MOODS

PROCESSES = ("aggregate", "stream", "resolve", "sink", "notify")
MEMBERS = ("kafka", "store", *PROCESSES)

LINKS = ("app", *PROCESSES, "store")
"""Proxies: of the app and of each process to Kafka, and of those who ask the store to the store."""

POINTS = (
    "aggregate.after_claim",
    "aggregate.mid_produce",
    "aggregate.after_produce",
    "aggregate.after_settle",
    "stream.after_apply",
    "stream.mid_send",
    "stream.after_send",
    "stream.mid_snapshot",
    "resolve.after_claim",
    "resolve.after_produce",
    "resolve.after_settle",
    "sink.after_claim",
    "sink.after_insert",
    "sink.after_settle",
    "notify.after_post",
)
"""Where a process kills itself, between two effects."""

EVENTS = ("llm.calls", "llm.feedback", "llm.evaluations")


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which things go wrong.

    Parameters
    ----------
    meaning
        In a sentence.
    targets
        What it can strike.
    sessions
        How long it lasts, at least and at most, in sessions of a consumer; none where it is over at once.
    """

    meaning: str
    targets: tuple[str, ...]
    sessions: tuple[float, float] | None = None


KINDS: dict[str, Kind] = {
    "kill": Kind("SIGKILL; it is started again as an orchestrator would", MEMBERS),
    "restart": Kind("SIGTERM in the middle of its work; it is started again", MEMBERS),
    "crash": Kind("SIGKILL at a named point between two effects", POINTS),
    "freeze": Kind("SIGSTOP, then SIGCONT within a session", MEMBERS, (0.3, 0.7)),
    "outlast": Kind(
        "SIGSTOP for longer than a session, then SIGCONT: a zombie", ("kafka", *PROCESSES), (1.3, 2.0)
    ),
    "join": Kind(
        "a second process joins the group, and leaves in order or by SIGKILL", PROCESSES, (1.2, 2.0)
    ),
    "storm": Kind(
        "from one process to three and back, each joining or leaving a second after the other",
        PROCESSES,
        (0.8, 1.5),
    ),
    "delay": Kind("every piece of a link comes 0.1 to 0.4 s later, both ways", LINKS, (0.8, 2.0)),
    "cut": Kind("the connections of a link are reset, and every new one too", LINKS, (0.5, 1.8)),
    "hold": Kind(
        "a link takes bytes and passes them on too late: there, back, or both ways", LINKS, (0.5, 1.8)
    ),
    "store": Kind("the store is slow, or lies to whoever asks it", tuple(MOODS), (0.7, 1.5)),
    "disk": Kind("no byte is left on the disk", ("kafka", "store"), (0.5, 1.2)),
    "die": Kind("an app is killed with events in its queue", ("app",), (0.5, 1.5)),
    "replay": Kind(
        "a stretch of a topic is produced once more: same keys, same bytes", (*EVENTS, "llm.actions")
    ),
    "rewind": Kind("a whole topic is produced once more", EVENTS),
    "poison": Kind("a burst of records that cannot be read or break a rule", EVENTS),
    "schema": Kind(
        "a producer joins whose schema is another",
        ("newer", "older", "reordered", "incompatible", "unregistered"),
    ),
    "registry": Kind("a producer joins while the schema registry is away", ("newer",), (0.7, 1.5)),
    "hot": Kind("all calls go to one partition, the others are idle", ("llm.calls",), (0.5, 1.5)),
    "idle": Kind("no call goes to one of the partitions", ("llm.calls",), (1.0, 2.0)),
    "skew": Kind("calls from a wrong clock", ("ahead", "behind", "long past")),
    "webhook": Kind("the webhook's receiver hangs or refuses", ("hang", "refuse"), (0.7, 2.0)),
    "act": Kind("a person acts on a rollout", ("pause", "resume", "advance", "promote", "rollback", "abort")),
}
"""Name -> what it is."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Parameters
    ----------
    at_s
        Seconds after the traffic's beginning.
    kind
        One of `KINDS`.
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


def schedule(seed: int, count: int, span_s: float, session_s: float) -> list[Fault]:
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
    session_s
        After so many seconds of silence a consumer loses its partitions.
    """
    rng = random.Random(seed)
    drawn = _deck(rng)
    faults = []
    for at_s in sorted(rng.uniform(0.0, span_s) for _ in range(count)):
        kind, target = next(drawn)
        sessions = KINDS[kind].sessions
        seconds = rng.uniform(*sessions) * session_s if sessions else 0.0
        faults.append(Fault(round(at_s, 2), kind, target, round(seconds, 2)))
    return faults


def _deck(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Deal one target of every kind, then another of each, for ever."""
    hands: dict[str, list[str]] = {kind: [] for kind in KINDS}
    while True:
        for kind in rng.sample(list(KINDS), len(KINDS)):
            hands[kind] = hands[kind] or rng.sample(KINDS[kind].targets, len(KINDS[kind].targets))
            yield kind, hands[kind].pop()
