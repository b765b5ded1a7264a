"""A store on a small disk that is full again and again while ranges are written: what stands afterwards?

``unshare --mount python -m tests.consumers.full_disk DIRECTORY STRIKES SEED`` prints it as JSON. Writers do
what the sink does: a range is tried until it is stored, and audited from the second try on.
"""

import json
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from clickhouse_connect.driver.client import Client
from confluent_kafka import Message
from tests.faults.disk import SmallDisk
from uuid_utils import uuid7

from tidegate import codec
from tidegate.errors import DependencyUnavailable
from tidegate.records import LLMCall
from tidegate.topics import CALLS
from tidegate_consumers.sink.facts import Reading, facts
from tidegate_consumers.sink.store import Store
from tidegate_infra.clickhouse import client, migrations
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup
from tidegate_infra.stack.member import Member

WRITERS = 2
START_US = 1_760_000_000_000_000
FOUND = """SELECT count(), uniqExact(_offset), sum(latency_us) FROM calls
GROUP BY _partition ORDER BY _partition"""


class Writer(threading.Thread):
    """Writes range after range of one partition, each until it is stored."""

    def __init__(self, settings: Settings, partition: int, seed: int, over: threading.Event) -> None:
        super().__init__(name=f"writer-{partition}")
        self._settings = settings
        self._partition = partition
        self._random = random.Random(f"{seed}/{partition}")
        self._over = over
        self._book = PriceBook.load()
        self.next_offset = 0
        self.latencies_us = 0
        self.tries = 0
        self._doubtful = False

    def run(self) -> None:
        """Write until it is over."""
        with closing(Store(self._settings)) as store:
            while not self._over.is_set():
                self._write(store, self._range())

    def _range(self) -> Range:
        lo = self.next_offset
        hi = lo + self._random.choice((20, 100, 500)) - 1
        messages = [self._message(offset) for offset in range(lo, hi + 1)]
        self.next_offset = hi + 1
        return Range(
            topic=CALLS,
            topic_id="topic",
            partition=self._partition,
            lo=lo,
            hi=hi,
            messages=messages,
            redo=False,
            epoch=1,
        )

    def _message(self, offset: int) -> Message:
        took_us = self._random.randrange(1, 10_000_000)
        self.latencies_us += took_us
        call = LLMCall(
            event_id=str(uuid7()),
            ts_start=START_US,
            ts_end=START_US + took_us,
            tenant="acme",
            app="support",
            environment="prod",
            deployment="chat",
            variant="base",
            operation="chat",
            provider="openai",
            request_model="gpt-4o",
            status="ok",
            session_id=self._random.randbytes(40).hex(),
        )
        return Message(
            topic=CALLS,
            partition=self._partition,
            offset=offset,
            key=call.event_id.encode(),
            value=codec.encode(call),
            timestamp=(2, START_US // 1_000),
        )

    def _write(self, store: Store, range_: Range) -> None:
        frames = facts(range_, Reading([False] * len(range_.messages), self._book))
        stands = False
        while not stands:
            self.tries += 1
            try:
                store.put(range_, frames, doubtful=self._doubtful)
                stands = True
            except DependencyUnavailable:
                time.sleep(0.25)
            self._doubtful = not stands


def play(directory: Path, strikes: int, seed: int) -> dict[str, object]:
    """Fill the disk `strikes` times, and compare what stands with what was sent."""
    drawn = random.Random(seed)
    address = f"http://127.0.0.1:{ports.free_port()}/tidegate"
    settings = Settings(clickhouse=address, data_dir=directory, health_port=ports.free_port())
    over = threading.Event()
    with SmallDisk(directory / "store") as disk, ProcessGroup() as group:
        log = directory / "store.log"
        member = Member(
            "store", lambda: program.start("store", settings, group=group, log=log, wait_seconds=60)
        )

        def keep() -> None:
            while not over.wait(0.1):
                member.turn()

        keeper = threading.Thread(target=keep)
        keeper.start()
        _until(lambda: member.status.state == "ready")
        with closing(client.connect(settings)) as connection:
            migrations.up(connection)
        no_more = threading.Event()
        writers = [Writer(settings, partition, seed, no_more) for partition in range(WRITERS)]
        for writer in writers:
            writer.start()
        for _ in range(strikes):
            time.sleep(drawn.uniform(0.5, 2.0))
            disk.fill()
            time.sleep(drawn.uniform(0.5, 2.5))
            disk.free()
        no_more.set()
        for writer in writers:
            writer.join()
        restarts = member.status.restarts
        with closing(client.connect(settings)) as connection:
            found = _found(connection)
        # What stood only in memory is gone when it is opened again.
        assert member.child is not None
        member.child.process.kill()
        _until(lambda: member.status.restarts > restarts and member.status.state == "ready")
        with closing(client.connect(settings)) as connection:
            found_again = _found(connection)
            aside = connection.query(
                "SELECT level > 0, count() FROM system.detached_parts GROUP BY 1"
            ).result_rows
        over.set()
        keeper.join()
        assert member.child is not None
        member.child.process.kill()
        member.child.process.wait()
    sent = [[writer.next_offset, writer.next_offset, writer.latencies_us] for writer in writers]
    return {
        "sent": sent,
        "found": found,
        "found_again": found_again,
        "restarts": restarts,
        "tries": sum(writer.tries for writer in writers),
        "set_aside": {"merged" if merged else "inserted": count for merged, count in aside},
    }


def _found(connection: Client) -> list[list[int]]:
    return [list(row) for row in connection.query(FOUND).result_rows]


def _until(question: Callable[[], bool], seconds: float = 120) -> None:
    until_s = time.monotonic() + seconds
    while not question():
        if time.monotonic() > until_s:
            raise TimeoutError("it did not come true")
        time.sleep(0.1)


if __name__ == "__main__":
    where, count, chosen = sys.argv[1:]
    print(json.dumps(play(Path(where), int(count), int(chosen))))
