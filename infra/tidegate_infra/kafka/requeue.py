"""Dead letters as they stand, and back to the topics that they came from: each once.

A copy that went back is recognised by its source only within two blocks of offsets, so a second one must not
be written at all. Therefore the copy and a *mark* on `llm.dlq`, which names the dead letter's source, are one
transaction: either both stand or neither. Whoever puts back next first ends the transactions of those before
(a fixed transactional id), then reads the marks, and leaves out what has one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.errors import ContractError, Refused, TidegateError
from tidegate.topics import ACTIONS, CALLS, DLQ, EVALUATIONS, FEEDBACK
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.kafka import client, dead_letters, scan
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER, DeadLetter
from tidegate_infra.kafka.outgoing import ANY_PARTITION
from tidegate_infra.settings import Settings

RETURNABLE = frozenset({CALLS, FEEDBACK, EVALUATIONS, ACTIONS})
"""Topics that take a record at any time. An older specification or command would stand for the newer ones
when its topic is compacted, and what a webhook refused stands in its topic and in the store already."""

_ANSWER_S = 30.0
# Readers wait for a transaction that nobody ends, and go on when it is over.
_LONGEST_MS = 15_000
_LETTERS = 1_000
_WAITING_KB = 32 << 10
"""Of one transaction, which must not take too long."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A dead letter as it stands.

    Parameters
    ----------
    message
        As on `llm.dlq`.
    letter
        Where it came from, and why it was refused.
    requeued
        Whether it was put back.
    """

    message: Message
    letter: DeadLetter
    requeued: bool

    @property
    def id(self) -> str:
        """Where it stands, as commands name it."""
        return f"{self.message.partition()}:{self.message.offset()}"


def standing(settings: Settings, skipped: Callable[[str], None] = lambda _: None) -> list[Standing]:
    """Read every dead letter once: what was redone after a crash may stand twice.

    Parameters
    ----------
    settings
        Where Kafka is.
    skipped
        Told of messages that are no dead letters.
    """
    found: dict[tuple[str, str], tuple[Message, DeadLetter]] = {}
    marks = set()
    for message in scan.messages(settings, DLQ):
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
        try:
            letter = dead_letters.read(headers)
        except ContractError as error:
            skipped(f"{message.partition()}:{message.offset()} is skipped: {error}")
            continue
        if dead_letters.is_mark(headers):
            marks.add(letter.coordinates)
        else:
            found.setdefault((letter.coordinates, letter.stage), (message, letter))
    return [Standing(message, letter, letter.coordinates in marks) for message, letter in found.values()]


def requeue(
    settings: Settings, chosen: Sequence[Standing], skipped: Callable[[str], None] = lambda _: None
) -> list[Standing]:
    """Put dead letters back to the end of the partition they came from, each once for all time.

    Parameters
    ----------
    settings
        Where Kafka is.
    chosen
        As `standing` found them.
    skipped
        Told of those that cannot go back: they are too large, or were when they came here.

    Returns
    -------
    list of Standing
        What was put back now; what had been before is left out.

    Raises
    ------
    Refused
        A dead letter is of a topic that takes nothing back.
    DependencyUnavailable
        Kafka did not answer; what it has taken is left out the next time.
    """
    strange = sorted({one.letter.topic for one in chosen} - RETURNABLE)
    if strange:
        raise Refused(
            f"nothing can be put back into {', '.join(strange)}: an older record would stand for a newer "
            "one, or a second time; repair what refused it and send it anew"
        )
    producer = client.producer(
        settings,
        transactional_id=client.group_name(settings, "requeue"),
        transaction_timeout_ms=_LONGEST_MS,
        linger_ms=0,
        queue_buffering_max_kbytes=_WAITING_KB,
    )
    gone: list[Standing] = []
    try:
        producer.init_transactions(_ANSWER_S)
        before = {one.letter.coordinates for one in standing(settings) if one.requeued}
        fresh = {one.letter.coordinates: one for one in chosen if one.letter.coordinates not in before}
        for empty in [at for at, one in fresh.items() if not one.message.value()]:
            skipped(f"{fresh.pop(empty).id} stays: it has no bytes")
        letters = list(fresh.values())
        for first in range(0, len(letters), _LETTERS):
            gone += _put_back(settings, producer, letters[first : first + _LETTERS], skipped)
    except KafkaException as error:
        raise _unanswered(error) from error
    return gone


def _put_back(
    settings: Settings, producer: Producer, chosen: Sequence[Standing], skipped: Callable[[str], None]
) -> Sequence[Standing]:
    """Put back all of them, or each half for itself when they are too large together."""
    try:
        _transact(settings, producer, chosen)
    except (BufferError, KafkaException) as error:
        if isinstance(error, KafkaException) and error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
            raise
        producer.abort_transaction(_ANSWER_S)
    else:
        return chosen
    if len(chosen) == 1:
        one = chosen[0]
        skipped(f"{one.id} stays: with the header of a copy it is too large for {one.letter.topic}")
        return []
    half = len(chosen) // 2
    return [
        *_put_back(settings, producer, chosen[:half], skipped),
        *_put_back(settings, producer, chosen[half:], skipped),
    ]


def _transact(settings: Settings, producer: Producer, chosen: Sequence[Standing]) -> None:
    ids = {topic: _topic_id(settings, topic) for topic in {one.letter.topic for one in chosen}}
    producer.begin_transaction()
    for one in chosen:
        letter, key = one.letter, one.message.key()
        source = (REQUEUED_HEADER, letter.coordinates.encode())
        producer.produce(
            settings.topic_prefix + letter.topic,
            value=one.message.value(),
            key=key,
            headers=[source],
            # Where its copies are recognised; a topic that was made anew may have other partitions.
            partition=letter.partition if letter.topic_id == ids[letter.topic] else ANY_PARTITION,
        )
        producer.produce(
            settings.topic_prefix + DLQ,
            key=key,
            headers=[*letter.headers(), source],
            # With its letter: what is deleted for its age must not go before it.
            partition=cast("int", one.message.partition()),
        )
    producer.flush(_ANSWER_S)
    crashpoint("requeue.before_commit")
    producer.commit_transaction(_ANSWER_S)


def _topic_id(settings: Settings, topic: str) -> str:
    return client.topic_id(client.admin(settings), settings.topic_prefix + topic)


def _unanswered(error: KafkaException) -> TidegateError:
    told = client.explained(error, "putting dead letters back")
    return type(told)(f"{told} Run it again: what went back is marked, and left out then.")
