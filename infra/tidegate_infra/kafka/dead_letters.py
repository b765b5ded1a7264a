"""What stands in the headers of a dead letter: where its bytes came from, who refused them and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from tidegate.errors import ContractError
from tidegate_infra.kafka.ranges import Message

REQUEUED_HEADER = "tidegate-requeued"
"""Header of a dead letter that was put back: its source's `topic id:partition:offset`.

It is part of the copy's identity, since the one that could not be read had the same key. A message of
`llm.dlq` that has it is no dead letter: it marks the one of that source as put back.
"""

LONGEST_ERROR_BYTES = 1_000
"""Longer words are cut: the reason is what counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Where the bytes of a dead letter came from, and why they were refused.

    Parameters
    ----------
    topic
        Source topic without the installation's prefix.
    topic_id
        Kafka's id of the source topic.
    partition, offset
        Where it stood there. With the topic id they identify the dead letter: a redo may send it twice.
    stage
        Process that refused it.
    reason
        One of a closed list, since it becomes a metric label.
    error
        What was found, in a sentence.
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    stage: str
    reason: str
    error: str

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the Kafka headers that say so."""
        return [
            ("topic_id", self.topic_id.encode()),
            ("topic", self.topic.encode()),
            ("partition", b"%d" % self.partition),
            ("offset", b"%d" % self.offset),
            ("stage", self.stage.encode()),
            ("reason", self.reason.encode()),
            ("error", self.error.encode()[:LONGEST_ERROR_BYTES]),
        ]

    @property
    def coordinates(self) -> str:
        """Name its source, as a requeued copy carries it."""
        return f"{self.topic_id}:{self.partition}:{self.offset}"

    def alone(self, size: int) -> "DeadLetter":
        """Return the letter that goes without the message, whose bytes are too many to be kept."""
        return replace(self, error=f"its {size} bytes are too many to be kept here: {self.error}")


def bury(produce: Callable[..., object], letter: DeadLetter, message: Message) -> None:
    """Write a dead letter, or, when it is larger than Kafka takes, what its headers say.

    Parameters
    ----------
    produce
        Takes `value`, `key` and `headers`.
    letter
        Where the message came from, and why it was refused.
    message
        What was refused.
    """
    key, value = message.key() or b"", message.value() or b""
    try:
        produce(value=message.value(), key=message.key(), headers=letter.headers())
    except KafkaException as error:
        if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
            raise
        produce(value=b"", key=None, headers=letter.alone(len(key) + len(value)).headers())


def read(headers: Sequence[tuple[str, bytes | None]] | Mapping[str, Any] | None) -> DeadLetter:
    """Read the headers of a dead letter.

    Raises
    ------
    ContractError
        Headers are missing or unreadable: somebody else wrote to the dead letters.
    """
    found = {name: (value or b"").decode(errors="replace") for name, value in dict(headers or ()).items()}
    try:
        return DeadLetter(
            topic=found["topic"],
            topic_id=found["topic_id"],
            partition=int(found["partition"]),
            offset=int(found["offset"]),
            stage=found["stage"],
            reason=found["reason"],
            error=found["error"],
        )
    except (KeyError, ValueError) as error:
        raise ContractError("invalid_field", f"these headers are no dead letter's: {error}") from None


def is_mark(headers: Sequence[tuple[str, bytes | None]] | Mapping[str, Any] | None) -> bool:
    """Whether a message of `llm.dlq` says of a dead letter that it was put back."""
    return REQUEUED_HEADER in dict(headers or ())
