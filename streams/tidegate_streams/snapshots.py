"""Snapshots: the state that a journal partition came to at an offset, so that a restart reads only the rest.

The journal stays the truth. The fold is the same for everybody, so a snapshot is right whoever made it, a
process that has lost its partitions included, and nothing has to be fenced. It is used only where nothing
can tell it from the replay: made of this very journal, by this very release under the same rules, whole,
unchanged, and reached by what is left of the journal. In any other case the journal is replayed from its
beginning.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import tidegate
import tidegate_streams

PIECE_BYTES = 900_000
"""Most bytes of a state in one message; Kafka's own limit is 1 MiB."""

_LIBRARIES = ("numpy", "polars", "fastavro")


class Source(NamedTuple):
    """What a snapshot was made of, and by what.

    Parameters
    ----------
    journal_id
        Kafka's id of the journal: one made anew under the same name has another.
    partition
        Of the journal.
    release
        What `release` returned.
    """

    journal_id: str
    partition: int
    release: str


@dataclass(frozen=True, slots=True)
class _Head:
    journal_id: str
    partition: int
    release: str
    next_offset: int
    digest: str
    part: int
    parts: int


def release(*rules: object) -> str:
    """Return a digest of all that a state depends on beside the journal: this code, its libraries, the rules.

    Another release may fold otherwise, or know other fields: its snapshots are not used.
    """
    digest = hashlib.blake2b(digest_size=16)
    for package in (tidegate, tidegate_streams):
        folder = Path(package.__path__[0])
        for path in sorted(path for suffix in ("py", "avsc") for path in folder.rglob(f"*.{suffix}")):
            digest.update(f"{package.__name__}/{path.relative_to(folder)}\n".encode() + path.read_bytes())
    digest.update(repr([(name, metadata.version(name)) for name in ("tidegate", *_LIBRARIES)]).encode())
    digest.update(repr(rules).encode())
    return digest.hexdigest()


def cut(source: Source, next_offset: int, state: bytes, limit: int = PIECE_BYTES) -> list[bytes]:
    """Return the messages of a snapshot; only all of them together are one.

    Parameters
    ----------
    source
        What it was made of.
    next_offset
        Offset of the first journal message that is not in the state.
    state
        The packed state. All that the messages before it caused is safe in Kafka: nothing causes it again.
    limit
        Most bytes of the state in a message.
    """
    starts = range(0, len(state), limit)
    whole = _Head(*source, next_offset, "", 0, len(starts))
    digest = _digest(whole, state)
    return [
        json.dumps(asdict(whole) | {"digest": digest, "part": part}).encode()
        + b"\n"
        + state[start : start + limit]
        for part, start in enumerate(starts)
    ]


def newest(messages: Iterable[bytes], source: Source, start: int, end: int) -> tuple[int, bytes] | None:
    """Return the newest snapshot that can be used: its next offset and the packed state; None without one.

    Parameters
    ----------
    messages
        Pieces in any order, of any snapshots, some of them missing, repeated or damaged.
    source
        What it must have been made of.
    start, end
        First offset that the journal still has, and its end: what a snapshot is followed by must be there.
    """
    found: dict[tuple[int, str, int], dict[int, bytes]] = {}
    for message in messages:
        head, state = _read(message)
        if head is None or (head.journal_id, head.partition, head.release) != source:
            continue
        if start <= head.next_offset <= end:
            found.setdefault((head.next_offset, head.digest, head.parts), {})[head.part] = state
    for (next_offset, digest, parts), pieces in sorted(found.items(), reverse=True):
        if len(pieces) != parts or set(pieces) != set(range(parts)):
            continue
        whole = b"".join(pieces[part] for part in range(parts))
        if _digest(_Head(*source, next_offset, "", 0, parts), whole) == digest:
            return next_offset, whole
    return None


def _read(message: bytes) -> tuple[_Head | None, bytes]:
    line, _, state = message.partition(b"\n")
    try:
        values: dict[str, Any] = json.loads(line)
        head = _Head(**values)
    except (ValueError, TypeError, RecursionError):
        return None, state
    is_ours = all(type(getattr(head, one.name)) is one.type for one in fields(head))
    return (head if is_ours else None), state


def _digest(head: _Head, state: bytes) -> str:
    digest = hashlib.blake2b(repr(head).encode(), digest_size=16)
    digest.update(state)
    return digest.hexdigest()
