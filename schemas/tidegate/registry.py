"""Schemas from a Confluent-compatible registry; used only where ``TIDEGATE_SCHEMA_REGISTRY_URL`` is set."""

import json
from typing import Any

from tidegate.errors import ConfigError, ContractError, DependencyUnavailable
from tidegate.versions import Version, by_fingerprint, fingerprint_of, load


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
        self._client = SchemaRegistryClient.new_client({"url": url})
        self._versions: dict[int, Version | None] = {}
        self._ids: dict[tuple[bytes, str], int] = {}

    def version(self, schema_id: int) -> Version:
        """Return the writer's schema of an id; an id that is not known is remembered as such."""
        if schema_id not in self._versions:
            self._versions[schema_id] = self._look_up(schema_id)
        version = self._versions[schema_id]
        if version is None:
            raise ContractError("unknown_schema", f"schema id {schema_id} is no schema of the contract")
        return version

    def _look_up(self, schema_id: int) -> Version | None:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            text = self._client.get_schema(schema_id).schema_str or "{}"
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise DependencyUnavailable(f"schema registry: {error.error_message}") from error
        source: dict[str, Any] = json.loads(text)
        known = by_fingerprint().get(fingerprint_of(source))
        if known is not None:
            return known
        for version in by_fingerprint().values():
            if version.name == source.get("name"):
                return load(version.subject, 0, source)
        return None

    def schema_id(self, version: Version, topic: str) -> int:
        """Return the id of a schema under the subject ``<topic>-<record>``, registering it at need."""
        key = (version.fingerprint, topic)
        if key not in self._ids:
            schema = self._schema(json.dumps(version.source), "AVRO")
            self._ids[key] = int(self._client.register_schema(f"{topic}-{version.name}", schema))
        return self._ids[key]
