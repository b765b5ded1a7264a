"""What is posted to a receiver, and by what its answer is believed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Doubt = Callable[[int, bytes], str]
"""Status (2xx) and the beginning of a body -> why the receiver has not taken it; empty when it has."""


def no_doubt(_status: int, _body: bytes) -> str:
    """Believe the status."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST.

    Parameters
    ----------
    url
        Where to; it may hold a secret.
    headers
        Beside host, type and agent.
    body
        Exactly what is sent.
    doubt
        Reads an answer that claims success. A proxy, a login page or a gateway answers 200 to anything.
    """

    url: str = field(repr=False)
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    doubt: Doubt = no_doubt


def to_json(value: Any) -> bytes:
    """Return a value as JSON in ASCII: nothing between us and the receiver guesses an encoding."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
