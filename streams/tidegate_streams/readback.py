"""What stands in topics at this moment, however slowly Kafka gives it."""

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tidegate.errors import DependencyUnavailable
from tidegate_infra.kafka import client
from tidegate_infra.settings import Settings

SILENCE_SECONDS = 30.0
"""Reading back may take as long as it takes, but not longer without a message that was still missing."""

_BATCH = 1_000
_POLL_SECONDS = 0.05
_FETCH_WAIT_MS = 20


def messages(settings: Settings, places: Mapping[tuple[str, int], int | None]) -> Iterator[Message]:
    """Read what stands in partitions, up to the ends that they have now.

    Parameters
    ----------
    settings
        Where Kafka is.
    places
        Topic (as in the table) and partition -> how many of its last messages; None for all.

    Raises
    ------
    ConfigError
        A topic is missing.
    DependencyUnavailable
        Kafka has fallen silent.
    """
    # The end of a partition is reported when a fetch returns, which by default takes half a second.
    consumer = client.consumer(settings, "scan", enable_partition_eof=True, fetch_wait_max_ms=_FETCH_WAIT_MS)
    try:
        unfinished = {}
        for (topic, partition), last in places.items():
            name = settings.topic_prefix + topic
            low, end = consumer.get_watermark_offsets(
                TopicPartition(name, partition), timeout=SILENCE_SECONDS
            )
            unfinished[name, partition] = low if last is None else max(low, end - last)
        consumer.assign([TopicPartition(*at, start) for at, start in unfinished.items()])
        heard_at = time.monotonic()
        while unfinished:
            batch = consumer.consume(_BATCH, timeout=_POLL_SECONDS)
            # Others write meanwhile: what comes behind an end that was reached brings no other end nearer.
            if any((message.topic() or "", message.partition() or 0) in unfinished for message in batch):
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > SILENCE_SECONDS:
                missing = ", ".join(f"{name}[{number}]" for name, number in unfinished)
                raise DependencyUnavailable(
                    f"Kafka gave nothing of what was published for {SILENCE_SECONDS:g} s, and the end of "
                    f"{missing} was not reached: is it up?"
                )
            for message in batch:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.pop((message.topic() or "", message.partition() or 0), None)
                else:
                    raise KafkaException(error)
    except KafkaException as error:
        raise client.explained(error, "reading back what was published") from error
    finally:
        consumer.close()
