"""A real single-node Apache Kafka (KRaft) as a child process."""

import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tidegate.errors import ConfigError, DependencyUnavailable
from tidegate_infra.stack import jars, ports
from tidegate_infra.stack.group import ProcessGroup, ending, stop

# For a quick start on a small machine: the concurrent collector and the optimising compiler take seconds to
# pay for themselves.
_JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)
_KEEPING_SECONDS = 30.0
_METADATA = "__cluster_metadata-0"


@dataclass(frozen=True, slots=True)
class RunningKafka:
    """A broker. It ends with `stop`, with `kill`, or with the process that started it."""

    bootstrap: str
    process: subprocess.Popen[bytes]
    log: Path
    own_group: ProcessGroup | None

    @property
    def pid(self) -> int:
        """Process id of the Java machine."""
        return self.process.pid

    @property
    def port(self) -> int:
        """Port of the client listener on 127.0.0.1."""
        return int(self.bootstrap.rpartition(":")[2])

    def health(self) -> tuple[bool, str]:
        """Whether it answers."""
        return (True, "ready") if _is_listening(self.bootstrap) else (False, "starting")

    def last_words(self) -> str:
        """Return its last complaint."""
        return _complaint(_text(self.log))

    def wait_until_ready(self, timeout_seconds: float = 60) -> None:
        """Return when it has answered.

        Raises
        ------
        DependencyUnavailable
            Kafka ended or did not answer in time; the message quotes its log.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            if _is_listening(self.bootstrap):
                try:
                    AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=5)
                except KafkaException:
                    continue
                return
            time.sleep(0.02)
        code = self.process.poll()
        what = "did not answer in time" if code is None else ending(code)
        raise _failure(f"Kafka {what}", _text(self.log))

    def stop(self) -> None:
        """Shut down in order; the data stay, and `start` on the same directory goes on with them."""
        stop(self.process)
        self._close()

    def kill(self) -> None:
        """End at once, as a crash would (SIGKILL)."""
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        if self.own_group is not None:
            self.own_group.close()


def start(
    directory: Path,
    port: int = 0,
    *,
    log: Path | None = None,
    group: ProcessGroup | None = None,
    timeout_seconds: float = 60,
) -> RunningKafka:
    """Start Kafka on `directory` and return when it answers, about two seconds later.

    Parameters
    ----------
    directory, port, log, group
        As for `launch`.
    timeout_seconds
        How long to wait for the first answer.

    Raises
    ------
    ConfigError
        The port is taken, Java or Maven is missing, or the directory is damaged.
    DependencyUnavailable
        Kafka ended or did not answer in time; the message quotes its log.
    """
    running = launch(directory, port, log=log, group=group)
    try:
        running.wait_until_ready(timeout_seconds)
    except BaseException:
        running.kill()
        raise
    return running


def launch(
    directory: Path,
    port: int = 0,
    *,
    log: Path | None = None,
    group: ProcessGroup | None = None,
    properties: Mapping[str, str] | None = None,
) -> RunningKafka:
    """Start Kafka on `directory` and return at once.

    Parameters
    ----------
    directory
        Data and configuration of this broker; formatted on first use.
    port
        Of 127.0.0.1; 0 takes the one of the last start if it is free, else any free one.
    log
        File that gets what Kafka says; `directory`/kafka.log unless given.
    group
        Which the broker joins; without one, it gets its own. Either way it does not outlive this process.
    properties
        Of the broker, instead of those in infra/kafka/server.properties.

    Raises
    ------
    ConfigError
        The port is taken, Java or Maven is missing, or the directory is damaged.
    """
    directory = directory.resolve()
    log = log or directory / "kafka.log"
    java = [*_java(), "-cp", f"{jars.fetch()}/*"]
    if jars.has_class_archive():
        java.append(f"-XX:SharedArchiveFile={jars.class_archive()}")
    bootstrap = _configure(directory, port, properties or {})
    _format(directory, java)
    members = group or ProcessGroup()
    process = members.spawn([*java, "kafka.Kafka", str(directory / "server.properties")], log=log)
    return RunningKafka(bootstrap, process, log, own_group=None if group else members)


def _java() -> list[str]:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None or not Path(java).exists():
        fix = "apt-get install openjdk-17-jre-headless"
        if home:
            fix = f"JAVA_HOME names {home}, which holds no bin/java: let it name one that does, or unset it"
        raise ConfigError(f"Java >= 17 is missing (Kafka runs on it): {fix}")
    return [java, *_JVM, f"-Dlog4j2.configurationFile={jars.broker_file('log4j2.properties')}"]


def choose_port(directory: Path, wanted: int = 0) -> int:
    """Return the port to start on: `wanted`, or with 0 the one of the last start or any free one.

    Raises
    ------
    ConfigError
        The wanted port is taken.
    """
    last = _last_ports(directory / "server.properties")
    return ports.choose(wanted, "Kafka", last[0] if last else None, "--kafka-port")


def _last_ports(properties: Path) -> tuple[int, int] | None:
    found = re.search(r"^listeners=\D+127.0.0.1:(\d+)\D+127.0.0.1:(\d+)$", _text(properties), re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def _configure(directory: Path, port: int, changes: Mapping[str, str]) -> str:
    """Write server.properties and return the bootstrap address."""
    properties = directory / "server.properties"
    port = choose_port(directory, port)
    last = _last_ports(properties)
    controller_port = ports.choose(0, "Kafka's controller", last[1] if last else None)
    template = Template(jars.broker_file("server.properties").read_text())
    directory.mkdir(parents=True, exist_ok=True)
    written = template.substitute(port=port, controller_port=controller_port, data=directory / "data")
    # Of a property that is written twice, Java takes the last.
    properties.write_text(written + "".join(f"{name}={value}\n" for name, value in changes.items()))
    return f"127.0.0.1:{port}"


def _format(directory: Path, java: list[str]) -> None:
    data = directory / "data"
    is_formatted = (data / "meta.properties").exists()
    partitions = {path.name for path in data.glob("*-[0-9]*")}
    if partitions and not (is_formatted and _METADATA in partitions):
        raise ConfigError(
            f"{data} is half deleted (it holds partitions without Kafka's own metadata): restore it, "
            "or delete the whole data directory to start empty"
        )
    if is_formatted:
        return
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    format_storage = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
    # An id may begin with a dash: `--cluster-id=` keeps it from being read as an option.
    format_storage += [f"--cluster-id={cluster_id}", "-c", str(directory / "server.properties")]
    result = subprocess.run(
        [*java, *format_storage],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise _failure(f"Kafka could not format {data}", result.stdout)
    if not jars.has_class_archive():
        # Formatting loads much of what a broker does, and ends by itself.
        _keep_classes(java, format_storage)


def _keep_classes(java: list[str], command: list[str]) -> None:
    """Keep what a command loads for later starts; a Java that cannot do so only starts slower."""
    unfinished = jars.class_archive().with_suffix(f".{os.getpid()}")
    try:
        result = subprocess.run(
            [*java, f"-XX:ArchiveClassesAtExit={unfinished}", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_KEEPING_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return
    if result.returncode == 0 and unfinished.exists():
        unfinished.replace(jars.class_archive())


def _is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _failure(what: str, said: str) -> ConfigError | DependencyUnavailable:
    if "UnsupportedClassVersionError" in said:
        return ConfigError("Java is older than 17 (Kafka needs it): apt-get install openjdk-17-jre-headless")
    return DependencyUnavailable(f"{what}: {_complaint(said)}")


def _complaint(said: str) -> str:
    complaints = [line.strip() for line in said.splitlines() if re.search("ERROR|FATAL|Exception", line)]
    return complaints[-1] if complaints else "its log names no error"


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
