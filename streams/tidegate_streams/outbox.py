"""Where the outputs of the fold go, one at a time, each confirmed by Kafka before the next."""

from typing import Any

from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError
from faust.types.transports import ProducerT
from prometheus_client import Counter

from tidegate import topics
from tidegate.codec import encode
from tidegate.errors import ContractError, DependencyUnavailable
from tidegate.records import (
    Alert,
    DeploymentCommand,
    DeploymentStatus,
    RolloutProgress,
    WindowMetricsBatch,
)
from tidegate.series import deployment_key
from tidegate_infra.kafka.client import LARGEST_BYTES
from tidegate_infra.kafka.dead_letters import DeadLetter
from tidegate_infra.process import Process

OUTPUTS = {
    WindowMetricsBatch: topics.METRICS,
    DeploymentCommand: topics.DEPLOYMENTS,
    RolloutProgress: topics.PROGRESS,
    DeploymentStatus: topics.STATUS,
    Alert: topics.ALERTS,
}
"""Record -> topic."""


class Outbox:
    """Sends records with the keys and partitions of the topic table.

    Parameters
    ----------
    process
        Settings, log and metrics.
    producer
        Idempotent; started.
    journal_id
        Kafka's id of the journal, for dead letters.
    """

    def __init__(self, process: Process, producer: ProducerT, journal_id: str) -> None:
        self._process = process
        self._producer = producer
        self._journal_id = journal_id
        self._sent = Counter(
            "tidegate_stream_records", "Records published, by topic.", ["topic"], registry=process.metrics
        )

    async def send(self, record: Any) -> None:
        """Publish a record, and return when Kafka has it.

        Raises
        ------
        ContractError
            It is too large for Kafka, or cannot be written.
        DependencyUnavailable
            Kafka does not take it.
        """
        key: str | None
        partition = None
        match record:
            case WindowMetricsBatch():
                key = None
                partition = record.partition % topics.TOPICS[topics.METRICS].partitions
            case Alert():
                key = record.fingerprint
            case _:
                key = deployment_key(record.tenant, record.environment, record.deployment)
        topic = OUTPUTS[type(record)]
        await self._send(topic, None if key is None else key.encode(), encode(record), partition, [])
        self._sent.labels(topic).inc()
        if isinstance(record, DeploymentCommand):
            self._process.log.info(
                "command", deployment=key, revision=record.revision, action=record.action, why=record.reason
            )

    async def reject(
        self, partition: int, offset: int, key: bytes | None, value: bytes | None, error: ContractError
    ) -> None:
        """Put a message of the journal among the dead letters, as it came: what it causes is not published.

        Parameters
        ----------
        partition, offset
            Of the journal.
        key, value
            As they came; left out when they are too large.
        error
            Why.
        """
        letter = DeadLetter(
            topic=topics.PARTIALS,
            topic_id=self._journal_id,
            partition=partition,
            offset=offset,
            stage=self._process.name,
            reason=error.reason,
            error=error.detail,
        )
        self._process.log.error("rejected", partition=partition, offset=offset, why=str(error))
        try:
            await self._send(topics.DLQ, key, value, None, letter.headers())
        except ContractError:
            alone = letter.alone(len(key or b"") + len(value or b""))
            await self._send(topics.DLQ, None, b"", None, alone.headers())
        self._sent.labels(topics.DLQ).inc()

    async def _send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        headers: list[tuple[str, bytes]],
    ) -> None:
        name = self._process.settings.topic_prefix + topic
        size = len(key or b"") + len(value or b"") + sum(len(one) + len(said) for one, said in headers)
        # Before it is sent: what a broker refuses has taken a number of the idempotent producer's.
        if size > LARGEST_BYTES:
            raise ContractError("too_large", f"a message to {name} has {size} bytes, at most {LARGEST_BYTES}")
        try:
            await self._producer.send_and_wait(name, key, value, partition, None, headers)
        except (KafkaError, ProducerSendError) as error:
            raise DependencyUnavailable(f"Kafka did not take a message to {name}: {error!r}") from error
