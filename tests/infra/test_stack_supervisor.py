"""The whole machinery with a real broker and a real store; the supervisor is a process that can be killed."""

import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tidegate.errors import ConfigError, Refused
from tidegate.topics import CALLS
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.clickhouse import migrations
from tidegate_infra.kafka import client, topics
from tidegate_infra.settings import Settings
from tidegate_infra.stack import control, ports
from tidegate_infra.stack.directory import DataDirectory
from tidegate_infra.stack.supervisor import Stack

# One worker: the tests share a running stack.
pytestmark = pytest.mark.xdist_group("stack")

SUPERVISOR = textwrap.dedent("""
    import sys
    from pathlib import Path
    from tidegate.errors import TidegateError
    from tidegate_infra.stack.supervisor import Stack
    try:
        with Stack(Path(sys.argv[1]), [], settings={"watermark": "data"}) as stack:
            stack.run_until_stopped()
    except KeyboardInterrupt:
        pass
    except TidegateError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
""")


def eventually(condition: Callable[[], object], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Running:
    """A stack whose supervisor is another process."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.supervisor = control.up_detached([sys.executable, "-c", SUPERVISOR, str(data_dir)], data_dir)

    @property
    def content(self) -> dict[str, Any]:
        content = DataDirectory(self.data_dir).read()
        assert content is not None
        return content

    def pid(self, name: str) -> int | None:
        pid: int | None = self.content["processes"][name]["pid"]
        return pid

    def pids(self) -> list[int]:
        return [pid for name in ("kafka", "store") if (pid := self.pid(name)) is not None]

    def is_ready_again(self, name: str, restarts: int) -> bool:
        status = self.content["processes"][name]
        return status["state"] == "ready" and status["restarts"] == restarts

    def end(self) -> None:
        control.down(self.data_dir, timeout_seconds=20)
        self.supervisor.wait()


def migration_states(settings: Settings) -> set[str]:
    with closing(clickhouse.connect(settings)) as connection:
        return {one.state for one in migrations.status(connection)}


StartStack = Callable[[str], Running]


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[StartStack]:
    started: list[Running] = []

    def start(name: str) -> Running:
        started.append(Running(tmp_path / name))
        return started[-1]

    yield start
    for running in started:
        running.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A stack that was started in a shell whose variables point elsewhere; its tests leave it running."""
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("TIDEGATE_KAFKA", "production.example:9092")
        variables.setenv("TIDEGATE_CLICKHOUSE", "https://production.example/tidegate")
        variables.setenv("TIDEGATE_CLICKHOUSE_PASSWORD", "hunter2")
        running = Running(tmp_path_factory.mktemp("stack"))
    yield running
    running.end()


def test_a_stack_is_found_by_its_directory_with_topics_and_tables_in_place(running: Running) -> None:
    settings = Settings.for_data_dir(running.data_dir)

    assert settings.watermark == "data"
    assert settings.origin("kafka") == f"stack file {running.data_dir / 'stack.json'}"
    assert topics.plan(settings) == []
    assert migration_states(settings) == {"applied"}


def test_variables_that_point_elsewhere_do_not_reach_a_local_stack(running: Running) -> None:
    file = (running.data_dir / "stack.json").read_text()
    assert "production" not in file
    assert "hunter2" not in file


def test_a_supervisor_in_the_background_has_a_session_of_its_own(running: Running) -> None:
    assert os.getsid(running.supervisor.pid) == running.supervisor.pid


def test_a_directory_has_one_stack(running: Running) -> None:
    with pytest.raises(Refused, match="a stack already runs in"):
        Running(running.data_dir)
    with pytest.raises(Refused, match="a stack already runs in"):
        Stack(running.data_dir, []).start()
    assert running.content["ready"]


@pytest.mark.long
def test_what_dies_is_started_again_at_the_same_address_with_its_data(running: Running) -> None:
    settings = Settings.for_data_dir(running.data_dir)
    topic_id = client.topic_id(client.admin(settings), CALLS)

    for pid in running.pids():
        os.kill(pid, signal.SIGKILL)

    assert eventually(lambda: running.is_ready_again("kafka", 1) and running.is_ready_again("store", 1))
    assert Settings.for_data_dir(running.data_dir) == settings
    assert client.topic_id(client.admin(settings), CALLS) == topic_id
    assert migration_states(settings) == {"applied"}


@pytest.mark.long
def test_stacks_run_side_by_side_and_one_whose_guardian_is_killed_ends_alone(
    running: Running, start_stack: StartStack
) -> None:
    other = start_stack("other")
    here, there = (Settings.for_data_dir(stack.data_dir) for stack in (running, other))
    assert here.kafka != there.kafka
    assert here.clickhouse != there.clickhouse

    pids = other.pids()
    os.kill(os.getpgid(pids[0]), signal.SIGKILL)

    assert other.supervisor.wait(60) == 70
    assert not any(is_alive(pid) for pid in pids)
    assert all(is_alive(pid) for pid in running.pids())


def test_killing_the_supervisor_leaves_no_orphan_and_the_next_start_works(start_stack: StartStack) -> None:
    killed = start_stack("one")
    pids = killed.pids()
    killed.supervisor.kill()
    killed.supervisor.wait()
    assert eventually(lambda: not any(is_alive(pid) for pid in pids), seconds=5)
    assert (killed.data_dir / "stack.json").exists()

    again = start_stack("one")

    pids = again.pids()
    again.supervisor.send_signal(signal.SIGHUP)
    assert again.supervisor.wait(60) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert not (again.data_dir / "stack.json").exists()


@pytest.mark.long
def test_a_directory_deleted_under_a_running_stack_ends_it(start_stack: StartStack) -> None:
    stack = start_stack("one")
    pids = stack.pids()
    (stack.data_dir / "stack.lock").unlink()
    assert stack.supervisor.wait(60) == 70
    assert not any(is_alive(pid) for pid in pids)
    assert "was deleted under the running stack" in (stack.data_dir / "logs" / "supervisor.log").read_text()


def test_a_start_that_fails_leaves_nothing_and_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="Java >= 17 is missing"):
        Running(tmp_path / "one")
    assert DataDirectory(tmp_path / "one").holder() is None
    assert not (tmp_path / "one" / "stack.json").exists()


@pytest.mark.parametrize("option", ["kafka_port", "store_port"])
def test_a_port_in_use_is_one_line(option: str, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", ports.free_port()))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} for .* is in use: stop what listens there"):
            Stack(tmp_path, [], **{option: port}).start()
    assert DataDirectory(tmp_path).holder() is None
