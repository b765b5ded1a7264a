"""Rollouts in Kafka: the present specification, compare-and-set, manual actions, and what happened."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from tidegate import codec
from tidegate.errors import ContractError, Refused
from tidegate.limits import check_control
from tidegate.records import DeploymentStatus, Rollout, RolloutAction, RolloutProgress
from tidegate.series import deployment_key, specification_id
from tidegate.topics import ACTIONS, DEPLOYMENTS, PROGRESS, ROLLOUTS, STATUS
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Present:
    """What stands in the log for a deployment.

    Parameters
    ----------
    spec
        Its specification; None when there is none or it was deleted.
    generation
        The highest that was ever given for it: of specifications, deleted ones, and commands.
    """

    spec: Rollout | None
    generation: int


def specs(settings: Settings) -> dict[str, Rollout]:
    """Read the present specification of every deployment."""
    return scan.newest(settings, ROLLOUTS)


def progress(settings: Settings) -> dict[str, RolloutProgress]:
    """Read where the rollout of every deployment stands."""
    return scan.newest(settings, PROGRESS)


def former(settings: Settings) -> dict[str, set[str]]:
    """Read the names of all rollouts that each deployment has had, as far back as Kafka keeps them."""
    names: dict[str, set[str]] = defaultdict(set)
    for message, spec in scan.records(settings, ROLLOUTS):
        if spec is not None:
            names[scan.key_of(message)].add(spec.name)
    for message, command in scan.records(settings, DEPLOYMENTS):
        if command is not None:
            names[scan.key_of(message)].add(command.rollout)
    return names


def present(settings: Settings, key: str) -> Present:
    """Read what stands in the log for one deployment."""
    spec = specs(settings).get(key)
    # A deleted specification leaves no generation behind once it is compacted away; its commands do.
    known = [spec, scan.newest(settings, DEPLOYMENTS).get(key), progress(settings).get(key)]
    return Present(spec, max((record.generation for record in known if record is not None), default=0))


def put(settings: Settings, spec: Rollout, before: Present) -> None:
    """Write a specification on top of what was read, and read it back.

    Parameters
    ----------
    settings
        Where Kafka is.
    spec
        With the generation after `before`.
    before
        What was read when the specification was made.

    Raises
    ------
    Refused
        It is too large, and nothing was written; or somebody else was faster, and their specification stands.
    """
    key = deployment_key(spec.tenant, spec.environment, spec.deployment)
    value = codec.encode(spec)
    try:
        check_control(spec, len(value))
    except ContractError as error:
        raise Refused(f"{key}: {error.detail}; nothing was written") from None
    offset = send(settings, [Outgoing(topic=ROLLOUTS, key=key, value=value)])[0].offset()
    message, first = next(
        (message, other)
        for message, other in scan.records(settings, ROLLOUTS)
        if scan.key_of(message) == key and other is not None and other.generation > before.generation
    )
    if message.offset() == offset:
        return
    # Compaction keeps the last record of a key: let it be the one that won.
    send(settings, [Outgoing(topic=ROLLOUTS, key=key, value=message.value())])
    raise Refused(
        f"{key}: {first.actor} applied generation {first.generation} ({first.name}) at the same time, and "
        "theirs stands: look at it with `tidegate rollout diff`, then apply again"
    )


def delete(settings: Settings, key: str) -> None:
    """Withdraw the specification of a deployment."""
    send(settings, [Outgoing(topic=ROLLOUTS, key=key, value=None)])


def act(settings: Settings, action: RolloutAction) -> None:
    """Write a manual action."""
    send(settings, [Outgoing(topic=ACTIONS, key=action.key, value=codec.encode(action))])


def refusal(settings: Settings, action: RolloutAction, timeout_seconds: float) -> DeploymentStatus | None:
    """Wait for the stream to refuse an action; None when it has not in time."""
    deadline = time.monotonic() + timeout_seconds
    for step in scan.follow(settings, STATUS):
        if step is not None and step[1] is not None and step[1].command_id == action.action_id:
            answer: DeploymentStatus = step[1]
            return answer
        if time.monotonic() > deadline:
            break
    return None


def refused(settings: Settings, spec: Rollout) -> str | None:
    """Return why the stream has refused a specification; None when it has not."""
    answers = (status for _, status in scan.records(settings, STATUS) if status is not None)
    wanted = specification_id(spec.spec_hash, spec.generation)
    return next((answer.detail for answer in answers if answer.command_id == wanted), None)


def history(settings: Settings, key: str) -> list[dict[str, Any]]:
    """Read what was applied to a deployment, done by hand, commanded and answered, in order of time.

    It is the time at which each was written to Kafka: the records' own are of several clocks, of people and
    of events.
    """
    return sorted(_events(settings, key), key=lambda event: event["ts"])


def _events(settings: Settings, key: str) -> Iterator[dict[str, Any]]:
    generations = set()
    for message, spec in scan.records(settings, ROLLOUTS):
        if scan.key_of(message) != key:
            continue
        if spec is None:
            yield _event(message, "specification", "delete", "", None)
        elif spec.generation not in generations:
            generations.add(spec.generation)
            yield _event(message, "specification", spec.name, spec.spec_hash, spec, by=spec.actor)
    for message, action in scan.records(settings, ACTIONS):
        if scan.key_of(message) == key and action is not None:
            yield _event(message, "action", action.action, action.action_id, action, by=action.actor)
    revisions = set()
    for message, command in scan.records(settings, DEPLOYMENTS):
        if scan.key_of(message) == key and command is not None and command.revision not in revisions:
            revisions.add(command.revision)
            yield _event(message, "command", command.action, command.command_id, command, by=command.actor)
    for message, status in scan.records(settings, STATUS):
        if scan.key_of(message) == key and status is not None:
            yield _event(message, "answer", status.status, status.command_id, status, by=status.applier)


def _event(
    message: Message, kind: str, what: str, id_: str, record: Any, by: str | None = None
) -> dict[str, Any]:
    return {
        "ts": message.timestamp()[1] * 1_000,
        "kind": kind,
        "what": what,
        "generation": getattr(record, "generation", None),
        "revision": getattr(record, "revision", None) or None,
        "by": by,
        "reason": getattr(record, "reason", None) or getattr(record, "detail", None),
        "id": id_,
    }
