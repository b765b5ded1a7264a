"""A channel that does not get through is itself an alert, for the other channels. Pure."""

from dataclasses import replace

from tidegate.records import Alert, KeyValue
from tidegate.records.alert import fingerprint

RULE = "channel_failing"


def mark_of(channel: str) -> str:
    """Return the fingerprint of a channel's alert."""
    return fingerprint(_labels(channel))


def failing(channel: str, words: str, *, sequence: int, now_us: int) -> Alert:
    """Say that a channel does not get through.

    Parameters
    ----------
    channel
        Its name.
    words
        What the last attempt gave, without the receiver's path.
    sequence
        Of the alert's last change.
    now_us
        Microseconds since the epoch.
    """
    summary = (
        f"Channel {channel} does not get through: {words}. What it should tell waits, and goes to llm.dlq "
        "after about 17 hours."
    )
    return Alert(
        fingerprint=mark_of(channel),
        status="firing",
        rule=RULE,
        rule_hash=fingerprint({"rule": RULE}),
        severity="error",
        labels=[KeyValue(key=key, value=value) for key, value in sorted(_labels(channel).items())],
        annotations=[KeyValue(key="summary", value=summary)],
        starts_at=now_us,
        sequence=sequence + 1,
        tenant="",
        ts=now_us,
    )


def over(alert: Alert, *, now_us: int) -> Alert:
    """Say that a channel gets through again."""
    return replace(alert, status="resolved", ends_at=now_us, ts=now_us, sequence=alert.sequence + 1)


def _labels(channel: str) -> dict[str, str]:
    return {"rule": RULE, "channel": channel}
