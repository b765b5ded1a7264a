"""Every topic: the one place that spells a topic's name.

Partition counts never change in place: a key would move, and with it the order of what it keys.
"""

from dataclasses import dataclass, field

from tidegate.records import (
    Alert,
    DeploymentCommand,
    DeploymentStatus,
    DriftEvent,
    EndOfStream,
    Evaluation,
    Feedback,
    Heartbeat,
    JournalAction,
    JournalRollout,
    LLMCall,
    Model,
    PartialBatch,
    PriceTable,
    ProducerReport,
    Prompt,
    Rollout,
    RolloutAction,
    RolloutProgress,
    Silence,
    WindowMetricsBatch,
)

CALLS = "llm.calls"
FEEDBACK = "llm.feedback"
EVALUATIONS = "llm.evaluations"
ROLLOUTS = "llm.rollouts"
ACTIONS = "llm.actions"
PARTIALS = "llm.partials"
PRICES = "llm.prices"
SNAPSHOTS = "llm.snapshots"
METRICS = "llm.metrics"
DRIFT = "llm.drift"
ALERTS = "llm.alerts"
SILENCES = "llm.silences"
DEPLOYMENTS = "llm.deployments"
STATUS = "llm.status"
PROGRESS = "llm.progress"
PRODUCERS = "llm.producers"
PROMPTS = "llm.prompts"
MODELS = "llm.models"
DLQ = "llm.dlq"

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A row of the topic table.

    Parameters
    ----------
    name
        Name without the prefix of the installation.
    partitions
        Number of partitions, fixed when the topic is created.
    key
        What the Kafka key is, in words.
    records
        Record classes that may stand in it; none for dead letters, which keep the bytes they came as.
    config
        Topic configuration.
    """

    name: str
    partitions: int
    key: str
    records: tuple[type, ...]
    config: dict[str, str] = field(default_factory=dict)


def _kept(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


CLAMP_US = 1_000_000
"""How far event time may stand behind the broker's append time, in microseconds; further is clamped."""

# The broker's clock is the reference for "in the future": with the producer's own times a clamp could not be
# repeated in a replay.
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}

# A reader that was away for less than a day sees every state in between.
_COMPACT = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_DAY_MS)}

LARGE_BYTES = 8 << 20
"""Most bytes of a batch in topics that hold what we make of records: it is larger than they are, and they
may have the 1 MiB that brokers take unless told otherwise. A dead letter has headers, a rating its series, a
command the evidence of every metric. Our own producers refuse more than half of this."""

_LARGE = {"max.message.bytes": str(LARGE_BYTES)}

_DEPLOYMENT = "tenant/environment/deployment"

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(CALLS, 12, "event_id", (LLMCall, EndOfStream), _kept(3) | _APPEND_TIME),
        Topic(FEEDBACK, 6, "target", (Feedback,), _kept(7) | _APPEND_TIME | _LARGE),
        Topic(EVALUATIONS, 6, "target", (Evaluation,), _kept(7) | _APPEND_TIME | _LARGE),
        Topic(ROLLOUTS, 1, _DEPLOYMENT, (Rollout,), _COMPACT),
        Topic(ACTIONS, 1, _DEPLOYMENT, (RolloutAction,), _kept(30)),
        Topic(
            PARTIALS,
            6,
            "none; the partition is chosen by shard",
            (PartialBatch, Heartbeat, JournalRollout, JournalAction),
            _kept(7) | _LARGE,
        ),
        # Of the journal, and read by the release that wrote them: beyond its retention they lead nowhere.
        Topic(SNAPSHOTS, 6, "none; the partition is the journal's", (), _kept(7)),
        Topic(PRICES, 1, "hash", (PriceTable,), _COMPACT | _LARGE),
        Topic(METRICS, 6, "none", (WindowMetricsBatch,), _kept(7) | _LARGE),
        Topic(DRIFT, 1, "series", (DriftEvent,), _kept(30)),
        Topic(ALERTS, 1, "fingerprint", (Alert,), _kept(30) | _LARGE),
        Topic(SILENCES, 1, "silence_id", (Silence,), _kept(30)),
        # Compact only: with deletion a quiet deployment's weights would vanish. Every command stays for
        # longer than the journal that it was decided from: it says with which revision a replay begins.
        Topic(
            DEPLOYMENTS,
            1,
            _DEPLOYMENT,
            (DeploymentCommand,),
            _COMPACT | {"min.compaction.lag.ms": str(30 * _DAY_MS)} | _LARGE,
        ),
        Topic(STATUS, 1, _DEPLOYMENT, (DeploymentStatus,), _kept(30) | _LARGE),
        Topic(PROGRESS, 1, _DEPLOYMENT, (RolloutProgress,), {"cleanup.policy": "compact"} | _LARGE),
        Topic(PRODUCERS, 3, "producer_id", (ProducerReport,), _kept(7) | _APPEND_TIME),
        Topic(PROMPTS, 1, "tenant/name@version or tenant/name#environment", (Prompt,), _COMPACT),
        Topic(MODELS, 1, "tenant/name@version", (Model,), _COMPACT),
        Topic(DLQ, 3, "the original key", (), _kept(30) | _LARGE),
    )
}
