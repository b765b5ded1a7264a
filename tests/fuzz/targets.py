"""What reads foreign bytes, and what it promises whatever they are: a broken promise raises."""

import asyncio
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from confluent_kafka import Message
from polars.testing import assert_frame_equal
from tests.fuzz import seeds

from tidegate import codec, intake
from tidegate.client.completion import Defaults
from tidegate.errors import ContractError
from tidegate.records import RECORDS, Evaluation, Feedback, LLMCall
from tidegate.versions import Version, history, latest
from tidegate_infra import rollout_file
from tidegate_infra.kafka import rules
from tidegate_infra.kafka.batches import decode_batch
from tidegate_infra.store import codings, statement
from tidegate_infra.store.accounts import Account
from tidegate_infra.store.engine import Engine, Format, Summary
from tidegate_infra.store.errors import StatementError
from tidegate_infra.store.server import Server
from tidegate_streams.aggregate.columns import CALL_COLUMNS
from tidegate_streams.aggregate.ratings import EVALUATION_COLUMNS, FEEDBACK_COLUMNS

_CLASSES = tuple(RECORDS.values())
_DEFAULTS: Defaults = SimpleNamespace(tenant="acme", app="app", environment="prod", app_version=None)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads foreign bytes.

    Parameters
    ----------
    check
        Raises when a promise is broken.
    seeds
        Valid inputs.
    share
        Of all inputs of a long run; the quick ones take the most.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    share: float


class _Registry:
    def version(self, schema_id: int) -> Version:
        versions = [versions[-1] for versions in history().values()]
        if schema_id >= len(versions):
            raise ContractError("unknown_schema", f"no schema {schema_id}")
        return versions[schema_id]

    def schema_id(self, version: Version, topic: str) -> int:
        raise NotImplementedError


_REGISTRY = _Registry()


def _listed(error: ContractError) -> None:
    assert error.reason in codec.REASONS, error.reason


def _placed(error: rollout_file.FileError) -> None:
    assert error.problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)


def avro(data: bytes) -> None:
    """Bytes are a record, which is written and read again as it is, or are refused for a listed reason."""
    try:
        record = codec.decode(data, _REGISTRY, _CLASSES)
    except ContractError as error:
        _listed(error)
        return
    if data[:1] != b"{":
        written = codec.encode(record)
        assert codec.encode(codec.decode(written)) == written


def json_record(data: bytes) -> None:
    """JSON is a record that can be written in either form, or is refused for a listed reason."""
    try:
        record = codec.decode(b"{" + data[2:], expect=_CLASSES[(data[0] if data else 0) % len(_CLASSES)])
    except ContractError as error:
        _listed(error)
        return
    assert codec.as_json(record)
    assert codec.encode(record)


def json_lines(data: bytes) -> None:
    """A line is an event that can be sent, or has problems that say where."""
    for line in intake.read(io.BytesIO(data), _DEFAULTS):
        assert (line.event is None) == bool(line.problems)
        assert all(problem.what for problem in line.problems)
        if line.event is not None:
            assert codec.decode(codec.encode(line.event)) is not None


def rollout(data: bytes) -> None:
    """A file is a specification that can be applied, or every problem has a place in it."""
    try:
        spec = rollout_file.load(data, "f.yaml")
    except rollout_file.FileError as error:
        _placed(error)
        return
    assert codec.decode(codec.encode(spec)) == spec


def sql(data: bytes) -> None:
    """A text is cut where the data of an INSERT begins, and what is in front of it is untouched."""
    statement.first_word(data)
    statement.writes_file(data)
    statement.output_format(data)
    try:
        insert = statement.insert_with_data(data)
    except StatementError:
        return
    if insert is not None:
        assert data.startswith(insert.sql)
        assert data.endswith(insert.data)


def batch(data: bytes) -> None:
    """Damaged messages are read or refused alike both ways, and every one is accounted for."""
    values = [codec.encode(_CALL)] * _MESSAGES
    for edit in range(0, len(data) - 3, 4):
        which, what, where, byte = data[edit : edit + 4]
        values[which % _MESSAGES] = _edited(values[which % _MESSAGES], what, where, byte)
    messages = [
        Message(topic="t", partition=0, offset=offset, key=b"prod", value=value, timestamp=(2, 1))
        for offset, value in enumerate(values)
    ]
    seen = []
    for slow in (False, True):
        read = decode_batch(messages, registry=_REGISTRY, slow=slow)
        refused = {message.offset(): reason for message, reason, _ in read.rejected}
        assert len(refused) + read.frame.height == _MESSAGES
        assert set(refused.values()) <= {*codec.REASONS, *rules.REASONS, "key_mismatch"}
        seen.append((read.frame, refused))
    assert seen[0][1] == seen[1][1]
    assert_frame_equal(seen[0][0], seen[1][0])


