"""The client that does nothing: not configured yet, or switched off."""

# ruff: noqa: ARG002 - it takes what its twin takes

from tidegate.assignment import Assignment
from tidegate.client.client import Counts
from tidegate.client.configuration import Configuration
from tidegate.client.notices import Notices
from tidegate.client.rules import Event, Problem
from tidegate.records import LLMCall


class Off:
    """The twin of `Client` where events go nowhere.

    Parameters
    ----------
    notices
        Told once when something is emitted; None where that is what was asked for.
    """

    configuration: Configuration | None = None
    counts = Counts("", 0, 0, 0, {})

    def __init__(self, notices: Notices | None = None) -> None:
        self._notices = notices

    def emit(
        self, event: Event, assignment: Assignment | None = None, target: str | LLMCall | None = None
    ) -> str | None:
        """Do nothing."""
        self._warn_once()
        return None

    def refuse(self, event: object, *found: Problem) -> None:
        """Do nothing."""
        self._warn_once()

    def handle(self, call: LLMCall) -> str:
        """Return the empty handle."""
        self._warn_once()
        return ""

    def flush(self, timeout_seconds: float) -> bool:
        """Say that nothing waits."""
        return True

    def shutdown(self, timeout_seconds: float) -> int:
        """Say that nothing was lost."""
        return 0

    def _warn_once(self) -> None:
        notices, self._notices = self._notices, None
        if notices is not None:
            notices.warn("unconfigured", "events go nowhere: call tidegate.configure(...) first")
