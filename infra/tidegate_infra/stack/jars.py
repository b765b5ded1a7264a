"""Where the jars of Apache Kafka and its configuration are; Maven fetches the jars on first use."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tidegate.errors import ConfigError, DependencyUnavailable

# In a checkout infra/kafka holds the files and, under target/, the jars. A wheel carries the same files
# beside this module, and its jars go to the user's cache.
_PACKAGED = Path(__file__).with_name("broker")
_CHECKOUT = Path(__file__).parents[2] / "kafka"


def broker_file(name: str) -> Path:
    """Path of pom.xml, server.properties or log4j2.properties."""
    return (_PACKAGED if _PACKAGED.is_dir() else _CHECKOUT) / name


def jars_directory() -> Path:
    """Where the jars are, or will be."""
    if not _PACKAGED.is_dir():
        return _CHECKOUT / "target" / "jars"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Files in a wheel have no time of their own, so what pom.xml says tells old jars from new ones.
    digest = hashlib.sha256(broker_file("pom.xml").read_bytes()).hexdigest()
    return cache / "tidegate" / f"kafka-jars-{digest[:8]}"


def are_present() -> bool:
    """Whether the jars that pom.xml asks for have been fetched."""
    complete = jars_directory() / ".complete"
    return complete.exists() and complete.stat().st_mtime >= broker_file("pom.xml").stat().st_mtime


def class_archive() -> Path:
    """Where the classes of these jars are kept parsed, so that Java starts sooner."""
    return jars_directory() / "classes.jsa"


def has_class_archive() -> bool:
    """Whether the archive is there and of the present jars."""
    archive, complete = class_archive(), jars_directory() / ".complete"
    return archive.exists() and complete.exists() and archive.stat().st_mtime >= complete.stat().st_mtime


def fetch() -> Path:
    """Fetch the jars with Maven, once, and return their directory.

    Raises
    ------
    ConfigError
        Maven is not installed.
    DependencyUnavailable
        Maven could not reach its repository.
    """
    directory = jars_directory()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not are_present():
            _fetch(directory)
    return directory


def _fetch(directory: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ConfigError("Maven is missing (it fetches Kafka's jars): apt-get install maven")
    result = subprocess.run(
        [
            maven,
            "--quiet",
            "--batch-mode",
            "-f",
            str(broker_file("pom.xml")),
            "dependency:copy-dependencies",
            f"-Djars={directory}",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        first = next((line for line in result.stdout.splitlines() if "ERROR" in line), "it said nothing")
        raise DependencyUnavailable(f"Maven could not fetch Kafka's jars ({first.strip()}): try again online")
    (directory / ".complete").touch()
