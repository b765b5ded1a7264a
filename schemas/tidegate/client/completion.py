"""Fills in what an app need not say."""

from decimal import Decimal
from typing import Protocol

from uuid_utils import uuid7

from tidegate.client.rules import Event
from tidegate.records import Evaluation, Feedback, LLMCall

_NANO_USD = Decimal("1E-9")

UNROUTED = "default"
"""Variant of a call that no router assigned."""


class Defaults(Protocol):
    """What holds for every event of a process, unless the event says otherwise."""

    @property
    def tenant(self) -> str:
        """Owner of the events."""

    @property
    def app(self) -> str:
        """The service."""

    @property
    def environment(self) -> str:
        """Where it runs."""

    @property
    def app_version(self) -> str | None:
        """Release of the service."""


def new_event_id() -> str:
    """Return a UUIDv7 in lower case: in order of time, which the store's sort key makes use of."""
    return str(uuid7())


def complete(event: Event, defaults: Defaults, now_us: int) -> None:
    """Fill in the fields of an event that are absent and follow from the process or from other fields."""
    if not event.event_id:
        event.event_id = new_event_id()
    if not event.tenant:
        event.tenant = defaults.tenant
    if isinstance(event, LLMCall):
        _complete_call(event, defaults)
        return
    if event.ts == 0:
        event.ts = now_us
    if isinstance(event, Feedback):
        if event.positive is None:
            event.positive = satisfied(event.kind, event.value)
    elif event.cost_usd is not None:
        event.cost_usd = _whole_nano(event.cost_usd)


def _complete_call(call: LLMCall, defaults: Defaults) -> None:
    if not call.app:
        call.app = defaults.app
    if not call.environment:
        call.environment = defaults.environment
    if call.app_version is None:
        call.app_version = defaults.app_version
    if not call.deployment:
        call.deployment = call.app
    if not call.variant:
        call.variant = UNROUTED
    if call.reported_cost_usd is not None:
        call.reported_cost_usd = _whole_nano(call.reported_cost_usd)


def _whole_nano(amount_usd: Decimal) -> Decimal:
    """Round to the nano-dollars that the wire holds; what is no such amount is left for the rules."""
    if not isinstance(amount_usd, Decimal) or not amount_usd.is_finite() or amount_usd.adjusted() > 17:
        return amount_usd
    return amount_usd.quantize(_NANO_USD)


def satisfied(kind: str, value: float | None) -> bool | None:
    """Say whether a rating is a good one: thumbs up, or four stars and more; three stars say neither.

    Examples
    --------
    >>> satisfied("thumbs", 0.0), satisfied("stars", 4.0), satisfied("stars", 3.0), satisfied("score", 0.9)
    (False, True, None, None)
    """
    if not isinstance(value, (int, float)):
        return None
    if kind == "thumbs":
        return value > 0
    if kind == "stars" and (value >= 4 or value <= 2):
        return value >= 4
    return None


def target_of(event: Feedback | Evaluation) -> str:
    """Return what the event is about: its Kafka key, so that all that is said of one call is in order."""
    item = event.dataset_item_id if isinstance(event, Evaluation) else None
    return event.target_event_id or event.target_session_id or item or ""
