"""Where encoded events go: Kafka, or a list in memory."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.client.configuration import Configuration
from tidegate.client.forking import no_fork
from tidegate.client.notices import Notices
from tidegate.errors import ConfigError

Settled = Callable[[bool], None]
"""Told once for each message whether it was confirmed."""


class Transport(Protocol):
    """Takes messages and says later what became of each; used by one thread only."""

    @property
    def broken(self) -> bool:
        """It will never deliver again, and must be replaced."""

    def send(self, topic: str, key: str, value: bytes, settled: Settled) -> bool:
        """Take a message; False when there is no room just now."""

    def poll(self, timeout_seconds: float) -> None:
        """Report what was settled; wait for the first such report at most this long."""

    def give_up(self) -> None:
        """Settle everything that is not confirmed yet as failed."""


def kafka_settings(configuration: Configuration) -> dict[str, Any]:
    """Return how librdkafka reaches and trusts the brokers."""
    wanted = {
        "bootstrap.servers": configuration.kafka,
        "client.id": f"tidegate-{configuration.app}",
        "security.protocol": configuration.kafka_security_protocol,
        "sasl.mechanism": configuration.kafka_sasl_mechanism,
        "sasl.username": configuration.kafka_username,
        "sasl.password": configuration.kafka_password,
        "ssl.ca.location": configuration.kafka_ca,
    }
    # librdkafka's own lines on stderr would be the app's noise; errors come through error_cb.
    return {name: value for name, value in wanted.items() if value} | {
        "log_level": 0,
        "reconnect.backoff.max.ms": 2_000,
    }


def check_kafka_settings(configuration: Configuration) -> None:
    """Make and drop a Kafka client, which reaches for no broker in time, to have its settings checked.

    Raises
    ------
    ConfigError
        librdkafka refuses a setting.
    """
    from confluent_kafka import KafkaException, Producer

    try:
        with no_fork():
            Producer(kafka_settings(configuration))
    except KafkaException as error:
        said = error.args[0].str()
        if configuration.kafka_password:
            said = said.replace(configuration.kafka_password, "***")
        raise ConfigError(f"Kafka's settings are refused: {said}") from None


def kafka_transport(configuration: Configuration, notices: Notices) -> Callable[[], Transport]:
    """Return what makes a transport; loads its library now, not in a thread that a fork may cut."""
    import confluent_kafka  # noqa: F401

    def make() -> Transport:
        with no_fork():
            return KafkaTransport(configuration, notices)

    return make


class _Trouble:
    """What the brokers complain of.

    Apart from the transport, so that no cycle of references leaves the producer to the garbage collector:
    that runs in a thread of the app, which would then wait for librdkafka's threads, however long one looks
    up a name.
    """

    def __init__(self, kafka: str, notices: Notices) -> None:
        self.fatal = False
        self._kafka = kafka
        self._notices = notices

    def tell(self, error: Any) -> None:
        self.fatal = self.fatal or error.fatal()
        self._notices.warn("kafka", "Kafka at %s: %s", self._kafka, error.str())


class KafkaTransport:
    """An idempotent producer, which confirms when all in-sync replicas have the message.

    Parameters
    ----------
    configuration
        Where Kafka is, and how long to try.
    notices
        Where trouble with the brokers is told.
    """

    def __init__(self, configuration: Configuration, notices: Notices) -> None:
        from confluent_kafka import KafkaException, Producer

        self._refusal = KafkaException
        self._trouble = _Trouble(configuration.kafka, notices)
        delivery_ms = int(configuration.delivery_seconds * 1_000)
        self._producer = Producer(
            kafka_settings(configuration)
            | {
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "message.timeout.ms": delivery_ms,
                # An app may start before the topics are there.
                "topic.metadata.propagation.max.ms": delivery_ms,
                # The bounded queue in front is the bound; this one only must not be narrower.
                "queue.buffering.max.messages": 0,
                "queue.buffering.max.kbytes": 2_097_151,
                "error_cb": self._trouble.tell,
            }
        )

    @property
    def broken(self) -> bool:
        """It will never deliver again, and must be replaced."""
        return self._trouble.fatal

    def send(self, topic: str, key: str, value: bytes, settled: Settled) -> bool:
        """Take a message; False when there is no room just now."""
        try:
            self._producer.produce(
                topic, value, key.encode(), on_delivery=lambda error, _message: settled(error is None)
            )
        except BufferError:
            return False
        except self._refusal as error:
            self._trouble.tell(error.args[0])
            settled(False)
        return True

    def poll(self, timeout_seconds: float) -> None:
        """Report what was settled; wait for the first such report at most this long."""
        self._producer.poll(timeout_seconds)

    def give_up(self) -> None:
        """Settle everything that is not confirmed yet as failed."""
        self._producer.purge()
        self._producer.poll(0)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message as it would stand in Kafka."""

    topic: str
    key: str
    value: bytes


class MemoryTransport:
    """Confirms everything and keeps it, for tests."""

    broken = False

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._unsettled: deque[Settled] = deque()

    def send(self, topic: str, key: str, value: bytes, settled: Settled) -> bool:
        """Take a message."""
        self.sent.append(Sent(topic, key, value))
        self._unsettled.append(settled)
        return True

    def poll(self, timeout_seconds: float) -> None:  # noqa: ARG002 - nothing is ever waited for
        """Confirm everything."""
        while self._unsettled:
            self._unsettled.popleft()(True)

    def give_up(self) -> None:
        """Confirm everything: there is nothing that could be lost."""
        self.poll(0)
