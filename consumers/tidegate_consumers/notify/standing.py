"""What a channel knows of each alert: whether it fires, what was said last, and what a silence holds back."""

from dataclasses import dataclass, field

from tidegate.records import Alert

MOST_KNOWN = 100_000
"""Alerts whose last change is remembered; of older ones a repetition would be told again."""


@dataclass(slots=True)
class Standing:
    """A fold over the log of alerts."""

    firing: dict[str, Alert] = field(default_factory=dict)
    """Fingerprint -> its last record, while it fires."""
    held: dict[str, Alert] = field(default_factory=dict)
    """Those of them that a silence keeps from being told."""
    _said: dict[str, tuple[int, str]] = field(default_factory=dict)

    def take(self, alert: Alert) -> bool:
        """Take in a change; False when it says what the last one said."""
        said = (alert.sequence, alert.status)
        before = self._said.pop(alert.fingerprint, None)
        self._said[alert.fingerprint] = said
        if len(self._said) > MOST_KNOWN:
            del self._said[next(iter(self._said))]
        if alert.status == "firing":
            self.firing[alert.fingerprint] = alert
        else:
            self.firing.pop(alert.fingerprint, None)
        return before != said and not (before is not None and before[1] == alert.status == "resolved")

    def hold(self, alert: Alert) -> None:
        """Note that a firing alert is not told now."""
        self.held[alert.fingerprint] = alert

    def release(self, fingerprint: str) -> Alert | None:
        """Note that an alert is held no more; None if it was not held."""
        return self.held.pop(fingerprint, None)

    def sequence(self, fingerprint: str) -> int:
        """Return the number of the last change; 0 before the first."""
        return self._said.get(fingerprint, (0, ""))[0]
