"""Schemas that somebody registered under the name of a record of ours."""

from tidegate import versions
from tidegate.errors import ContractError
from tidegate.versions import Version
from tidegate_infra.compatibility import unreadable, unsupported

_SHOWN = 3
_problems: dict[bytes, list[str]] = {}


def check(version: Version) -> None:
    """See that whatever a schema writes can be read as the record.

    The schema alone is judged, never a value: so every reader refuses the same messages, however it reads.

    Raises
    ------
    ContractError
        With reason ``unknown_schema``: what it writes is of another type, or lacks a field.
    """
    if version.fingerprint not in _problems:
        ours = versions.latest(version.record).source
        is_shipped = version.fingerprint in versions.by_fingerprint()
        found = [] if is_shipped else [*unsupported(version.source), *unreadable(version.source, ours)]
        _problems[version.fingerprint] = found[:_SHOWN]
    if problems := _problems[version.fingerprint]:
        raise ContractError(
            "unknown_schema", f"the registered schema cannot be read as {version.name}: {'; '.join(problems)}"
        )