def datum(data: bytes) -> None:
    """One datum, all of it or what stage 1 reads of it, is the same whichever way it is read."""
    record, columns = _READ[(data[0] if data else 0) % len(_READ)]
    value = codec.SINGLE_OBJECT + latest(record).fingerprint + data[1:]
    message = Message(topic="t", partition=0, offset=0, key=b"prod", value=value, timestamp=(2, 1))
    fast, slow = (decode_batch([message], record.__name__, columns, slow=slow) for slow in (False, True))
    assert [reason for _, reason, _ in fast.rejected] == [reason for _, reason, _ in slow.rejected]
    assert_frame_equal(fast.frame, slow.frame)


_READ: list[tuple[type, tuple[str, ...] | None]] = [
    (LLMCall, None), (LLMCall, CALL_COLUMNS), (Feedback, None), (Feedback, FEEDBACK_COLUMNS),
    (Evaluation, None), (Evaluation, EVALUATION_COLUMNS),
]  # fmt: skip


def _datums() -> Iterator[bytes]:
    for number, (record, _) in enumerate(_READ):
        yield bytes([number]) + codec.encode(seeds.full(record))[10:]


def _edited(value: bytes, what: int, where: int, byte: int) -> bytes:
    at = (where * 3) % (len(value) + 1)
    match what % 4:
        case 0:
            return value[:at] + bytes([byte]) + value[at + 1 :]
        case 1:
            return value[:at] + bytes([byte]) + value[at:]
        case 2:
            return value[:at]
        case _:
            return value[:at] + value[at + byte % 9 :]


_CALL = seeds.full(LLMCall)
_MESSAGES = 70


class _NoEngine:
    """Takes every statement for a question and reads whatever rows it is given."""

    version = "26.9"
    timezone = "UTC"
    formats: ClassVar = {"json": Format("JSON", "application/json")}

    @contextmanager
    def session(self, *_: Any) -> Iterator["_NoEngine"]:
        yield self

    def classify(self, text: bytes) -> tuple[str, int]:
        return "READ_ONLY", 1

    def run(self, text: bytes, *_: Any) -> tuple[bytes, Summary]:
        return text, Summary()

    def stream(self, text: bytes, *_: Any) -> Iterator[bytes]:
        yield text

    def insert(self, text: bytes, format_: str, pieces: Iterator[bytes]) -> Summary:
        return Summary(written_bytes=sum(map(len, pieces)))

    def kill(self, mark: str = "") -> None:
        pass

    def lost_writes(self) -> int:
        return 0


_SERVER = Server(
    cast("Engine", _NoEngine()),
    (Account("default", "", writes=True), Account("reader", "", writes=False)),
    is_local=True,
)
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): *([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*))")
_LOOP = asyncio.new_event_loop()


def http(data: bytes) -> None:
    """A request is answered, with an error that ClickHouse has, if with one."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, query = first.partition(b" ")
    # What is no header does not get past the server that the application runs in.
    headers = [(m[1].lower(), m[2]) for m in map(_HEADER.fullmatch, lines) if m]
    scope = {
        "type": "http", "http_version": "1.1", "scheme": "http", "path": "/", "raw_path": b"/",
        "method": "POST" if method == b"POST" else "GET", "query_string": query, "headers": headers,
        "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "root_path": "",
    }  # fmt: skip
    events = [
        {"type": "http.request", "body": body[:40], "more_body": True},
        {"type": "http.request", "body": body[40:]},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return events.pop(0) if events else await asyncio.sleep(60, {"type": "http.disconnect"})

    async def send(event: Any) -> None:
        sent.append(event)

    _LOOP.run_until_complete(asyncio.wait_for(_SERVER.application(scope, receive, send), 10))
    assert sent[0]["status"] in {200, 400, 401, 403, 404, 405, 413, 500, 501, 503}
    if sent[0]["status"] == 500:
        assert any(name == b"x-clickhouse-exception-code" for name, _ in sent[0]["headers"])
    assert not sent[-1].get("more_body", False)


def packed(data: bytes) -> None:
    """A packed body is unpacked in bounded pieces, or refused."""
    coding = codings.OFFERED[(data[0] if data else 0) % len(codings.OFFERED)]
    try:
        for piece in codings.unpack([data[1:9], data[9:]], coding):
            assert 0 < len(piece) <= 1 << 20
    except StatementError:
        return


def _packed() -> Iterator[bytes]:
    for number, coding in enumerate(codings.OFFERED):
        packer = codings.packer(coding)
        yield bytes([number]) + packer.compress(b"row\n" * 100) + packer.flush()


TARGETS: dict[str, Target] = {
    "avro": Target(avro, seeds.avro, 0.34),
    "json record": Target(json_record, seeds.json_records, 0.16),
    "json lines": Target(json_lines, seeds.json_lines, 0.03),
    "rollout file": Target(rollout, seeds.rollout_files, 0.005),
    "batch": Target(batch, lambda: iter([b"\x00\x00\x05\xff" * 3]), 0.0005),
    "datum": Target(datum, _datums, 0.02),
    "sql": Target(sql, lambda: iter(seeds.STATEMENTS), 0.25),
    "packed body": Target(packed, _packed, 0.2),
    "request": Target(http, seeds.requests, 0.02),
}
