"""The kinds of receivers: for each, how a parcel becomes requests, and what the receiver takes.

``webhook``       Standard Webhooks, one record a request, signed
``slack``         incoming webhook, blocks
``pagerduty``     Events API v2, one incident an alert
``alertmanager``  API v2, arrays of alerts
``teams``         workflow webhook, an Adaptive Card
``email``         SMTP; it has no requests, see `mailbox`
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.kinds import alertmanager, pagerduty, slack, teams, webhook
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to know of a kind of receivers.

    Parameters
    ----------
    requests
        Channel, parcel and time -> what is posted, in order. All of it is posted again if one fails: a
        receiver has to know repetitions. None for e-mail.
    groups
        Whether a flood is told as one: people read counts, programs want each alert.
    most
        Records of a parcel, where a flood is not told as one.
    takes_commands
        Whether a command of a deployment means anything to it.
    forgets
        Whether it has to be told again and again what fires.
    """

    requests: Callable[[Channel, Parcel, datetime], Sequence[Request]] | None
    groups: bool = True
    most: int = 1
    takes_commands: bool = True
    forgets: bool = False


KINDS = {
    "webhook": Kind(webhook.requests, groups=False),
    "slack": Kind(slack.requests),
    "pagerduty": Kind(pagerduty.requests, takes_commands=False),
    "alertmanager": Kind(
        alertmanager.requests, groups=False, most=alertmanager.MOST_ALERTS, takes_commands=False, forgets=True
    ),
    "teams": Kind(teams.requests),
    "email": Kind(None),
}
"""Name in a file of channels -> its kind."""
