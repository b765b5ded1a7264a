"""Kafka clients: the one place where servers, security and delivery guarantees are configured."""

import logging
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient

from tidegate.errors import ConfigError, DependencyUnavailable, TidegateError
from tidegate_infra.settings import Settings

HEARTBEATS = 4
"""Signs of life in a session: some may be late before a process counts as dead."""

LARGEST_BYTES = 4 << 20
"""Most bytes of a message of ours: more than others may send, and less than those topics take that hold what
we make of it. What is too large even so is refused before it is sent, and something can be done about it."""

_ANSWER_SECONDS = 10.0

REFUSALS = frozenset({KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._AUTHENTICATION, KafkaError._SSL})
"""Errors of a broker that does not let us in, or that we do not trust."""


def producer(settings: Settings, **conf: object) -> Producer:
    """Make a producer that neither loses nor repeats what it sends while it lives.

    Parameters
    ----------
    settings
        Where Kafka is.
    conf
        Further librdkafka properties; write underscores for the dots of their names.
    """
    return Producer(
        _connection(settings)
        | {
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "message.max.bytes": LARGEST_BYTES,
            # The same partition for a key as Kafka's own clients choose.
            "partitioner": "murmur2_random",
        }
        | _dotted(conf)
    )


def consumer(settings: Settings, group: str, **conf: object) -> Consumer:
    """Make a consumer that commits nothing by itself.

    Parameters
    ----------
    settings
        Where Kafka is.
    group
        Plain name, such as ``aggregate``; the installation's prefix is added.
    conf
        Further librdkafka properties; write underscores for the dots of their names.
    """
    return Consumer(
        _connection(settings)
        | {
            "group.id": group_name(settings, group),
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "range",
            "session.timeout.ms": settings.kafka_session_ms,
            "heartbeat.interval.ms": settings.kafka_session_ms // HEARTBEATS,
        }
        | _dotted(conf)
    )


def admin(settings: Settings, **conf: object) -> AdminClient:
    """Make an admin client; `conf` as for `producer`."""
    return AdminClient(_connection(settings) | _dotted(conf))


def group_name(settings: Settings, name: str) -> str:
    """Name of a consumer group in this installation."""
    return f"{settings.topic_prefix}tidegate.{name}"


def topic_id(client: AdminClient, topic: str) -> str:
    """Return Kafka's id of a topic (its name with the prefix); a topic made anew under its name has another.

    Raises
    ------
    ConfigError
        There is no such topic.
    DependencyUnavailable
        Kafka does not answer.
    """
    try:
        answer = client.describe_topics(TopicCollection([topic]), request_timeout=_ANSWER_SECONDS)[topic]
        return str(answer.result().topic_id)
    except KafkaException as error:
        raise explained(error, f"describing topic {topic}") from error


def explained(error: KafkaException, doing: str) -> TidegateError:
    """Turn librdkafka's error into one that says whose fault it is and what to do."""
    cause: KafkaError = error.args[0]
    what = f"{doing}: {cause.str()}"
    match cause.code():
        case KafkaError.UNKNOWN_TOPIC_OR_PART:
            return ConfigError(f"{what}: create the topics with `tidegate topic apply`")
        case (
            KafkaError.TOPIC_AUTHORIZATION_FAILED
            | KafkaError.GROUP_AUTHORIZATION_FAILED
            | KafkaError.CLUSTER_AUTHORIZATION_FAILED
        ):
            return ConfigError(f"{what}: grant this user the right on the brokers")
        case KafkaError.MSG_SIZE_TOO_LARGE:
            return ConfigError(f"{what}: `tidegate topic apply` lets the topics take what they should")
        case KafkaError.SASL_AUTHENTICATION_FAILED | KafkaError._AUTHENTICATION:
            return ConfigError(f"{what}: check TIDEGATE_KAFKA_USERNAME and TIDEGATE_KAFKA_PASSWORD")
        case KafkaError._SSL:
            return ConfigError(f"{what}: check TIDEGATE_KAFKA_CA and TIDEGATE_KAFKA_SECURITY_PROTOCOL")
        case _:
            return DependencyUnavailable(
                f"Kafka does not answer ({what}): start it (`tidegate up` for a local one), or set "
                "TIDEGATE_KAFKA"
            )


def _connection(settings: Settings) -> dict[str, Any]:
    conf: dict[str, Any] = {
        "bootstrap.servers": settings.kafka,
        "security.protocol": settings.kafka_security_protocol,
        "logger": logging.getLogger("tidegate.kafka"),
        # A broker that restarts is back within seconds; the default pause grows to ten.
        "reconnect.backoff.max.ms": 1_000,
    }
    if settings.kafka_security_protocol.startswith("sasl"):
        conf |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.kafka_password.get_secret_value(),
        }
    if settings.kafka_ca is not None:
        conf["ssl.ca.location"] = str(settings.kafka_ca)
    return conf


# The client's own names, beside librdkafka's dotted ones.
_CALLBACKS = frozenset({"on_commit", "error_cb", "stats_cb", "throttle_cb", "oauth_cb", "logger"})


def _dotted(conf: dict[str, object]) -> dict[str, object]:
    return {name if name in _CALLBACKS else name.replace("_", "."): value for name, value in conf.items()}
