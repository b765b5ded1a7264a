"""A call in a string, for feedback that comes hours later from a front end.

It carries the call's series, so that feedback needs no look-up. What comes back is somebody's input: it is
bounded, checked like any event and, where `configure` was given a ``handle_key``, signed.
"""

import base64
import binascii
import dataclasses
import hashlib
import hmac
import json

from tidegate.client.rules import UUID
from tidegate.client.screen import holds
from tidegate.records import Evaluation, Feedback, LLMCall, Series
from tidegate.series import comparable

_FORMAT = "h1"
_MAX_CHARS = 4_096
_MAC_BYTES = 16
_SERIES_FIELDS = [f.name for f in dataclasses.fields(Series)]


class HandleError(ValueError):
    """The string is no handle of ours; says why, without quoting it."""


def series_of(call: LLMCall) -> Series:
    """Return a call's series: all that feedback needs to be counted where the call was."""
    return Series(
        app=call.app,
        environment=call.environment,
        deployment=call.deployment,
        variant=call.variant,
        operation=call.operation,
        provider=call.provider,
        request_model=call.request_model,
        prompt_name=call.prompt_name,
        prompt_version=call.prompt_version,
        segment=call.segment,
        experiment=call.experiment,
        traffic=call.traffic,
        call_ts_end=call.ts_end or None,
        assignment_hash=call.assignment_hash,
        assignment_revision=call.assignment_revision,
        comparable=bool(
            comparable(
                call.traffic, call.assignment_reason or "", call.attempt, call.cache_hit, call.head_sampled
            )
        ),
    )


def point_at(event: Feedback | Evaluation, call: LLMCall) -> None:
    """Make the event be about a call of this process, which needs no proof."""
    event.tenant = event.tenant or call.tenant
    event.target_event_id = call.event_id
    event.series = series_of(call)


def seal(call: LLMCall, key: str | None) -> str:
    """Return the handle of a call that has its event_id; signed when there is a key."""
    series = series_of(call)
    values = [call.tenant, call.event_id, *(getattr(series, name) for name in _SERIES_FIELDS)]
    payload = _encode(json.dumps(values, separators=(",", ":")).encode())
    return f"{_FORMAT}.{payload}.{_mac(payload, key) if key else ''}"


def attach(event: Feedback | Evaluation, handle: object, key: str | None, tenant: str) -> None:
    """Make the event be about the call of a handle.

    Parameters
    ----------
    event
        Gets the call's id and series, and its tenant if it has none.
    handle
        What came back from the front end.
    key
        With one, only handles signed by it are taken.
    tenant
        Whose calls an unsigned handle may name.

    Raises
    ------
    HandleError
        It is no such handle.
    """
    owner, event_id, series = _open(handle, key)
    if not key and owner != (event.tenant or tenant):
        raise HandleError("an unsigned handle names another tenant; set handle_key to take it")
    if event.tenant and owner != event.tenant:
        raise HandleError("it names another tenant than the event")
    event.tenant = owner
    event.target_event_id = event_id
    event.series = series


def _open(handle: object, key: str | None) -> tuple[str, str, Series]:
    if not isinstance(handle, str) or len(handle) > _MAX_CHARS or not handle.isascii():
        raise HandleError(f"not a string of at most {_MAX_CHARS} ASCII characters")
    parts = handle.split(".")
    if len(parts) != 3 or parts[0] != _FORMAT:
        raise HandleError(f"not of the form {_FORMAT}.payload.signature")
    _, payload, mac = parts
    if key and not hmac.compare_digest(mac, _mac(payload, key)):
        raise HandleError("the signature is not by our handle_key")
    try:
        values = json.loads(_decode(payload))
    except (ValueError, RecursionError) as error:
        raise HandleError("the payload is not readable") from error
    if not isinstance(values, list) or len(values) != 2 + len(_SERIES_FIELDS):
        raise HandleError("the payload has not the fields of a series")
    owner, event_id, *rest = values
    series = Series(**dict(zip(_SERIES_FIELDS, rest, strict=True)))
    is_call = isinstance(event_id, str) and UUID.fullmatch(event_id)
    if not (is_call and isinstance(owner, str) and owner and holds(series)):
        raise HandleError("the payload has not the fields of a series")
    return owner, event_id, series


def _mac(payload: str, key: str) -> str:
    return _encode(hmac.new(key.encode(), payload.encode(), hashlib.sha256).digest()[:_MAC_BYTES])


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
