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
_TABLE = b"CREATE TABLE rows (a Int64, b Nullable(String), c Array(Float64)) ENGINE = MergeTree ORDER BY a"
_READS = (
    b"SELECT a, b, sum(c[1]) OVER (ORDER BY a) FROM rows WHERE match(b, 'x+') ORDER BY a LIMIT 3 FORMAT JSON",
    b"SELECT quantile(0.5)(number), uniq(number), toDateTime64(number, 3) FROM numbers(100)",
    b"SELECT CAST((1, 'a'), 'Tuple(x Int8, y String)') AS t, JSONExtractString('{\"a\":1}', 'a')",
)


def fuzz_store(inputs: int, seed: int, directory: Path) -> tuple[int, int]:
    """Send damaged requests; return how many were sent, and how many the store did not survive or answer."""
    with ProcessGroup() as group:
        address = f"http://127.0.0.1:{ports.free_port()}/default"
        data = directory / "store"
        settings = Settings(clickhouse=address, data_dir=data, health_port=ports.free_port())
        store = program.start("store", settings, group=group, log=directory / "store.log")
        store.wait_until_ready()
        finds = 0
        with httpx.Client(base_url=address.removesuffix("default"), timeout=SLOWEST_S) as client:
            client.post("/", content=_TABLE.replace(b"TABLE", b"TABLE IF NOT EXISTS")).raise_for_status()
            for number, (user, body) in enumerate(_damaged(random.Random(seed), inputs)):
                try:
                    status = client.post("/", params={"user": user, "max_execution_time": "5"}, content=body)
                    is_well = status.status_code < 600 and client.get("/ping").text == "Ok.\n"
                except httpx.HTTPError:
                    is_well = False
                if not is_well:
                    finds += 1
                    (directory / f"store-{seed}-{number}").write_bytes(body)
                if store.process.poll() is not None:
                    return number + 1, finds
        store.process.terminate()
        store.process.wait(30)
    return inputs, finds


def _damaged(draw: random.Random, inputs: int) -> Iterator[tuple[str, bytes]]:
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
