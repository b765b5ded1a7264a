"""What is told together: one record, or a group of alerts of one kind."""

from dataclasses import dataclass

from tidegate.records import Alert, DeploymentCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Records that are told in one go.

    Parameters
    ----------
    records
        One record, or alerts that all fire or are all resolved, each with another fingerprint.
    group
        Identity of the group that is told instead of its members; empty when each is told for itself.
    left
        Members of the group that fire still.
    assumed
        Whether it was told as a group is not known any more.
    """

    records: tuple[Alert | DeploymentCommand, ...]
    group: str = ""
    left: int = 0
    assumed: bool = False

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Its alerts."""
        return tuple(record for record in self.records if isinstance(record, Alert))

    @property
    def id(self) -> str:
        """Name it in logs, and for receivers that know repetitions by it."""
        first = self.records[0]
        if isinstance(first, DeploymentCommand):
            return first.command_id
        return f"{self.group or first.fingerprint}-{first.sequence}"
