"""A real broker and a real store for every test that asks; each test has its own topics and database."""

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tidegate_infra.clickhouse import client, migrations
from tidegate_infra.kafka.topics import apply
from tidegate_infra.settings import Settings
from tidegate_infra.stack import kafka as broker
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup

StartProcess = Callable[..., program.Program]

# Records that are damaged on purpose make polars panic, which is caught; a backtrace of each costs seconds.
os.environ["RUST_BACKTRACE"] = "0"

# Machines are shared: how long an example takes says nothing.
settings.register_profile("shared", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# Under nohup or behind a shell's "&" these are ignored, and so they would be by every process a test starts;
# what has a handler is not. The suite itself goes on ignoring them.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files whose tests start processes first: a long one should not run alone in the end."""
    turns: dict[Path, int] = {}
    for item in items:
        turns[item.path] = min(_turn(item), turns.get(item.path, _turn(item)))
    items.sort(key=lambda item: turns[item.path])


def _turn(item: pytest.Item) -> int:
    fixtures = getattr(item, "fixturenames", ())
    return 0 if "start_process" in fixtures else 1 if "tmp_path" in fixtures else 2


@pytest.fixture(scope="session")
def process_group() -> Iterator[ProcessGroup]:
    """Children of the tests; none outlives them, even when they are killed."""
    with ProcessGroup() as group:
        yield group


@pytest.fixture(scope="session")
def installed() -> Callable[[str, str], str]:
    """Path of a program, by its name and that of Debian's package; without it the test fails."""
    java = [str(Path(home, "bin"))] if (home := os.environ.get("JAVA_HOME")) else []

    def find(name: str, package: str) -> str:
        path = shutil.which(name, path=os.pathsep.join([*java, os.environ["PATH"]]))
        if path is None:
            pytest.fail(f"{name} is missing, which this test needs: apt-get install {package}")
        return path

    return find


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, process_group: ProcessGroup) -> str:
    """Bootstrap address of a real broker that the tests of this worker share."""
    return broker.start(tmp_path_factory.mktemp("kafka"), group=process_group).bootstrap


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, process_group: ProcessGroup) -> str:
    """Address of a real store process that the tests of this worker share, with the database `default`."""
    directory = tmp_path_factory.mktemp("store")
    address = f"http://127.0.0.1:{ports.free_port()}/default"
    settings = Settings(clickhouse=address, data_dir=directory, health_port=ports.free_port())
    program.start("store", settings, group=process_group, log=directory / "store.log").wait_until_ready()
    return address


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with topics and a database of this test alone; Kafka and the store only if asked for."""
    unique = f"t{uuid.uuid4().hex[:12]}"
    where: dict[str, str] = {}
    if "kafka" in request.fixturenames:
        where["kafka"] = request.getfixturevalue("kafka")
    if "store" in request.fixturenames:
        where["clickhouse"] = request.getfixturevalue("store").removesuffix("default") + unique
    # What a killed process left is taken over soon.
    return Settings(topic_prefix=f"{unique}.", data_dir=tmp_path, kafka_session_ms=2_000, **where)


@pytest.fixture
def topics(kafka: str, settings: Settings) -> None:
    """Every topic of the table, under the prefix of this test."""
    apply(settings)


@pytest.fixture
def migrated(store: str, settings: Settings) -> None:
    """The tables of the store, in the database of this test."""
    with closing(client.connect(settings)) as connection:
        migrations.up(connection)


@pytest.fixture
def start_process(process_group: ProcessGroup, settings: Settings, tmp_path: Path) -> Iterator[StartProcess]:
    """Start processes with the settings of this test: ``start_process("aggregate", range_ms=100)``."""
    started: list[program.Program] = []

    def start(name: str, **changes: object) -> program.Program:
        changed = settings.model_copy(update={"health_port": ports.free_port(), **changes})
        log = tmp_path / f"{name}.log"
        started.append(program.start(name, changed, group=process_group, log=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
