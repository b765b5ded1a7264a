"""What `make` says on a machine that lacks something."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JAVA_IS_MISSING = "Java >= 17 is missing (Kafka runs on it): apt-get install openjdk-17-jre-headless\n"
MAVEN_IS_MISSING = "Maven is missing (it fetches Kafka's jars): apt-get install maven\n"


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def java(version: str) -> str:
    return f"echo 'openjdk version \"{version}\" 2024-01-16' >&2"


@pytest.mark.parametrize(
    ("present", "said"),
    [
        ({}, JAVA_IS_MISSING),
        ({"java": java("11.0.21"), "mvn": ""}, JAVA_IS_MISSING),
        ({"java": java("1.8.0_402"), "mvn": ""}, JAVA_IS_MISSING),
        ({"java": java("17.0.10")}, MAVEN_IS_MISSING),
        ({"java": java("17.0.10"), "mvn": ""}, None),
        ({"java": java("21"), "mvn": ""}, None),
    ],
    ids=["nothing", "Java 11", "Java 8", "no Maven", "Java 17", "Java 21"],
)
def test_what_kafka_needs_is_named_with_the_command_that_installs_it(
    present: dict[str, str], said: str | None, tmp_path: Path, installed: Callable[[str, str], str]
) -> None:
    (tmp_path / "awk").symlink_to(installed("awk", "mawk"))
    for name, script in present.items():
        program(tmp_path / name, script)
    make = [installed("make", "make"), "--no-print-directory", "-C", str(ROOT), "check-java"]
    ended = subprocess.run(make, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (ended.returncode == 0) == (said is None), ended.stderr
    assert ended.stdout == (said or "")


def test_an_old_python_is_named_with_the_way_to_another(
    tmp_path: Path, installed: Callable[[str, str], str]
) -> None:
    program(tmp_path / "old", "exit 1")
    make = [installed("make", "make"), "--no-print-directory", "-C", str(ROOT), "check-python"]
    make.append(f"PYTHON={tmp_path / 'old'}")
    path = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(make, env=path, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert ended.stdout.startswith("Python >= 3.11 is missing: install it")
