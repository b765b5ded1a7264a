"""A stack seen from outside: started in the background, and stopped from another terminal."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tidegate.errors import ConfigError, DependencyUnavailable, Refused
from tidegate_infra.stack.directory import DataDirectory

_POLL_SECONDS = 0.1


def up_detached(
    command: Sequence[str], data_dir: Path, timeout_seconds: float = 150
) -> subprocess.Popen[bytes]:
    """Run a supervisor in a session of its own and return it when its stack is ready.

    Parameters
    ----------
    command
        Starts the stack in the foreground, in `data_dir`.
    data_dir
        What the supervisor says goes to logs/supervisor.log in it.
    timeout_seconds
        How long the stack may take; Maven may have to fetch Kafka first.

    Raises
    ------
    Refused
        A stack already runs there.
    ConfigError
        The directory cannot be written.
    DependencyUnavailable
        The supervisor ended, or was not ready in time; the message quotes its last words.
    """
    directory = DataDirectory(data_dir)
    if (holder := directory.holder()) is not None:
        raise Refused(
            f"a stack already runs in {directory.path} (process {holder}): "
            f"`tidegate down --data-dir {directory.path}` stops it"
        )
    log = directory.path / "logs" / "supervisor.log"
    with directory.open(log, "wb") as output:
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_until_ready(supervisor, directory, log, timeout_seconds)
    except BaseException:
        supervisor.terminate()
        raise
    return supervisor


def down(data_dir: Path, timeout_seconds: float = 40) -> bool:
    """Stop the stack that runs in `data_dir`; return whether one did.

    A stack.json that a killed supervisor left behind is removed. The process to stop is the one that holds
    the directory's lock, which no other process can be, whatever its id.

    Raises
    ------
    DependencyUnavailable
        It has not ended in time, although it was killed.
    """
    directory = DataDirectory(data_dir)
    if (pid := directory.holder()) is None:
        if directory.stack_file.exists():
            directory.stack_file.unlink()
        return False
    for number, patience_seconds in ((signal.SIGTERM, timeout_seconds), (signal.SIGKILL, 5.0)):
        if directory.holder() == pid:
            os.kill(pid, number)
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            if directory.holder() is None:
                directory.stack_file.unlink(missing_ok=True)
                return True
            time.sleep(_POLL_SECONDS)
    raise DependencyUnavailable(f"process {pid} does not end: see {directory.path / 'logs'}")


def _wait_until_ready(
    supervisor: subprocess.Popen[bytes], directory: DataDirectory, log: Path, timeout_seconds: float
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while supervisor.poll() is None:
        content = directory.read()
        if content is not None and content["pid"] == supervisor.pid and content["ready"]:
            return
        if time.monotonic() > deadline:
            raise DependencyUnavailable(f"the stack is not ready after {timeout_seconds:.0f} s; see {log}")
        time.sleep(_POLL_SECONDS)
    said = log.read_text(errors="replace").strip().splitlines()
    kind = {error.exit_code: error for error in (ConfigError, Refused)}.get(
        supervisor.returncode, DependencyUnavailable
    )
    raise kind(
        said[-1].removeprefix("tidegate: ")
        if said
        else f"the supervisor ended with {supervisor.returncode}; see {log}"
    )
