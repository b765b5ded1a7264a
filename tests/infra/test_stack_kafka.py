import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.errors import ConfigError, DependencyUnavailable
from tidegate.topics import ALERTS
from tidegate_infra.kafka import client, topics
from tidegate_infra.settings import Settings
from tidegate_infra.stack import jars, kafka, ports


def produce(settings: Settings, value: bytes) -> None:
    producer = client.producer(settings)
    producer.produce(settings.topic_prefix + ALERTS, value)
    assert producer.flush(20) == 0


def values(settings: Settings, count: int) -> list[bytes]:
    consumer = client.consumer(settings, uuid.uuid4().hex)
    consumer.subscribe([settings.topic_prefix + ALERTS])
    messages = consumer.consume(count, timeout=20)
    consumer.close()
    return [message.value() for message in messages]


@pytest.mark.long
def test_a_broker_keeps_its_data_and_its_port_over_a_stop_and_a_kill(tmp_path: Path) -> None:
    running = kafka.start(tmp_path)
    bootstrap = running.bootstrap
    settings = Settings(kafka=bootstrap)
    topics.apply(settings, [ALERTS])
    produce(settings, b"before the stop")
    running.stop()

    running = kafka.start(tmp_path)
    assert running.bootstrap == bootstrap
    produce(settings, b"before the kill")
    running.kill()

    running = kafka.start(tmp_path, port=running.port)
    try:
        assert values(settings, 2) == [b"before the stop", b"before the kill"]
    finally:
        running.kill()


def test_a_misspelt_topic_is_not_created(kafka: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="tidegate topic apply"):
        client.topic_id(client.admin(settings), f"{settings.topic_prefix}misspelt")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        # As a server would: what closed connections left on the port does not keep it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", ports.free_port()))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path, taken: int) -> None:
    with pytest.raises(ConfigError, match=f"port {taken} for Kafka is in use: stop what listens there"):
        kafka.launch(tmp_path, taken)
    assert not (tmp_path / "data").exists()


def test_the_last_port_is_given_up_when_somebody_else_has_it(taken: int) -> None:
    chosen = ports.choose(0, "Kafka", previous=taken)
    assert chosen != taken
    assert ports.is_free(chosen)


def test_free_ports_are_none_that_outgoing_connections_use() -> None:
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < ports.free_port() < min(lowest_outgoing, 32_768) for _ in range(20))


def test_missing_java_is_a_line_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"Java >= 17 is missing .*: apt-get install"):
        kafka.launch(tmp_path)


def test_a_java_home_that_holds_no_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"JAVA_HOME names .*/nowhere, which holds no bin/java"):
        kafka.launch(tmp_path)


def test_java_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "home" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\necho 'Error: ... java.lang.UnsupportedClassVersionError: kafka/Kafka ...'; exit 1\n"
    )
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(java.parents[1]))
    with pytest.raises(ConfigError, match="Java is older than 17"):
        kafka.launch(tmp_path / "kafka")


@pytest.mark.long
def test_a_broker_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    running = kafka.start(tmp_path)
    running.stop()
    properties = tmp_path / "data" / "meta.properties"
    properties.write_text(properties.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(DependencyUnavailable, match=r"Kafka ended with 1: .*node"):
        kafka.start(tmp_path)


@pytest.mark.parametrize("lost", ["meta.properties", "__cluster_metadata-0"])
def test_a_half_deleted_data_directory_is_refused(tmp_path: Path, lost: str) -> None:
    data = tmp_path / "data"
    for name in ("__cluster_metadata-0", "llm.calls-0", "llm.calls-1"):
        (data / name).mkdir(parents=True)
    (data / "meta.properties").touch()
    path = data / lost
    path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(ConfigError, match=r"is half deleted .* delete the whole data directory"):
        kafka.launch(tmp_path)


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An executable of ours in the place of Maven, and no jars yet."""
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    monkeypatch.setenv("PATH", f"{bin_directory}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(jars, "jars_directory", lambda: tmp_path / "jars")
    return bin_directory / "mvn"


def test_jars_are_fetched_once_into_their_directory(maven: Path, tmp_path: Path) -> None:
    maven.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    maven.chmod(0o755)
    assert not jars.are_present()
    assert jars.fetch() == jars.fetch() == tmp_path / "jars"
    assert jars.are_present()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 1
    assert asked[0].endswith(f"dependency:copy-dependencies -Djars={tmp_path / 'jars'}")


def test_an_unreachable_repository_is_quoted_and_nothing_counts_as_fetched(maven: Path) -> None:
    maven.write_text("#!/bin/sh\necho '[INFO] x'\necho '[ERROR] Could not transfer artifact'\nexit 1\n")
    maven.chmod(0o755)
    with pytest.raises(DependencyUnavailable, match="Could not transfer artifact"):
        jars.fetch()
    assert not jars.are_present()


def test_missing_maven_is_a_line_with_the_command_that_installs_it(
    maven: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match=r"Maven is missing .*: apt-get install maven"):
        jars.fetch()
