"""What was published before, read back from the topics, so that a replay publishes nothing a second time."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate import topics
from tidegate.codec import decode
from tidegate.errors import ContractError, InvariantBroken
from tidegate.records import (
    Alert,
    DeploymentCommand,
    DeploymentStatus,
    Rollout,
    RolloutProgress,
    WindowMetricsBatch,
)
from tidegate.series import deployment_key
from tidegate_infra.settings import Settings
from tidegate_streams import fold, readback
from tidegate_streams.rollouts.outputs import CONTROLLER
from tidegate_streams.rollouts.past import Past

_TAIL = 1_000
"""So many of the last messages of llm.metrics tell how far windows went out."""

_READ_BACK = (
    topics.DEPLOYMENTS,
    topics.PROGRESS,
    topics.ALERTS,
    topics.STATUS,
    topics.METRICS,
    topics.ROLLOUTS,
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Published:
    """What stands in the output topics.

    Parameters
    ----------
    commands
        Deployment key -> revision -> command, as far as compaction has left them.
    standing
        Deployment key -> revision of the last record, which a late writer may have put behind a higher one.
    progress
        Deployment key -> the one of the highest (generation, version): a journal made anew counts versions
        from zero.
    alerts
        Fingerprint -> the record of the highest sequence.
    refusals
        What was refused (an action, a specification), and when.
    windows
        Journal partition -> offset of the last message whose windows went out, perhaps in part.
    specs
        Deployment key and generation -> what was asked for, as far as compaction has left it.
    deleted
        Keys of deployments whose specification was withdrawn.
    """

    commands: dict[str, dict[int, DeploymentCommand]] = field(default_factory=lambda: defaultdict(dict))
    standing: dict[str, int] = field(default_factory=dict)
    progress: dict[str, RolloutProgress] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    refusals: set[tuple[str, int]] = field(default_factory=set)
    windows: dict[int, int] = field(default_factory=dict)
    specs: dict[tuple[str, int], Rollout] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def note(self, record: Any) -> None:
        """Remember a record that stands in its topic."""
        match record:
            case DeploymentCommand():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                self.commands[key][record.revision] = record
                self.standing[key] = record.revision
            case RolloutProgress():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                if self._is_newer(key, record):
                    self.progress[key] = record
            case Alert():
                if record.sequence > self._sequence(record):
                    self.alerts[record.fingerprint] = record
            case Rollout():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                self.specs[key, record.generation] = record
                self.deleted.discard(key)
            case DeploymentStatus():
                self.refusals.add((record.command_id, record.ts))
            case WindowMetricsBatch():
                highest = self.windows.get(record.partition, -1)
                self.windows[record.partition] = max(highest, record.offset)

    def lacks(self, record: Any) -> bool:
        """Whether a record has still to be published.

        Raises
        ------
        CommandConflict
            When another command stands under the same revision.
        """
        match record:
            case DeploymentCommand():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                known = self.commands[key]
                if record.revision in known and not same(known[record.revision], record):
                    raise CommandConflict(known[record.revision], record)
                return record.revision > max(known, default=-1)
            case RolloutProgress():
                key = deployment_key(record.tenant, record.environment, record.deployment)
                return self._is_newer(key, record)
            case Alert():
                return record.sequence > self._sequence(record)
            case DeploymentStatus():
                return (record.command_id, record.ts) not in self.refusals
            case WindowMetricsBatch():
                # One message may have several batches: those of the last one may not all have gone out.
                return record.offset >= self.windows.get(record.partition, -1)
            case _:
                return True

    def _is_newer(self, key: str, record: RolloutProgress) -> bool:
        known = self.progress.get(key)
        return known is None or (record.generation, record.version) > (known.generation, known.version)

    def _sequence(self, alert: Alert) -> int:
        known = self.alerts.get(alert.fingerprint)
        return 0 if known is None else known.sequence

    def pasts(self, partition: int) -> dict[str, Past]:
        """Return what was published of each deployment that a journal partition decides.

        Parameters
        ----------
        partition
            Of the journal.
        """
        return {
            key: Past(
                commands=dict(commands),
                progress=self.progress.get(key),
                spec=self.specs.get((key, commands[max(commands)].generation)),
                deleted=key in self.deleted,
                alerts={mark: alert for mark, alert in self.alerts.items() if _rollout_key(alert) == key},
            )
            for key, commands in self.commands.items()
            if commands and _decider(commands) == partition
        }

    def agrees(self, offset: int, state: fold.State) -> bool:
        """Whether a state has decided, before an offset, what was published from before it.

        One that comes from another replay may have lost a rollout that this one held, or the other way round.

        Parameters
        ----------
        offset
            Of the next message.
        state
            That the messages before it came to.
        """
        for key, past in self.pasts(state.partition).items():
            if key in state.forgotten:
                continue
            revision = max((r for cause, r in past.causes if cause < offset), default=None)
            known = state.rollouts.get(key)
            if revision is not None and (known is None or known.revision != revision):
                return False
            told = past.progress
            if told is not None and told.version < offset and not _is_same(state.told.get(key), told):
                return False
        return True

    def overflows(self) -> dict[str, Alert]:
        """Return the last record of each alert about too many series."""
        return {mark: alert for mark, alert in self.alerts.items() if alert.rule == "series_overflow"}

    def hidden(self, partition: int) -> Iterator[tuple[str, DeploymentCommand]]:
        """Of each deployment of a journal partition the highest command, if a lower one stands behind it."""
        for key, commands in self.commands.items():
            if commands and _decider(commands) == partition and self.standing[key] < max(commands):
                yield key, commands[max(commands)]


def _decider(commands: Mapping[int, DeploymentCommand]) -> int | None:
    """Journal partition that a deployment is decided by."""
    offsets = commands[max(commands)].offsets
    return offsets[0].partition if offsets else None


def _is_same(one: RolloutProgress | None, other: RolloutProgress) -> bool:
    names = ("generation", "version", "revision", "state")
    return one is not None and all(getattr(one, name) == getattr(other, name) for name in names)


def _rollout_key(alert: Alert) -> str | None:
    labels = {label.key: label.value for label in alert.labels}
    if "rollout" not in labels:
        return None
    return deployment_key(labels["tenant"], labels["environment"], labels["deployment"])


class CommandConflict(InvariantBroken):
    """A replay decided otherwise than what was published under the same revision."""

    def __init__(self, published: DeploymentCommand, decided: DeploymentCommand) -> None:
        self.published = published
        self.decided = decided
        key = deployment_key(decided.tenant, decided.environment, decided.deployment)
        super().__init__(
            f"revision {decided.revision} of {key} was published as {published.action} ({published.reason}), "
            f"and is now decided as {decided.action} ({decided.reason}): nothing is sent. Compare the "
            f"release that runs with the one that published, and the journal's start with the rollout's"
        )


def same(one: DeploymentCommand, other: DeploymentCommand) -> bool:
    """Whether two commands ask for the same: evidence may differ in its last digits between releases."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("command_id", "rollout", "generation", "action", "state", "step", "salt", "weights")
    )


def read(settings: Settings, which: Iterable[str] = _READ_BACK) -> Published:
    """Read back what was published.

    Parameters
    ----------
    settings
        Where Kafka is.
    which
        Topics to read.

    Raises
    ------
    ConfigError
        A topic is missing.
    DependencyUnavailable
        Kafka did not answer in time.
    """
    published = Published()
    places = {
        (topic, partition): _TAIL if topic == topics.METRICS else None
        for topic in which
        for partition in range(topics.TOPICS[topic].partitions)
    }
    for message in readback.messages(settings, places):
        topic = topics.TOPICS[(message.topic() or "").removeprefix(settings.topic_prefix)]
        value = message.value()
        if value is None and topic.name == topics.ROLLOUTS:
            published.deleted.add((message.key() or b"").decode(errors="replace"))
            continue
        try:
            record = decode(value or b"", expect=topic.records)
        except ContractError as error:
            _log.warning("a message of %s is skipped: %s", topic.name, error)
            continue
        if getattr(record, "applier", CONTROLLER) == CONTROLLER:
            published.note(record)
    return published
