"""What a rollout would have come to: its commands, where it ended, and what each look found."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from tidegate.records import Alert, DeploymentCommand, DeploymentStatus, Evidence, Rollout, RolloutProgress
from tidegate_infra.cli.output import cell, table, time_text
from tidegate_infra.cli.rollout_view import PROMOTED, ROLLED_BACK, shown, weights_text
from tidegate_streams.backtest.tally import Tally
from tidegate_streams.rollouts.transitions import LIVE, TRANSITIONS

_DECISIONS = {
    transition.action
    for transition in TRANSITIONS.values()
    if transition.action and transition.state not in LIVE
}
"""Actions of commands that end a rollout, by the machine's own table."""


class Look(NamedTuple):
    """What one look found: event time (us since the epoch), and what each metric said."""

    at_us: int
    evidence: list[Evidence]


@dataclass(slots=True)
class Outcome:
    """What a rollout would have come to.

    Parameters
    ----------
    spec
        The rollout.
    commands
        In order.
    looks
        In order.
    progress
        Where it stood at the end; None when nothing was read that it could look at.
    compared
        Variant -> calls that had been compared at the decision, or at the end where there is none.
    refusal
        Why the stream would not have taken it up.
    """

    spec: Rollout
    commands: list[DeploymentCommand] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    progress: RolloutProgress | None = None
    compared: dict[str, int] = field(default_factory=dict)
    refusal: str | None = None

    @classmethod
    def of(cls, spec: Rollout, records: Iterable[Any]) -> "Outcome":
        """Gather what `drive.decide` yields."""
        outcome = cls(spec)
        for record in records:
            match record:
                case DeploymentCommand():
                    outcome.commands.append(record)
                case DeploymentStatus():
                    outcome.refusal = record.detail
                case RolloutProgress():
                    outcome._take(record)
                case Alert():
                    pass
        return outcome

    def _take(self, progress: RolloutProgress) -> None:
        self.progress = progress
        if progress.watermark is not None:
            self.looks.append(Look(progress.watermark, progress.evidence))
        decided = self.decision
        if decided is None or decided.revision == progress.revision:
            self.compared = {one.variant: one.calls for one in progress.exposure}

    @property
    def decision(self) -> DeploymentCommand | None:
        """The command that ended it; None when none did."""
        return next((command for command in self.commands if command.action in _DECISIONS), None)

    @property
    def seconds(self) -> float | None:
        """Event time from the first command to the decision, or to the last look where there is none."""
        if not self.commands or not self.looks:
            return None
        end_us = self.decision.ts if self.decision else self.looks[-1].at_us
        return (end_us - self.commands[0].ts) / 1e6

    @property
    def exit_code(self) -> int:
        """0 promoted, 1 rolled back, 6 neither: as `rollout status --wait`."""
        state = self.progress.state if self.progress else ""
        return 0 if state in PROMOTED else 1 if state in ROLLED_BACK else 6

    def view(self, tally: Tally) -> dict[str, Any]:
        """Return all of it as one object, the rollout as `rollout show` does."""
        return {
            "decision": self.decision.action if self.decision else None,
            "reason": self.reason,
            "calls": sum(self.compared.values()),
            "compared": self.compared,
            "seconds": self.seconds,
            "commands": [asdict(command) for command in self.commands],
            "rollout": shown(self.spec, self.progress),
            "events": {
                "read": dict(tally.events),
                "elsewhere": tally.elsewhere,
                "outside": tally.outside,
                "refused": dict(tally.refused),
                "named": [one._asdict() for one in tally.named],
            },
        }

    @property
    def reason(self) -> str:
        """Why the decision, or why none, in a sentence."""
        if self.decision:
            return self.decision.reason
        if self.progress:
            return self.progress.reason
        return self.refusal or "there are no events of this deployment"

    def lines(self) -> list[str]:
        """Return it as a person reads it."""
        rows = [
            {
                "time": time_text(command.ts),
                "revision": command.revision,
                "command": command.action,
                "weights": weights_text({one.variant: one.weight_bp for one in command.weights}),
                "reason": command.reason,
            }
            for command in self.commands
        ]
        said = table(rows, ("time", "revision", "command", "weights", "reason"))
        compared = ", ".join(f"{calls:,} of {variant}" for variant, calls in self.compared.items())
        after = f" after {sum(self.compared.values()):,} compared calls ({compared})" if compared else ""
        seconds = "" if self.seconds is None else f" and {self.seconds:,.0f} s of event time"
        decided = (
            self.decision.action if self.decision else f"none: {cell(self.progress and self.progress.state)}"
        )
        said += [""] if said else []
        said += [f"decision    {decided}{after}{seconds}", f"because     {self.reason}"]
        if self.progress:
            said += ["", *(row.sentence for row in self._last_evidence())]
        return said

    def _last_evidence(self) -> list[Evidence]:
        if self.decision:
            return self.decision.evidence
        return self.progress.evidence if self.progress else []
