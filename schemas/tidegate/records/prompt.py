"""Versions of prompts."""

from dataclasses import dataclass, field

from tidegate.records.alert import KeyValue


@dataclass(slots=True, kw_only=True)
class Prompt:
    """A version of a prompt, or the pointer of an environment to one.

    Key: tenant/name@version or tenant/name#environment.
    """

    kind: str
    tenant: str
    name: str
    version: str
    number: int
    template: str | None = None
    template_format: str
    template_hash: str
    variables: list[str] = field(default_factory=list)
    config: list[KeyValue] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    environment: str | None = None
    previous_version: str | None = None
    test_run_id: str | None = None
    tests_passed: bool | None = None
    commit: str | None = None
    author: str
    note: str | None = None
    ts: int
