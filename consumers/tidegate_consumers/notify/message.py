"""From a record to what is posted: an id that never changes, a type, and a body that fits."""

import functools
import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate import codec
from tidegate.errors import ContractError
from tidegate.records import Alert, DeploymentCommand

LONGEST_BODY_BYTES = 20_000
"""What receivers may count on, as Standard Webhooks advises."""

LONGEST_TEXT = 1_000
"""Characters that are left of a text in a record that does not fit."""

_TRIMMED_LISTS = ("evidence", "annotations", "offsets")
_FAILED_FIRST = {"fail": 0, "pass": 1}
_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is posted.

    Parameters
    ----------
    id
        The header ``webhook-id``: the same however often the record is delivered.
    type
        ``deployment.command`` or ``alert``; with ``.dry_run`` behind it when nothing must be changed, so
        that a receiver that acts on commands does not act on this one.
    body
        JSON with `type`, `timestamp` and `data`, in ASCII: exactly these bytes are signed and sent.
    """

    id: str
    type: str
    body: str


def message_of(record: Alert | DeploymentCommand) -> Message:
    """Return what is posted for a record.

    `data` holds the record under the contract's names. In a record that does not fit, long texts are cut
    (they end in ``…``) and then lists are shortened, evidence of failed metrics last; ``data.trimmed`` says
    what is missing.
    Weights and labels are always whole: receivers act on them.

    Raises
    ------
    ContractError
        The record has no usable id, or does not fit even so.
    """
    match record:
        case DeploymentCommand():
            kind, identity = "deployment.command", record.command_id
        case Alert():
            kind, identity = "alert", f"{record.fingerprint}-{record.sequence}"
    if not _ID.fullmatch(identity):
        raise ContractError(
            "invalid_field",
            f"the id {identity[:100]!r} cannot be a header: letters, digits, '_', ':' and '-' can",
        )
    kind += ".dry_run" if record.dry_run else ""
    body = _fitting(
        codec.as_dict(record), lambda data: _json({"type": kind, "timestamp": _time(record.ts), "data": data})
    )
    return Message(id=identity, type=kind, body=body)


def _fitting(data: dict[str, Any], write: Callable[[dict[str, Any]], str]) -> str:
    body = write(data)
    if len(body) <= LONGEST_BODY_BYTES:
        return body
    cut: list[str] = []
    data = {name: _shortened(value, name, cut) for name, value in data.items()}
    if "evidence" in data:
        data["evidence"].sort(key=lambda row: _FAILED_FIRST.get(row["verdict"], 2))
    trimmed: dict[str, Any] = {"texts": sorted(set(cut))} if cut else {}
    for name in _TRIMMED_LISTS:
        rows = data.get(name) or []
        keeping = functools.partial(_keeping, data, trimmed, name)
        kept = (
            bisect_right(range(len(rows) + 1), LONGEST_BODY_BYTES, key=lambda n: len(write(keeping(n)))) - 1
        )
        if kept == len(rows):
            return write(data | {"trimmed": trimmed})
        if kept >= 0:
            return write(keeping(kept))
        data, trimmed = keeping(0), keeping(0)["trimmed"]
    raise ContractError(
        "invalid_field",
        f"a webhook takes {LONGEST_BODY_BYTES} bytes, and without {', '.join(_TRIMMED_LISTS)} "
        f"there are {len(write(data))} still",
    )


def _keeping(data: dict[str, Any], trimmed: dict[str, Any], name: str, count: int) -> dict[str, Any]:
    """Return the record with the first rows of a list, and with the account of what is missing."""
    rows = data.get(name) or []
    if count == len(rows):
        return data | {"trimmed": trimmed}
    account = trimmed | {name: {"kept": count, "of": len(rows)}}
    return data | {name: rows[:count], "trimmed": account}


def _shortened(value: Any, name: str, cut: list[str]) -> Any:
    match value:
        case str() if len(value) > LONGEST_TEXT and name not in {"weights", "labels"}:
            cut.append(name)
            return value[: LONGEST_TEXT - 1] + "…"
        case list():
            return [_shortened(item, name, cut) for item in value]
        case dict():
            return {key: _shortened(item, name, cut) for key, item in value.items()}
        case _:
            return value


def _json(payload: dict[str, Any]) -> str:
    return json.dumps(_finite(payload), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for: an infinite or undefined figure is null."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_finite(item) for item in value]
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case _:
            return value


def _time(ts_us: int) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=ts_us)
    except OverflowError:
        raise ContractError("invalid_field", f"ts {ts_us} is no time in microseconds") from None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
