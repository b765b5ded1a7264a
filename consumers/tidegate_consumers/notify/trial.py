"""An alert that is none, to find out whether a channel gets through."""

from dataclasses import replace

from tidegate.records import Alert, KeyValue
from tidegate.records.alert import fingerprint
from tidegate_consumers.notify.courier import Receiver
from tidegate_consumers.notify.delivery import Outcome
from tidegate_consumers.notify.parcel import Parcel

RULE = "channel_test"


async def trial(receiver: Receiver, severity: str, by: str, now_us: int) -> list[tuple[str, Outcome]]:
    """Tell a receiver of an alert that fires, and then that it is over.

    Returns
    -------
    list of tuple
        What was told, and what became of it; nothing is told as over that was not taken.
    """
    labels = {"rule": RULE, "by": by, "at": str(now_us)}
    alert = Alert(
        fingerprint=fingerprint(labels),
        status="firing",
        rule=RULE,
        rule_hash=fingerprint({"rule": RULE}),
        severity=severity,
        labels=[KeyValue(key=key, value=value) for key, value in labels.items() if key != "at"],
        annotations=[KeyValue(key="summary", value=f"{by} tries this channel: nothing is wrong.")],
        starts_at=now_us,
        sequence=1,
        tenant="",
        ts=now_us,
    )
    over = replace(alert, status="resolved", sequence=2, ends_at=now_us + 1, ts=now_us + 1)
    outcomes = []
    for one in (alert, over):
        outcomes.append((one.status, await receiver.tell(Parcel(records=(one,)))))
        if outcomes[-1][1].kind != "delivered":
            break
    return outcomes
