import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate_infra.stack.group import ProcessGroup
from tidegate_infra.stack.program import Program

# A child that ignores every polite signal and has a child of its own.
STUBBORN = 'trap "" TERM INT HUP; sleep 600 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait; sleep 600'

PARENT = textwrap.dedent("""
    import sys, threading, time
    from tidegate_infra.stack.group import ProcessGroup
    group = ProcessGroup()
    # Started by a thread that has ended since.
    thread = threading.Thread(target=group.spawn, args=(["/bin/sh", "-c", sys.argv[1]],))
    thread.start(); thread.join()
    time.sleep(600)
""")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def eventually(condition, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    pids = tmp_path / "pids"
    process = subprocess.Popen([sys.executable, "-c", PARENT, STUBBORN.format(pids=pids)])
    assert eventually(pids.exists)
    members = [int(pid) for pid in pids.read_text().split()]
    yield process, members
    process.kill()
    process.wait()
    for pid in members:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_and_their_children_end_with_their_parent_however_it_ends(
    parent: tuple[subprocess.Popen[bytes], list[int]], number: signal.Signals
) -> None:
    process, members = parent
    assert all(is_alive(pid) for pid in members)
    process.send_signal(number)
    assert eventually(lambda: not any(is_alive(pid) for pid in members))


def test_a_parent_that_is_stopped_and_goes_on_keeps_its_children(
    parent: tuple[subprocess.Popen[bytes], list[int]],
) -> None:
    process, members = parent
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.1)
    assert all(is_alive(pid) for pid in members)


def test_a_killed_guardian_is_noticed() -> None:
    with ProcessGroup() as group:
        member = group.spawn(["sleep", "600"])
        assert group.is_guarded
        guardian = os.getpgid(member.pid)
        os.kill(guardian, signal.SIGTERM)
        assert not eventually(lambda: not group.is_guarded, seconds=0.2)
        os.kill(guardian, signal.SIGKILL)
        assert eventually(lambda: not group.is_guarded)
    assert member.returncode == -signal.SIGKILL


def test_closing_a_group_kills_and_reaps_its_members() -> None:
    with ProcessGroup() as group:
        member = group.spawn(["sleep", "600"])
    assert member.returncode == -signal.SIGKILL


def test_what_a_child_says_is_appended_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    with ProcessGroup() as group:
        for words in ("first", "second"):
            group.spawn(["/bin/sh", "-c", f"echo {words} >&2"], log=log).wait()
    assert log.read_text() == "first\nsecond\n"


def test_the_last_words_of_a_program_name_the_log_that_has_the_words_before(tmp_path: Path) -> None:
    log = tmp_path / "notify.log"
    with ProcessGroup() as group:
        child = group.spawn(["/bin/sh", "-c", "echo a.yaml:1:1: one >&2; echo a.yaml:2:1: two >&2"], log=log)
        child.wait()
        assert Program("notify", child, 1, log).last_words() == f"a.yaml:2:1: two (the last line of {log})"
        assert Program("notify", child, 1, tmp_path / "none").last_words() == "it said nothing"
