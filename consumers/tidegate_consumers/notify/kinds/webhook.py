"""Standard Webhooks: the record as it is, signed with every secret of the channel."""

from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.message import Message, message_of
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request


def requests(channel: Channel, parcel: Parcel, now: datetime) -> Sequence[Request]:
    """Return a request for each record."""
    return [request(channel, message_of(record), now) for record in parcel.records]


def request(channel: Channel, message: Message, now: datetime) -> Request:
    """Sign a message.

    A receiver takes a message of which one signature is right, so both secrets hold while they are exchanged.
    """
    # The library replaces the time zone instead of converting: in UTC both are the same.
    at = now.astimezone(UTC)
    signatures = [Webhook(secret).sign(message.id, at, message.body) for secret in channel.secrets]
    return Request(
        url=channel.url,
        headers={
            "webhook-id": message.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        },
        body=message.body.encode("ascii"),
    )
