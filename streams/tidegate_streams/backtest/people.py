"""What people did to a rollout, as Kafka holds it: carried out once more, at the time at which they asked."""

import dataclasses

from tidegate.limits import LATEST_US
from tidegate.records import RolloutAction
from tidegate.topics import ACTIONS, DEPLOYMENTS, STATUS
from tidegate_infra.kafka import scan
from tidegate_infra.settings import Settings


def read(
    settings: Settings, key: str, revision: int, since_us: int = 0, until_us: int = LATEST_US
) -> list[RolloutAction]:
    """Read what people asked of a rollout and were not refused.

    Parameters
    ----------
    settings
        Where Kafka is.
    key
        tenant/environment/deployment.
    revision
        Of the rollout's first command: it tells which of the deployment's rollouts is meant.
    since_us, until_us
        From when and before when they asked, in microseconds since the epoch.

    Returns
    -------
    list
        In the order of their time, for generation 1, and whatever revision each of them expected: live it
        was the one in force. Nothing where Kafka no longer holds the first command.

    Raises
    ------
    ConfigError
        There is no such topic, or we are not let in.
    DependencyUnavailable
        Kafka does not answer.
    """
    generations = {
        command.generation
        for message, command in scan.records(settings, DEPLOYMENTS)
        if command is not None and scan.key_of(message) == key and command.revision == revision
    }
    refused = {status.command_id for _, status in scan.records(settings, STATUS) if status is not None}
    asked = [action for _, action in scan.records(settings, ACTIONS) if action is not None]
    return sorted(
        (
            dataclasses.replace(action, generation=1, expected_revision=None)
            for action in asked
            if action.key == key
            and action.generation in generations
            and action.action_id not in refused
            and since_us <= action.ts < until_us
        ),
        key=lambda action: action.ts,
    )
