"""What was published of a deployment: all that is left of what the journal has deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.records import Alert, DeploymentCommand, Rollout, RolloutProgress

_BEFORE_ANY = -1


@dataclass(frozen=True, slots=True)
class Past:
    """What the output topics and llm.rollouts say of one deployment.

    Parameters
    ----------
    commands
        Revision -> command, at least one.
    progress
        The newest.
    spec
        Of the generation of the last command; None when compaction has removed it.
    deleted
        Whether the specification was withdrawn.
    alerts
        The last record of each alert about its rollouts.
    journal_end
        Offset at the end of the journal; what says it was caused behind it comes from another journal.
    """

    commands: Mapping[int, DeploymentCommand]
    progress: RolloutProgress | None = None
    spec: Rollout | None = None
    deleted: bool = False
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    journal_end: int = 1 << 62

    @property
    def last(self) -> DeploymentCommand:
        """The command in force."""
        return self.commands[max(self.commands)]

    @property
    def state(self) -> str:
        """Where the rollout of the last command stood; what settles without a command is in its progress."""
        told = self.progress
        if told is None or (told.generation, told.revision) != (self.last.generation, self.last.revision):
            return self.last.state
        return told.state

    @property
    def until(self) -> int:
        """Offset of the last message that something published was caused by; before it nothing is new."""
        until = _cause(self.last)
        if self.progress is not None and self.progress.generation == self.last.generation:
            until = max(until, self.progress.version)
        return until if until < self.journal_end else _BEFORE_ANY

    def precedes(self, begins_at: int) -> bool:
        """Whether some of it was caused before the journal's present beginning."""
        causes = [_cause(self.commands[revision]) for revision in sorted(self.commands)]
        is_of_one_journal = self.until != _BEFORE_ANY and causes == sorted(causes)
        return min(self.commands) > 1 or causes[0] < begins_at or not is_of_one_journal

    def revision_before(self, generation: int, offset: int) -> int | None:
        """Return the revision that a specification was put upon, when it was taken in at this offset.

        None when it was not, or when nobody can tell any more.
        """
        first = min((r for r, one in self.commands.items() if one.generation == generation), default=None)
        if first is None or _cause(self.commands[first]) != offset:
            return None
        return first - 1

    def has_answered(self, generation: int, offset: int) -> bool:
        """Whether an action for a generation met that generation, or a later one, up to this offset."""
        return any(one.generation >= generation and _cause(one) <= offset for one in self.commands.values())


def _cause(command: DeploymentCommand) -> int:
    return command.offsets[0].offset if command.offsets else _BEFORE_ANY
