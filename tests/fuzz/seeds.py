"""Valid inputs that mutations begin with."""

import dataclasses
import json
import typing
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from tidegate import codec
from tidegate.records import RECORDS, LLMCall
from tidegate.versions import history

ROOT = Path(__file__).parents[2]

_PLAIN: dict[Any, Any] = {
    str: "prod", int: 1_000_000, float: 0.5, bool: True, bytes: b"\x00\xff", Decimal: Decimal("0.25"),
}  # fmt: skip


def full(cls: Any) -> Any:
    """Return a record with every field set."""
    hints = typing.get_type_hints(cls)
    return cls(**{field.name: _value(hints[field.name]) for field in dataclasses.fields(cls)})


def _value(hint: Any) -> Any:
    some = [arg for arg in typing.get_args(hint) if arg is not type(None)]
    if typing.get_origin(hint) is list:
        return [_value(some[0])]
    if some:
        return _value(some[0])
    return _PLAIN[hint] if hint in _PLAIN else full(hint)


def avro() -> Iterator[bytes]:
    """Every record in both framings; `versions.history` in its order gives the ids of the second."""
    for number, cls in enumerate(RECORDS.values()):
        yield codec.encode(full(cls))
        yield codec.encode_confluent(full(cls), number)


def json_records() -> Iterator[bytes]:
    """Every record as JSON, behind a byte with its number."""
    for number, cls in enumerate(RECORDS.values()):
        yield bytes([number]) + codec.as_json(full(cls)).encode()


def json_lines() -> Iterator[bytes]:
    """Files as people write them."""
    call = {
        "ts_start": 1_772_366_400_000_000, "ts_end": "2026-03-01T12:00:01.5Z", "operation": "chat",
        "provider": "openai", "request_model": "gpt-4o", "status": "ok", "reported_cost_usd": "0.01",
        "guardrails": [{"name": "pii", "stage": "input"}], "retrieval": {"count": 1}, "tags": ["x"],
    }  # fmt: skip
    rating = {
        "type": "feedback", "ts": "2026-03-01T13:00:00+01:00", "name": "helpful", "kind": "thumbs",
        "value": 1, "given_by": "user", "target_session_id": "s",
    }  # fmt: skip
    judged = {
        "type": "evaluation", "ts": 1, "name": "n", "kind": "judge", "evaluator": "j", "passed": True,
        "dataset_item_id": "i", "cost_usd": "1e-3", "sample_rate": 0.5,
    }  # fmt: skip
    lines = [json.dumps(one).encode() for one in (call, rating, judged)]
    yield from lines
    yield b"\xef\xbb\xbf" + b"\r\n\n".join(lines)
    yield codec.as_json(full(LLMCall)).encode()


def rollout_files() -> Iterator[bytes]:
    """The examples of the documents."""
    for path in sorted(ROOT.glob("docs/examples/*.yaml")):
        yield path.read_bytes()


STATEMENTS = (
    b"SELECT 1",
    b"/* a */ SELECT 'it''s', `q`, \"q\", $tag$text$tag$ FROM t -- end\nFORMAT JSON SETTINGS a = 1;",
    b"WITH x AS (SELECT 1 FORMAT) SELECT * FROM x WHERE a IN (1, {b:Int64}) INTO OUTFILE 'f'",
    b"INSERT INTO db.t (a, b) SETTINGS x = 1 FORMAT CSV\n1,2\n",
    b"INSERT INTO FUNCTION remote('h', t) VALUES (1, 'a\\'b'), (2, NULL)",
    b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
    b"EXPLAIN SELECT sum(number) FROM numbers(10) GROUP BY number % 3 FORMAT Null",
)


def requests() -> Iterator[bytes]:
    """Requests: method, query string and headers in lines, an empty line, the body."""
    for sql in STATEMENTS:
        yield b"POST \nhost: localhost\n\n" + sql
    yield b"GET query=SELECT+1&param_a=1&default_format=JSON&query_id=q&readonly=1\nhost: 127.0.0.1:1\n\n"
    yield (
        b"POST database=d&enable_http_compression=1&max_threads=1&log_comment=c\nhost: [::1]:80\n"
        b"authorization: Basic cmVhZGVyOg==\naccept-encoding: gzip;q=0, zstd\ncontent-encoding: gzip\n"
        b"\n\x1f\x8b"
    )
    yield (
        b"POST user=reader&password=\nhost: localhost\nsec-fetch-site: none\norigin: http://localhost\n"
        b"content-type: multipart/form-data; boundary=b\n\n"
        b'--b\r\ncontent-disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n--b--\r\n'
    )


assert list(history()) == list(RECORDS), "ids of the second framing are places in the history"
