"""Why the audit decides and not the token: a kill after the engine noted an insert, and other blocks."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tidegate.errors import DependencyUnavailable
from tidegate_consumers.sink.facts import KEPT_DAYS, Reading, facts
from tidegate_consumers.sink.store import Store
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.clickhouse import migrations
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings
from tidegate_infra.stack import ports
from tidegate_infra.stack.program import Program

RENAMES = "rename,renameat,renameat2"


@contextmanager
def killing_before_the_next_rename(strace: str, pid: int, trace: Path) -> Iterator[None]:
    """Let a process die of SIGKILL as it is about to rename something: that is how a part becomes visible."""
    inject = ["-e", f"trace={RENAMES}", "-e", f"inject={RENAMES}:error=EIO:signal=SIGKILL:when=1"]
    tracer = subprocess.Popen(
        [strace, "-f", "-p", str(pid), *inject, "-o", str(trace)], stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    words = tracer.stderr.readline()
    if "attached" not in words:
        tracer.communicate(timeout=10)
        pytest.fail(f"strace may not trace the engine ({words.strip()}): grant the capability SYS_PTRACE")
    try:
        yield
    finally:
        tracer.kill()
        tracer.communicate(timeout=10)


def rows(store: Store) -> list[Any]:
    return list(store._client.query("SELECT count(), uniqExact(_offset) FROM calls").result_rows[0])


def test_killed_between_its_deduplication_log_and_the_rename_the_engine_forgets_and_the_audit_does_not(
    settings: Settings,
    start_process: Callable[..., Program],
    installed: Callable[[str, str], str],
    call: Any,
    ranged: Any,
    tmp_path: Path,
) -> None:
    changes = {
        "clickhouse": f"http://127.0.0.1:{ports.free_port()}/facts",
        "data_dir": settings.data_dir / "own",
    }
    settings = settings.model_copy(update=changes)
    engine = start_process("store", **changes)
    engine.wait_until_ready()
    with closing(clickhouse.connect(settings)) as connection:
        migrations.up(connection)
    range_ = ranged([call() for _ in range(50)])
    frames = facts(range_, Reading([False] * 50, PriceBook.load()))
    with closing(Store(settings)) as store:
        with (
            killing_before_the_next_rename(installed("strace", "strace"), engine.pid, tmp_path / "trace"),
            pytest.raises(DependencyUnavailable, match="not stored yet"),
        ):
            store.put(range_, frames, doubtful=False)
        assert engine.process.wait(10) == -9
        start_process("store", **changes).wait_until_ready()
        # By the token alone they would be lost: the engine answers as if it had written them, and has not.
        store._insert("calls", frames["calls"], range_.name)
        assert rows(store) == [0, 0]
        assert store.put(range_, frames, doubtful=True).repaired == 50
        assert rows(store) == [50, 50]


@pytest.mark.usefixtures("migrated")
def test_a_redo_that_is_cut_into_other_blocks_than_the_first_try_neither_loses_nor_doubles(
    settings: Settings, call: Any, ranged: Any
) -> None:
    calls = [call() for _ in range(300)]
    with closing(Store(settings)) as store:
        # The token counts blocks: of a range in one block it knows the first, and takes all 300 for known.
        for lo, stood in [(0, 100), (1_000, 200)]:
            range_ = ranged(calls, lo=lo)
            frames = facts(range_, Reading([False] * 300, PriceBook.load()))
            store._insert("calls", frames["calls"].head(stood), range_.name)
            before = rows(store)[0]
            store._insert("calls", frames["calls"], range_.name)
            assert rows(store)[0] == before
            assert store.put(range_, frames, doubtful=True).repaired == 300 - stood
        assert rows(store) == [600, 600]


@pytest.mark.usefixtures("migrated")
def test_bodies_that_are_too_old_to_be_kept_hold_nothing_up(
    settings: Settings, full_call: Any, ranged: Any
) -> None:
    # Of a log that is kept for longer than bodies are.
    range_ = ranged([full_call() for _ in range(3)], appended_ms=1_760_000_010_000)
    frames = facts(range_, Reading([False] * 3, PriceBook.load()))
    with closing(Store(settings)) as store:
        store.put(range_, frames, doubtful=False)
        assert store.put(range_, frames, doubtful=True).repaired == 0
        assert rows(store) == [3, 3]
        store._client.command("OPTIMIZE TABLE call_bodies FINAL")
        assert store._client.command("SELECT count() FROM call_bodies") == 0
        for table, days in KEPT_DAYS.items():
            assert f"toIntervalDay({days})" in str(store._client.command(f"SHOW CREATE TABLE {table}"))
