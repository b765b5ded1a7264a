"""What was published of a deployment: all that is left of what the journal has deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.records import Alert, DeploymentCommand, Rollout, RolloutProgress
from tidegate_streams.rollouts.variants import FULL_BP

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
    """

    commands: Mapping[int, DeploymentCommand]
    progress: RolloutProgress | None = None
    spec: Rollout | None = None
    deleted: bool = False
    alerts: Mapping[str, Alert] = field(default_factory=dict)

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
    def winner(self) -> str:
        """The candidate that everything was sent to; empty without one."""
        tried = (one for one in self.last.weights if one.role == "candidate")
        return next((one.variant for one in tried if one.weight_bp == FULL_BP), "")

    @property
    def dropped(self) -> frozenset[str]:
        """Candidates that were given up before the last command, while others went on."""
        weights = [one for one in self.last.weights if one.role == "candidate"]
        is_tried = {one.variant: one.weight_bp + one.mirror_bp > 0 for one in weights}
        return frozenset(one for one in is_tried if any(is_tried.values()) and not is_tried[one])

    @property
    def causes(self) -> list[tuple[int, int]]:
        """Offset and revision of each command, in the order of revisions."""
        return [(_cause(self.commands[revision]), revision) for revision in sorted(self.commands)]

    @property
    def until(self) -> int:
        """Offset of the last message that something published was caused by; before it nothing is new."""
        if self.progress is None or not self._is_of_one_journal:
            return _cause(self.last)
        is_of_last = self.progress.generation == self.last.generation
        return max(_cause(self.last), self.progress.version if is_of_last else _BEFORE_ANY)

    @property
    def _is_of_one_journal(self) -> bool:
        """Whether offsets rise with revisions; where they fall, the journal was made anew."""
        return self.causes == sorted(self.causes)

    def precedes(self, begins_at: int) -> bool:
        """Whether some of it was caused before the journal's present beginning."""
        return min(self.commands) > 1 or self.causes[0][0] < begins_at or not self._is_of_one_journal

    def tells(self, generation: int, offset: int) -> bool:
        """Whether a command of this generation was caused at this offset."""
        return any(one.generation == generation and _cause(one) == offset for one in self.commands.values())

    def revision_before(self, generation: int, offset: int) -> int | None:
        """Return the revision that a specification was put upon, when it was taken in at this offset.

        None when it was not, or when nobody can tell any more.
        """
        first = min((r for r, one in self.commands.items() if one.generation == generation), default=None)
        if first is None or _cause(self.commands[first]) != offset:
            return None
        return first - 1

    def effects_of(self, generation: int) -> dict[str, tuple[float, ...]]:
        """Design effects that a rollout was published to have, by metric; the same in all of its commands."""
        rows = next((one.evidence for one in self.commands.values() if one.generation == generation), [])
        return {row.metric: tuple(row.design_effects) for row in rows if row.design_effects}

    def has_answered(self, generation: int, offset: int) -> bool:
        """Whether an action for a generation met that generation, or a later one, up to this offset."""
        return any(one.generation >= generation and _cause(one) <= offset for one in self.commands.values())

    def awaits(self, generation: int, offset: int) -> bool:
        """Whether an action is for the last rollout, and no command of it came of this offset."""
        return generation == self.last.generation and not self.tells(generation, offset)


def _cause(command: DeploymentCommand) -> int:
    return command.offsets[0].offset if command.offsets else _BEFORE_ANY
