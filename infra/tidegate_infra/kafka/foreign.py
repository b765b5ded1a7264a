"""Schemas that somebody registered under the name of a record of ours."""

from polars.exceptions import PanicException

from tidegate import versions
from tidegate.errors import ContractError
from tidegate.versions import Version
from tidegate_infra.compatibility import unreadable, unsupported
from tidegate_infra.kafka import blocks, datums, evolution

_SHOWN = 3
_LONGEST = 200
_problems: dict[bytes, list[str]] = {}


def check(version: Version) -> None:
    """See that whatever a schema writes can be read as the record.

    The schema alone is judged, never a value: so every reader refuses the same messages, however it reads.

    Raises
    ------
    ContractError
        With reason ``unknown_schema``: what it writes is of another type, or lacks a field, or one of the
        decoders cannot be made for it.
    """
    if version.fingerprint not in _problems:
        is_shipped = version.fingerprint in versions.by_fingerprint()
        _problems[version.fingerprint] = [] if is_shipped else _found(version)[:_SHOWN]
    if problems := _problems[version.fingerprint]:
        raise ContractError(
            "unknown_schema", f"the registered schema cannot be read as {version.name}: {'; '.join(problems)}"
        )


def _found(version: Version) -> list[str]:
    try:
        ours = versions.latest(version.record).source
        found = [*unsupported(version.source), *unreadable(version.source, ours)]
        if not found:
            _make_decoders(version)
    # Nobody can list what a stranger's schema breaks. A panic of Polars is no Exception.
    except (Exception, PanicException) as error:  # noqa: BLE001
        return [f"{type(error).__name__}: {error}"[:_LONGEST]]
    return found


def _make_decoders(version: Version) -> None:
    """Read no datum at all in every way that there is: also what is passed over must be understood."""
    reader = versions.latest(version.record)
    written = [field["name"] for field in version.source["fields"]]
    datums.make_reader(version, written, ())
    frame = blocks.read_block(version, 0, [], [], written)
    evolution.aligned(frame, version, reader, [field["name"] for field in reader.source["fields"]])
