"""A person who acts on rollouts with the command line, and whether each action took effect once."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidegate.series import deployment_key
from tidegate.topics import ACTIONS, DEPLOYMENTS, STATUS
from tidegate_infra.kafka import scan
from tidegate_infra.settings import Settings

_MOST_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that was given.

    Parameters
    ----------
    action, rollout
        What, to which.
    reason
        Of this command alone.
    code
        With which ``tidegate`` ended: 0 says that the action is recorded.
    """

    action: str
    rollout: str
    reason: str
    code: int


class Operator:
    """Gives commands.

    Parameters
    ----------
    data_dir
        Of the stack.
    """

    def __init__(self, data_dir: Path) -> None:
        self.asked: list[Asked] = []
        self._data_dir = data_dir

    def act(self, action: str, rollout: str) -> Asked:
        """Run ``tidegate rollout``, and say how it ended."""
        reason = f"fault number {len(self.asked)}."
        command = [sys.executable, "-m", "tidegate_infra.cli", "rollout", action, rollout, "--yes"]
        command += ["--wait", "0", "--reason", reason, "--data-dir", str(self._data_dir)]
        ended = subprocess.run(command, capture_output=True, check=False, timeout=_MOST_SECONDS)
        asked = Asked(action, rollout, reason, ended.returncode)
        self.asked.append(asked)
        return asked


def unequal_effects(settings: Settings, asked: list[Asked]) -> Iterator[str]:
    """Say of every action that did not take effect exactly once, or was refused more or less than once.

    What the command line did not confirm may have been recorded or not; what is recorded takes effect.
    """
    recorded: dict[str, set[str]] = {}
    for _, action in scan.records(settings, ACTIONS):
        recorded.setdefault(action.reason, set()).add(action.action_id)
    commands = {
        (deployment_key(c.tenant, c.environment, c.deployment), c.revision): c
        for _, c in scan.records(settings, DEPLOYMENTS)
        if c is not None
    }
    refused = {
        (status.command_id, status.status, status.detail) for _, status in scan.records(settings, STATUS)
    }
    for one in asked:
        ids = recorded.get(one.reason, set())
        if len(ids) > 1 or (one.code == 0 and not ids):
            yield f"{one} is recorded {len(ids)} times"
        took = [(*at, c.action) for at, c in sorted(commands.items()) if one.reason in c.reason]
        no = [(status, detail) for i, status, detail in refused if i in ids]
        if len(took) + len(no) != len(ids):
            yield f"{one}: recorded {len(ids)} times, took effect as {took}, was refused as {no}"
        # What has not begun is resumed by its start.
        if any(done != one.action and (one.action, done) != ("resume", "start") for *_, done in took):
            yield f"{one} took effect as {took}"
