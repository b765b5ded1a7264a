"""Events of Kafka's topics, as far back as they are kept, decoded as stage 1 decodes them."""

from collections.abc import Iterator

import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate.registry import SchemaRegistry
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import rules, scan
from tidegate_infra.kafka.batches import decode_batch
from tidegate_infra.kafka.client import consumer, explained
from tidegate_infra.settings import Settings
from tidegate_streams.backtest import fitting
from tidegate_streams.backtest.fitting import ROW
from tidegate_streams.backtest.pieces import Piece

_TOPICS = {CALLS: "LLMCall", FEEDBACK: "Feedback", EVALUATIONS: "Evaluation"}
_MESSAGES = 50_000
_WAIT_SECONDS = 0.1
_FETCH_WAIT_MS = 20
_ANSWER_SECONDS = 10.0


def read(settings: Settings, since_us: int | None) -> Iterator[Piece]:
    """Read the events that Kafka holds now.

    Parameters
    ----------
    settings
        Where Kafka is.
    since_us
        Event time before which nothing is needed, in microseconds since the epoch. No event is appended more
        than a second before its time, so earlier messages are not read.

    Raises
    ------
    ConfigError
        There is no such topic, or we are not let in.
    DependencyUnavailable
        Kafka does not answer.
    """
    scan.check_topics(settings, list(_TOPICS))
    registry = SchemaRegistry(settings.schema_registry_url) if settings.schema_registry_url else None
    for topic, record in _TOPICS.items():
        for partition, messages, share in _messages(settings, topic, since_us):
            batch = decode_batch(messages, record, fitting.fields(record), registry=registry)
            refused = [(one.message.offset(), one.reason, one.detail) for one in batch.rejected]
            append_ms = pl.Series([message.timestamp()[1] for message in messages], dtype=pl.Int64)
            yield Piece(
                record,
                batch.frame.rename({"_offset": ROW}),
                pl.DataFrame(refused, schema=rules.NONE.schema, orient="row"),
                share,
                f"{topic}[{partition}]",
                append_ms.gather(batch.rows) * 1_000,
            )


def _messages(
    settings: Settings, topic: str, since_us: int | None
) -> Iterator[tuple[int, list[Message], float]]:
    """Yield messages of one partition each, and how much of the topic has been read with them."""
    name = settings.topic_prefix + topic
    reader = consumer(settings, "backtest", enable_partition_eof=True, fetch_wait_max_ms=_FETCH_WAIT_MS)
    try:
        numbers = scan.partitions(settings, topic)
        begins = _begins(reader, name, numbers, since_us)
        ends = {number: _bounds(reader, name, number) for number in numbers}
        total = sum(high - max(low, begins[number]) for number, (low, high) in ends.items())
        reader.assign([TopicPartition(name, number, begins[number]) for number in numbers])
        unfinished, done = set(numbers), 0
        while unfinished:
            got: dict[int, list[Message]] = {}
            for message in reader.consume(_MESSAGES, _WAIT_SECONDS):
                error = message.error()
                if error is None:
                    got.setdefault(message.partition() or 0, []).append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(message.partition() or 0)
                else:
                    raise explained(KafkaException(error), f"reading {name}")
            for number, messages in sorted(got.items()):
                done += len(messages)
                yield number, messages, min(done / max(total, 1), 1.0)
    except KafkaException as error:
        raise explained(error, f"reading {name}") from error
    finally:
        reader.close()


def _begins(reader: Consumer, name: str, numbers: list[int], since_us: int | None) -> dict[int, int]:
    if since_us is None:
        return dict.fromkeys(numbers, OFFSET_BEGINNING)
    asked = [TopicPartition(name, number, max(since_us // 1_000 - 1_000, 0)) for number in numbers]
    return {found.partition: found.offset for found in reader.offsets_for_times(asked, _ANSWER_SECONDS)}


def _bounds(reader: Consumer, name: str, number: int) -> tuple[int, int]:
    return reader.get_watermark_offsets(TopicPartition(name, number), timeout=_ANSWER_SECONDS)
