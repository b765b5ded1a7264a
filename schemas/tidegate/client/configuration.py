"""Everything that the client can be told, by argument or by environment variable."""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from tidegate.client.rules import size_of_name
from tidegate.errors import ConfigError
from tidegate.limits import LONGEST_NAME_BYTES

ENV_PREFIX = "TIDEGATE_"

_POSITIVE = ("queue_events", "queue_bytes", "report_seconds", "delivery_seconds")
_NAMES = ("tenant", "app", "environment")

LEAST_KEY_BYTES = 16
"""A shorter key of handles could be found by trying."""

Mask = Callable[[str], str]
"""Takes one body of text and returns what may leave the app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Settings of one client; `tidegate.configure` documents each of them."""

    app: str
    environment: str
    kafka: str
    tenant: str = "default"
    app_version: str | None = None
    topic_prefix: str = ""
    kafka_security_protocol: str | None = None
    kafka_sasl_mechanism: str | None = None
    kafka_username: str | None = None
    kafka_password: str | None = field(default=None, repr=False)
    kafka_ca: str | None = None
    schema_registry_url: str | None = field(default=None, repr=False)
    content: bool = False
    mask: Mask | None = None
    mask_policy: str | None = None
    handle_key: str | None = field(default=None, repr=False)
    queue_events: int = 20_000
    queue_bytes: int = 64_000_000
    when_full: Literal["drop", "wait"] = "drop"
    report_seconds: float = 10.0
    delivery_seconds: float = 300.0

    def topic(self, name: str) -> str:
        """Return the topic's real name in this installation."""
        return self.topic_prefix + name


VARIABLES = frozenset(
    ENV_PREFIX + name.upper() for name in [*(f.name for f in fields(Configuration)), "disabled"]
)
"""Environment variables that the client reads."""


def read(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Configuration:
    """Return the settings: what is given, else what the environment says, else the default.

    Raises
    ------
    ConfigError
        With everything that is missing or wrong, at once; values of secrets are never quoted.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    hints = get_type_hints(Configuration)
    for f in fields(Configuration):
        variable = ENV_PREFIX + f.name.upper()
        value = given.get(f.name)
        try:
            if value is None and environ.get(variable) and hints[f.name] != Mask | None:
                values[f.name] = _parse(environ[variable], hints[f.name])
            elif value is not None:
                values[f.name] = _checked(value, hints[f.name])
        except ValueError as error:
            shown = "" if not f.repr else f" (got {value if value is not None else environ[variable]!r})"
            problems.append(f"{f.name}: {error}{shown}")
            continue
        if f.name not in values and f.default is MISSING:
            problems.append(f"{f.name} is missing: pass configure({f.name}=...) or set {variable}")
    problems += [
        f"{name} must be above 0 (got {values[name]})" for name in _POSITIVE if values.get(name, 1) <= 0
    ]
    problems += [
        f"{name} must be at most {LONGEST_NAME_BYTES} bytes long (got {size_of_name(values[name])})"
        for name in _NAMES
        if size_of_name(values.get(name, "")) > LONGEST_NAME_BYTES
    ]
    handle_key = values.get("handle_key")
    if handle_key is not None and len(handle_key.encode()) < LEAST_KEY_BYTES:
        problems.append(
            f"handle_key must be at least {LEAST_KEY_BYTES} bytes long: make one with `openssl rand -hex 32`"
        )
    if problems:
        raise ConfigError("tidegate is not configured: " + "; ".join(problems))
    return Configuration(**values)


def disabled(enabled: bool | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether the client is switched off: by ``enabled=False``, else by ``TIDEGATE_DISABLED=1``."""
    if enabled is not None:
        return not enabled
    return environ.get(ENV_PREFIX + "DISABLED", "").lower() in {"1", "true", "yes", "on"}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return tuple(part for part in get_args(hint) or (hint,) if part is not NoneType)


def _parse(text: str, hint: Any) -> Any:
    """Return the value that an environment variable's text stands for."""
    kind = _alternatives(hint)[0]
    if kind is bool:
        if text.lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
            raise ValueError("must be 1 or 0")
        return text.lower() in {"1", "true", "yes", "on"}
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ValueError("must be a number") from None
    return _checked(text, hint)


def _checked(value: Any, hint: Any) -> Any:
    """Return the value if the setting may have it."""
    if hint == Mask | None:
        if not callable(value):
            raise ValueError("must be callable: text in, masked text out")
        return value
    alternatives = _alternatives(hint)
    if isinstance(alternatives[0], str):
        if value not in alternatives:
            raise ValueError(f"must be one of {', '.join(alternatives)}")
        return value
    kind = alternatives[0]
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"must be {kind.__name__}, not {type(value).__name__}")
    if value == "" and kind is str and hint is str:
        raise ValueError("must not be empty")
    return value
