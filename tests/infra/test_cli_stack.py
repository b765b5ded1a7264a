"""The local stack from the command line: what can go wrong at start, and one whole life."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate_infra import demos, process
from tidegate_infra.settings import PREFIX, Settings
from tidegate_infra.stack import control, ports, supervisor
from tidegate_infra.stack.member import Status

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def tidegate(
    *arguments: object, stdin: str = "", timeout_seconds: float = 150
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tidegate_infra.cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=timeout_seconds,
        check=False,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Directory whose stack, if any, is stopped in the end."""
    yield tmp_path / "stack"
    tidegate("down", "--data-dir", tmp_path / "stack")


def test_a_directory_without_a_stack_is_told_with_the_command_that_starts_one(
    cli: Any, tmp_path: Path
) -> None:
    status = cli("status", "--data-dir", tmp_path)
    assert status.code == 1
    assert f"tidegate up --data-dir {tmp_path}" in status.out
    assert cli("status", "--data-dir", tmp_path, "--json").rows[0]["running"] is False
    down = cli("down", "--data-dir", tmp_path)
    assert (down.code, down.err) == (1, status.out)
    for command in ("status", "down"):
        assert re.search(r"1 when .*runs there", " ".join(cli(command, "--help").out.split()))
    assert cli("logs", "--data-dir", tmp_path).code == 3


def test_flags_that_do_not_go_together_and_unknown_demos_end_with_2(cli: Any, tmp_path: Path) -> None:
    assert cli("up", "--exit", "--data-dir", tmp_path).code == 2
    assert cli("up", "--demo", "healthy", "--exit", "--detach", "--data-dir", tmp_path).code == 2
    for how in ([], ["--detach"]):
        unknown = cli("up", "--demo", "helthy", *how, "--data-dir", tmp_path)
        assert unknown.code == 2
        assert "healthy" in unknown.err
        assert "starting" not in unknown.err
    assert not list(tmp_path.iterdir())


def test_a_demo_in_the_background_says_that_it_plays_and_where_its_result_will_stand(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"settings": {"kafka": "127.0.0.1:1"}}))
    monkeypatch.setattr(control, "up_detached", lambda *_: SimpleNamespace(pid=7))
    advice = f"tidegate logs supervisor --data-dir {tmp_path}"
    assert advice in cli("up", "-d", "--demo", "healthy", "--data-dir", tmp_path).err
    assert "supervisor" not in cli("up", "-d", "--data-dir", tmp_path).err


