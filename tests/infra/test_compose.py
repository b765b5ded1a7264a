"""docker-compose.yml and the image describe the system that the code is."""

import re
from pathlib import Path
from string import Template
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tidegate_infra import process
from tidegate_infra.cli.app import app
from tidegate_infra.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
JOBS = {name: service for name, service in OURS.items() if service["restart"] == "no"}
RUNNING = {name: service for name, service in OURS.items() if name not in JOBS}

# What must differ in a container: addresses, places, and what suits a small machine.
NOT_SHARED = re.compile(
    r"listeners|advertised\.listeners|listener\.security\.protocol\.map|controller\.quorum\.voters|log\.dirs"
    r"|num\..*|log\.(cleaner|segment|index)\..*"
)


def interpolated(value: str) -> str:
    """Return a value as compose sees it when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_every_process_but_the_embedded_store_has_a_container() -> None:
    processes = {service["command"][1] for service in RUNNING.values()}
    assert processes == set(process.names()) - {"store"}


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_the_command_line(name: str) -> None:
    command = OURS[name]["command"]
    arguments = [*command, "--help"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    flags = {word for word in command if word.startswith("--")}
    said = CliRunner().invoke(app, arguments).stdout
    assert all(flag in said for flag in flags)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_with_a_value_that_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {key: interpolated(value) for key, value in OURS[name]["environment"].items()}
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    settings = Settings.load()
    assert settings.kafka == "kafka:9092"
    assert settings.health_port == 8080
    assert {f"TIDEGATE_{field.upper()}" for field in Settings.model_fields} >= set(variables)


def test_both_ends_know_the_same_password_and_database() -> None:
    given = SERVICES["clickhouse"]["environment"]
    for service in OURS.values():
        used = service["environment"]
        assert used["TIDEGATE_CLICKHOUSE_USER"] == given["CLICKHOUSE_USER"]
        assert used["TIDEGATE_CLICKHOUSE_PASSWORD"] == given["CLICKHOUSE_PASSWORD"]
        assert used["TIDEGATE_CLICKHOUSE"].endswith(f"/{given['CLICKHOUSE_DB']}")


def test_kafka_is_configured_like_the_local_stacks() -> None:
    local = dict(
        line.split("=", 1)
        for line in Template((ROOT / "infra/kafka/server.properties").read_text())
        .safe_substitute()
        .splitlines()
        if "=" in line and not line.startswith("#")
    )
    container = {
        key.removeprefix("KAFKA_").lower().replace("_", "."): value
        for key, value in SERVICES["kafka"]["environment"].items()
    }
    shared = {key: value for key, value in local.items() if not NOT_SHARED.fullmatch(key)}
    assert {key: container.get(key) for key in shared} == shared
    assert set(container) <= set(local)


def test_kafka_has_the_version_of_the_local_stacks_jars() -> None:
    pom = ET.parse(ROOT / "infra/kafka/pom.xml").getroot()
    version = next(e.text for e in pom.iter() if e.tag.endswith("}kafka.version"))
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_clickhouse_has_the_version_of_the_embedded_engine() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    engine = re.search(r"^chdb-core==(\d+\.\d+)\.", constraints, re.MULTILINE)
    assert engine is not None
    assert SERVICES["clickhouse"]["image"] == f"clickhouse/clickhouse-server:{engine[1]}"


def test_every_image_is_pinned() -> None:
    fetched = [service["image"] for service in SERVICES.values() if "build" not in service]
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    fetched += re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(fetched) == 4
    for image in fetched:
        assert re.search(r":\d+\.\d+", image), image


def test_every_service_that_stays_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        if name in JOBS:
            assert service["healthcheck"] == {"disable": True}
        else:
            assert service["healthcheck"]["test"][0] == "CMD"
    for service in RUNNING.values():
        port = service["environment"]["TIDEGATE_HEALTH_PORT"]
        assert f"http://127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1]


def test_processes_start_when_topics_and_tables_are_there() -> None:
    done = {"condition": "service_completed_successfully"}
    for service in RUNNING.values():
        assert service["depends_on"] == {"topics": done, "migrations": done}
    for service in JOBS.values():
        assert [wait["condition"] for wait in service["depends_on"].values()] == ["service_healthy"]


def test_ports_are_on_loopback_and_nothing_of_ours_runs_as_root() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE) == ["10001:10001"]


def test_what_is_kept_stands_in_named_volumes() -> None:
    whole = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(whole["volumes"])


def test_the_image_copies_what_exists() -> None:
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path
