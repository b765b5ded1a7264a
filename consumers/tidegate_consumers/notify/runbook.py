"""Where the page stands that says what to do about an alert."""

from dataclasses import replace

from tidegate.records import Alert


def with_runbook(alert: Alert, pages: str) -> Alert:
    """Return an alert with the address of its page.

    Parameters
    ----------
    alert
        One that names a page of its own keeps it.
    pages
        Address under which ``docs/runbooks`` is published, ending in a slash; empty if it is not.

    Examples
    --------
    >>> from tidegate_consumers.notify.unreachable import failing
    >>> alert = failing("team", "answered 403", sequence=0, now_us=0)
    >>> with_runbook(alert, "https://docs.example/runbooks/").runbook_url
    'https://docs.example/runbooks/channel_failing.md'
    """
    if not pages or alert.runbook_url:
        return alert
    return replace(alert, runbook_url=f"{pages}{alert.rule}.md")
