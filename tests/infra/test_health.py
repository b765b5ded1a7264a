import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import Counter

from tidegate.errors import ConfigError, DependencyUnavailable, InvariantBroken
from tidegate_infra import process
from tidegate_infra.health import Health, HealthServer
from tidegate_infra.settings import Settings


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(health: Health) -> Iterator[HealthServer]:
    server = HealthServer(health, 0)
    yield server
    server.close()


def test_a_process_is_ready_only_while_it_says_so(health: Health, server: HealthServer) -> None:
    assert get(server, "/readyz") == (503, "starting\n")
    health.ready()
    assert get(server, "/readyz") == (200, "ready\n")
    health.not_ready("partitions revoked")
    assert get(server, "/readyz") == (503, "partitions revoked\n")


def test_a_loop_that_does_not_turn_is_neither_live_nor_ready() -> None:
    now = [0.0]
    health = Health(stalled_after_seconds=60, clock=lambda: now[0])
    health.ready()
    now[0] = 60.0
    assert health.livez() == (200, "live")
    now[0] = 61.0
    assert health.livez() == health.readyz() == (503, "the loop stands still: no turn for over 60 s")
    health.beat()
    assert health.readyz() == (200, "ready")


def test_metrics_are_those_of_the_process(health: Health, server: HealthServer) -> None:
    Counter("tidegate_tests", "Tests", registry=health.metrics).inc()
    status, text = get(server, "/metrics")
    assert (status, "tidegate_tests_total 1.0" in text) == (200, True)
    assert get(server, "/elsewhere")[0] == 404


def test_a_health_port_in_use_is_a_line_that_says_what_to_do(server: HealthServer) -> None:
    with pytest.raises(ConfigError, match=f"health port {server.port} cannot be opened"):
        HealthServer(Health(), server.port)


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging_as_it_was")
class TestRun:
    def test_a_dependency_that_comes_back_is_waited_for(self, settings: Settings) -> None:
        attempts = []

        def main(running: process.Process) -> None:
            attempts.append(running)
            Counter("tidegate_attempts", "Attempts", registry=running.metrics)
            if len(attempts) < 3:
                raise DependencyUnavailable("Kafka is away")

        assert process.run("test", main, settings, wait_seconds=30) == 0
        assert len(attempts) == 3

    def test_a_dependency_that_stays_away_ends_the_process_with_4(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def main(_: process.Process) -> None:
            raise DependencyUnavailable("Kafka is away")

        assert process.run("test", main, settings) == 4
        assert "test: Kafka is away" in capsys.readouterr().err

    def test_a_dependency_lost_after_readiness_is_not_waited_for(self, settings: Settings) -> None:
        def main(running: process.Process) -> None:
            running.ready()
            raise DependencyUnavailable("Kafka went away")

        assert process.run("test", main, settings, wait_seconds=30) == 4

    def test_an_unforeseen_error_ends_the_process_with_its_traceback(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def main(_: process.Process) -> None:
            raise ZeroDivisionError("unforeseen")

        assert process.run("test", main, settings) == InvariantBroken.exit_code
        assert "ZeroDivisionError: unforeseen" in capsys.readouterr().err

    @pytest.mark.parametrize("log_json", [True, False])
    def test_no_log_line_shows_a_secret(self, log_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
        settings = Settings(
            log_json=log_json, webhook_secret="hunter2-webhook", kafka_password='hunter2"kafka'
        )

        def main(running: process.Process) -> None:
            running.log.info("seen", settings=settings, password="hunter2", where="http://me:hunter2@host/")
            running.log.info("said", said='hunter2-webhook and hunter2"kafka')
            logging.getLogger("library").warning(
                "signed with %s", "hunter2-webhook", extra={"api_key": "hunter2"}
            )
            try:
                raise ValueError('hunter2"kafka')
            except ValueError:
                running.log.exception("failed")
            raise ConfigError("hunter2-webhook is short")

        assert process.run("test", main, settings) == 3
        printed = capsys.readouterr().err
        assert "signed with ***" in printed
        assert "ValueError: ***" in printed
        assert "hunter2" not in printed

    def test_sigterm_asks_the_process_to_stop(self, settings: Settings) -> None:
        stopped = []

        def main(running: process.Process) -> None:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
            stopped.append(running.stopping.wait(10))

        assert process.run("test", main, settings) == 0
        assert stopped == [True]


def test_an_unknown_process_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert process.start(["agregate"]) == 3
    assert "no process is called 'agregate': there are aggregate, " in capsys.readouterr().err


CRASHING = textwrap.dedent("""
    from tidegate_infra.crashpoint import crashpoint
    crashpoint("test.other")
    print("before", flush=True)
    crashpoint("test.here")
    print("after", flush=True)
""")


def test_a_crash_point_kills_once(tmp_path: Path) -> None:
    environment = os.environ | {
        "TIDEGATE_CRASH_AT": "test.here",
        "TIDEGATE_CRASH_ONCE": str(tmp_path / "crashed"),
    }
    first, second = (
        subprocess.run([sys.executable, "-c", CRASHING], env=environment, capture_output=True, text=True)
        for _ in range(2)
    )
    assert (first.returncode, first.stdout) == (-signal.SIGKILL, "before\n")
    assert (second.returncode, second.stdout) == (0, "before\nafter\n")
