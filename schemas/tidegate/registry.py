"""Schemas from a Confluent-compatible registry; used only where ``TIDEGATE_SCHEMA_REGISTRY_URL`` is set."""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastavro.schema import SchemaParseException

from tidegate.errors import ConfigError, ContractError, DependencyUnavailable
from tidegate.versions import Version, by_fingerprint, fingerprint_of, load

PATIENCE_S = 3.0
"""For so long an id that is denied is asked for again. A registry of several nodes may not know at once on
all of them what was registered on one."""

DENIED_S = 60.0
"""For so long a denial is believed, and one of another id at once: whoever writes ids that nobody has
registered must not hold up the others for longer than `PATIENCE_S` in each of these times."""

_PAUSE_S = 0.25
_ANSWER_S = 10.0
_MOST_DENIED = 10_000
_MOST_ID = 2**31 - 1
_DENIALS = (400, 404, 422)
"""Answers that say something of the id; a registry in trouble, or one that asks who we are, has others."""


class SchemaRegistry:
    """Finds the writer's schema of Confluent framing, and registers ours.

    Parameters
    ----------
    url
        Address of the registry; ``mock://name`` is one in memory.

    Raises
    ------
    ConfigError
        The registry's client is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
        except ImportError as error:
            raise ConfigError(
                f"a schema registry needs more than the base install ({error.name} is missing): "
                "pip install 'tidegate[registry]'"
            ) from error
        self._schema = Schema
        self._client = SchemaRegistryClient.new_client({"url": url, "timeout": _ANSWER_S})
        self._versions: dict[int, Version | None] = {}
        self._denied_s: dict[int, float] = {}
        self._patient_until_s = -math.inf
        self._ids: dict[tuple[bytes, str], int] = {}

    def version(self, schema_id: int) -> Version:
        """Return the writer's schema of an id.

        Parameters
        ----------
        schema_id
            What it names is remembered for ever, that it names nothing for `DENIED_S`.

        Raises
        ------
        ContractError
            It names nothing, or no schema of the contract.
        DependencyUnavailable
            The registry does not answer.
        """
        if schema_id not in self._versions:
            # Ids are of 32 bits with a sign: some registries take a longer one for a bad request.
            text = self._text(schema_id) if schema_id <= _MOST_ID else None
            if text is None:
                raise ContractError("unknown_schema", f"the registry knows no schema of id {schema_id}")
            self._versions[schema_id] = _ours(text)
        version = self._versions[schema_id]
        if version is None:
            raise ContractError("unknown_schema", f"schema id {schema_id} is no schema of the contract")
        return version

    def _text(self, schema_id: int) -> str | None:
        """Return the text of a schema; None when it is denied, and was so for a moment."""
        if time.monotonic() - self._denied_s.get(schema_id, -math.inf) < DENIED_S:
            return None
        while (text := self._answer(schema_id)) is None:
            now_s = time.monotonic()
            if now_s - self._patient_until_s >= DENIED_S:
                self._patient_until_s = now_s + PATIENCE_S
            if now_s >= self._patient_until_s:
                if len(self._denied_s) == _MOST_DENIED:
                    self._denied_s.clear()
                self._denied_s[schema_id] = now_s
                return None
            time.sleep(_PAUSE_S)
        return text

    def _answer(self, schema_id: int) -> str | None:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return self._client.get_schema(schema_id).schema_str or ""
        except SchemaRegistryError as error:
            if error.http_status_code in _DENIALS:
                return None
            raise DependencyUnavailable(f"schema registry: {error.error_message}") from error
        except Exception as error:  # noqa: BLE001 - of whichever HTTP library its client has
            # In words of ours: theirs may name the address, and that a key.
            raise DependencyUnavailable(f"schema registry: {type(error).__name__}; is it up?") from None

    def schema_id(self, version: Version, topic: str) -> int:
        """Return the id of a schema under the subject ``<topic>-<record>``, registering it at need."""
        key = (version.fingerprint, topic)
        if key not in self._ids:
            schema = self._schema(json.dumps(version.source), "AVRO")
            self._ids[key] = int(self._client.register_schema(f"{topic}-{version.name}", schema))
        return self._ids[key]


def _ours(text: str) -> Version | None:
    """Return the version of the contract that a schema is one of, shipped or not; None for any other."""
    try:
        source = json.loads(text)
        known = by_fingerprint().get(fingerprint_of(source))
        if known is not None:
            # A fingerprint leaves the units out: of another one every number would be misread.
            ours = dict(_units(known.source))
            return known if all(ours.get(at, unit) == unit for at, unit in _units(source)) else None
        if not isinstance(source, dict):
            return None
        subject = next((v.subject for v in by_fingerprint().values() if v.name == source.get("name")), None)
        # Readers are kept by fingerprint, and two schemas that differ in their units alone share theirs.
        own = hashlib.sha256(text.encode()).digest()[:8]
        return None if subject is None else replace(load(subject, 0, source), fingerprint=own)
    except (ValueError, LookupError, TypeError, RecursionError, SchemaParseException):
        return None  # Not Avro, or not by itself, or with more depth than anybody can read.


def _units(schema: Any, at: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What a schema says of the numbers in its fields beyond their types."""
    match schema:
        case list():
            for branch in schema:
                yield from _units(branch, at)
        case {"logicalType": kind}:
            yield at, (kind, schema.get("precision"), schema.get("scale", 0))
        case {"fields": fields}:
            for field in fields:
                yield from _units(field["type"], f"{at}.{field['name']}")
        case {"items": inner} | {"type": inner}:
            yield from _units(inner, at)
