"""Damaged requests to a real store, whose engine is no Python and ends the process when it goes wrong."""

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
from tests.fuzz import seeds

from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup

SLOWEST_S = 30.0
_ROWS = b"INSERT INTO rows FORMAT "
_INSERTS = (
    _ROWS + b'JSONEachRow\n{"a": 1, "b": "x", "c": [0.5]}\n{"a": 2}\n',
    _ROWS + b'CSV\n1,x,"[1,2]"\n2,,[]\n',
    _ROWS + b"Values (1, 'x', [1.5]), (2, NULL, [])",
    _ROWS + b"Native\n\x03\x01\x01a\x05Int64\x01\x00\x00\x00\x00\x00\x00\x00",
    _ROWS + b"Arrow\nARROW1\x00\x00\xff\xff\xff\xff",
)
_TABLE = b"CREATE TABLE IF NOT EXISTS rows (a Int64, b Nullable(String), c Array(Float64)) ENGINE = Null"
_READS = (
    b"SELECT a, b, sum(c[1]) OVER (ORDER BY a) FROM rows WHERE match(b, 'x+') ORDER BY a LIMIT 3 FORMAT JSON",
    b"SELECT quantile(0.5)(number), uniq(number), toDateTime64(number, 3) FROM numbers(100)",
    b"SELECT CAST((1, 'a'), 'Tuple(x Int8, y String)') AS t, JSONExtractString('{\"a\":1}', 'a')",
)


def fuzz_store(inputs: int, seed: int, directory: Path) -> tuple[int, int]:
    """Send damaged requests to a store of their own; return how many, and how many it did not bear."""
    with ProcessGroup() as group:
        address = f"http://127.0.0.1:{ports.free_port()}/"
        settings = Settings(
            clickhouse=f"{address}default", data_dir=directory / "store", health_port=ports.free_port()
        )
        store = program.start("store", settings, group=group, log=directory / "store.log")
        store.wait_until_ready()
        sent = finds = 0
        with httpx.Client(base_url=address, timeout=SLOWEST_S) as client:
            for user, body in damaged(random.Random(seed), inputs):
                sent += 1
                try:
                    bears(client, user, body)
                except (httpx.HTTPError, AssertionError):
                    finds += 1
                    Path(directory, f"store-{seed}-{sent}").write_bytes(body)
                if store.process.poll() is not None:
                    break
        store.process.terminate()
        store.process.wait(30)
    return sent, finds


def bears(client: httpx.Client, user: str, body: bytes) -> None:
    """Assert that a request is answered as ClickHouse would answer it, and that rows go in afterwards."""
    client.post("/", content=_TABLE).raise_for_status()
    answer = client.post("/", params={"user": user, "max_execution_time": "5"}, content=body)
    assert answer.is_success or "x-clickhouse-exception-code" in answer.headers
    client.post("/", content=_ROWS + b"Values (7, 'x', [])").raise_for_status()


def damaged(draw: random.Random, inputs: int) -> Iterator[tuple[str, bytes]]:
    """Yield users and bodies: pieces of statements and rows, put together wrongly."""
    bases = [*_INSERTS, *_READS, *seeds.STATEMENTS]
    for _ in range(inputs):
        body = bytearray(draw.choice(bases))
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(body) + 1)
            other = draw.choice(bases)
            cut = draw.randrange(len(other))
            piece = draw.choice([draw.randbytes(2), other[cut : cut + draw.randrange(12)], b""])
            body[at : at + draw.randrange(4)] = piece
        yield draw.choice(["default", "reader"]), bytes(body)
