import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.errors import ConfigError, Refused
from tidegate_infra.stack import control
from tidegate_infra.stack.directory import PARTS, DataDirectory

HOLDER = textwrap.dedent("""
    import signal, sys, time
    from pathlib import Path
    from tidegate_infra.stack.directory import DataDirectory
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with DataDirectory(Path(sys.argv[1])) as directory:
        directory.write({"pid": 1, "ready": True, "settings": {}})
        print("held", flush=True)
        time.sleep(600)
""")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_directory_has_one_stack_at_a_time(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    assert directory.holder() == holder.pid
    with pytest.raises(Refused, match=r"a stack already runs in .*: stop it with `tidegate down"), directory:
        pass
    with pytest.raises(Refused, match=f"`tidegate down --data-dir {tmp_path}` stops it"):
        control.up_detached(["false"], tmp_path)
    assert directory.read() == {"pid": 1, "ready": True, "settings": {}}


def test_what_a_killed_stack_left_behind_is_not_taken_for_a_running_one(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()
    directory = DataDirectory(tmp_path)
    assert directory.read() is not None
    assert directory.holder() is None
    with directory:
        assert directory.read() is None
        assert directory.holder() == os.getpid()
    assert directory.holder() is None


def test_down_removes_a_stale_file_and_signals_nobody(tmp_path: Path) -> None:
    # The process id in the stale file belongs to somebody else by now: to this test.
    directory = DataDirectory(tmp_path)
    directory.write({"pid": os.getpid(), "ready": True, "settings": {}})
    (tmp_path / "stack.lock").write_text(str(os.getpid()))
    assert control.down(tmp_path) is False
    assert directory.read() is None


def test_down_ends_the_holder_even_when_it_does_not_listen(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert control.down(tmp_path, timeout_seconds=0.3) is True
    assert holder.wait(10) == -signal.SIGKILL
    assert not (tmp_path / "stack.json").exists()


def test_a_directory_that_lost_a_part_is_refused(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    with directory:
        for part in ("kafka", "store"):
            (tmp_path / part).mkdir()
        directory.mark_complete()
    (tmp_path / "store").rmdir()
    with (
        pytest.raises(
            ConfigError, match=r"half deleted \(store missing\): .* delete complete and kafka in it"
        ),
        directory,
    ):
        pass
    assert directory.holder() is None
    # What is not ours may stand beside it, and stays.
    (tmp_path / "notes.txt").touch()
    (tmp_path / "complete").unlink()
    (tmp_path / "kafka").rmdir()
    with directory:
        assert (tmp_path / "notes.txt").exists()


def test_a_first_start_that_was_interrupted_may_go_on(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with DataDirectory(tmp_path) as directory:
        assert directory.is_ours


def test_a_directory_that_is_deleted_under_its_stack_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with DataDirectory(path) as directory:
        (path / "stack.lock").unlink()
        assert not directory.is_ours
        (path / "stack.lock").touch()
        assert not directory.is_ours


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match="choose another --data-dir"),
        DataDirectory(tmp_path / "file" / "data"),
    ):
        pass


@pytest.mark.parametrize("where", ["file", "file/data", "/proc/data"])
def test_a_stack_in_the_background_names_a_directory_that_cannot_be_made(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another --data-dir"):
        control.up_detached(["false"], tmp_path / where)
    assert control.down(tmp_path / where) is False


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.write({"pid": 1})
    before = directory.stack_file.open()
    directory.write({"pid": 2})
    with before:
        assert json.load(before) == {"pid": 1}
    assert directory.read() == {"pid": 2}


def test_a_demo_begins_without_what_the_one_before_left(tmp_path: Path) -> None:
    for _ in range(2):
        with DataDirectory(tmp_path, demo=True) as directory:
            assert not [part for part in PARTS if (tmp_path / part).exists()]
            for part in PARTS:
                (tmp_path / part).mkdir()
                (tmp_path / part / "segment").write_bytes(b"events")
            directory.mark_complete()


def test_a_demo_that_was_killed_while_it_began_begins_again(tmp_path: Path) -> None:
    with DataDirectory(tmp_path, demo=True) as directory:
        (tmp_path / "kafka").mkdir()
        directory.mark_complete()
    with DataDirectory(tmp_path, demo=True):
        assert not (tmp_path / "kafka").exists()


@pytest.mark.parametrize("played_before", [False, True])
def test_a_demo_removes_nothing_that_somebody_made_his_own(tmp_path: Path, played_before: bool) -> None:
    if played_before:
        with DataDirectory(tmp_path, demo=True):
            for part in PARTS:
                (tmp_path / part).mkdir()
    with DataDirectory(tmp_path):
        for part in PARTS:
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / "segment").write_bytes(b"events")
    with pytest.raises(Refused, match="other data than a demo's"), DataDirectory(tmp_path, demo=True):
        pass
    assert all((tmp_path / part / "segment").read_bytes() == b"events" for part in PARTS)