def test_a_demo_that_ends_says_how_to_start_the_stack_that_it_tells_to_look_into(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = SimpleNamespace(settings={}, play=lambda *_, **__: demos.Summary(True, ["Where to look next"]))
    monkeypatch.setattr(demos, "staged", lambda _: nullcontext(stage))
    monkeypatch.setattr(
        supervisor, "Stack", lambda *_, **__: nullcontext(SimpleNamespace(settings=Settings()))
    )
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    outcome = cli("up", "--demo", "healthy", "--exit", "--data-dir", tmp_path)
    assert (outcome.code, outcome.out) == (0, "Where to look next\n")
    assert outcome.err.endswith(f"to start it again: tidegate up --data-dir {tmp_path}\n")


def test_in_the_foreground_each_change_is_said_once_until_ctrl_c_ends_it_with_130(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stack(*_: Any, on_status: Callable[[Status], None], **__: Any) -> Any:
        for status in (
            Status("kafka", "starting"),
            Status("kafka", "starting"),
            Status("kafka", "ready"),
            Status("sink", "starting", "waits for the store, 1 s"),
            Status("sink", "starting", "waits for the store, 2 s"),
            Status("sink", "ready"),
            Status("sink", "restarting", "was killed by SIGKILL"),
            Status("sink", "ready"),
            Status("notify", "stopped"),
            Status("sink", "stopped"),
        ):
            on_status(status)
        return nullcontext(SimpleNamespace(settings=Settings(), run_until_stopped=lambda: None))

    monkeypatch.setattr(supervisor, "Stack", stack)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    outcome = cli("up", "--data-dir", tmp_path)
    assert (outcome.code, outcome.out) == (130, "")
    assert [line for line in outcome.err.splitlines() if line.startswith("  ")] == [
        "  kafka      ready",
        "  sink       starting: waits for the store, 1 s",
        "  sink       ready",
        "  sink       restarting: was killed by SIGKILL",
        "  sink       ready",
        "  sink       stopped",
    ]
    assert outcome.err.splitlines()[-1].startswith("Ctrl-C stops it; from another terminal:")


def test_a_port_in_use_ends_with_3_and_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = tidegate("up", "--data-dir", tmp_path, "--kafka-port", port)
    assert done.returncode == 3
    said = f"port {port} for Kafka is in use: stop what listens there, or choose another with --kafka-port"
    assert done.stderr.splitlines()[1:] == [f"tidegate: {said}"]


def test_logs_prints_the_last_lines_of_each_process(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sink.log").write_text("one\ntwo\n")
    (tmp_path / "logs" / "kafka.log").write_bytes(b"\xff broken\n")
    assert cli("logs", "sink", "-n", "1", "--data-dir", tmp_path).out == "two\n"
    assert cli("logs", "--data-dir", tmp_path).out == "kafka | \ufffd broken\nsink  | one\nsink  | two\n"
    unknown = cli("logs", "snk", "--data-dir", tmp_path)
    assert unknown.code == 2
    assert "kafka, sink" in unknown.err


def test_one_process_runs_in_the_foreground_until_it_is_asked_to_stop(
    start_cli: Callable[..., Any], tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{ports.free_port()}/default"
    running = start_cli("run", "store", TIDEGATE_DATA_DIR=str(tmp_path), TIDEGATE_CLICKHOUSE=address)
    for line in running.stderr:
        if " ready " in line:
            break
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, ""), err


@pytest.mark.long
def test_a_process_without_kafka_ends_with_4_or_waits_when_told_so(start_cli: Callable[..., Any]) -> None:
    away = {"TIDEGATE_KAFKA": "127.0.0.1:9", "TIDEGATE_CLICKHOUSE": "http://127.0.0.1:9/x"}
    at_once = start_cli("run", "sink", **away)
    patient = start_cli("run", "sink", "--wait", "600", **away)
    _, err = at_once.communicate(timeout=90)
    assert at_once.returncode == 4
    assert err.splitlines()[-1].startswith("sink: ")
    assert patient.poll() is None
    patient.send_signal(signal.SIGTERM)
    patient.communicate(timeout=90)
    assert patient.returncode == 0


@pytest.mark.long
@pytest.mark.timeout(420)  # Two starts and a dozen commands; everything waits where all are busy.
def test_a_stack_starts_answers_every_command_and_stops(data_dir: Path) -> None:
    started = tidegate("up", "--detach", "--data-dir", data_dir)
    assert started.returncode == 0, started.stderr
    at = ("--data-dir", data_dir)
    second = tidegate("up", *at)
    assert second.returncode == 5
    assert "a stack already runs" in second.stderr

    status = tidegate("status", "--json", *at)
    assert status.returncode == 0
    facts = json.loads(status.stdout)
    assert {member["name"] for member in facts["processes"]} == {"kafka", *process.names()}
    assert {member["state"] for member in facts["processes"]} == {"ready"}
    for address in ("kafka", "clickhouse"):
        assert facts["settings"][address] in started.stderr

    call = {
        "ts_start": "2026-03-01T12:00:00Z",
        "ts_end": "2026-03-01T12:00:01Z",
        "tenant": "acme",
        "app": "chat",
        "environment": "prod",
        "operation": "chat",
        "provider": "openai",
        "request_model": "gpt-4o",
        "status": "ok",
    }
    emitted = tidegate("emit", "-", "--json", *at, stdin=json.dumps(call))
    assert (emitted.returncode, emitted.stdout) == (0, '{"accepted": 1, "rejected": 0}\n')

    doctor = tidegate("doctor", "--json", *at)
    assert doctor.returncode == 0, doctor.stdout
    found = {row["question"]: row for row in map(json.loads, doctor.stdout.splitlines())}
    assert found["process notify"]["verdict"] == "ok"
    assert tidegate("logs", "sink", *at).returncode == 0

    assert tidegate("down", *at).returncode == 0
    assert tidegate("down", *at).returncode == 1
    assert tidegate("status", *at).returncode == 1
    check_that_ctrl_c_stops_it_in_order(data_dir)


def check_that_ctrl_c_stops_it_in_order(data_dir: Path) -> None:
    """Start it again as in a terminal, whose Ctrl-C goes to every process of the foreground."""
    store_log = data_dir / "logs" / "store.log"
    finished = store_log.read_text().count("Finished server process")
    with subprocess.Popen(
        [sys.executable, "-m", "tidegate_infra.cli", "up", "--data-dir", str(data_dir)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr is not None
        said = [next(line for line in running.stderr if "Ctrl-C stops it" in line)]
        pids = [m["pid"] for m in json.loads((data_dir / "stack.json").read_text())["processes"].values()]
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
        said += err.splitlines()
    assert (running.returncode, out) == (130, "")
    for name in ("kafka", *process.names()):
        assert f"  {name:<10} stopped" in said
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    # In order: the store was asked to end, and not killed.
    assert store_log.read_text().count("Finished server process") == finished + 1
