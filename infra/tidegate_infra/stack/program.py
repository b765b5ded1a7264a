"""One of our own processes as a child: ``python -m tidegate_infra.process NAME``."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import DependencyUnavailable
from tidegate_infra.settings import PREFIX, Settings
from tidegate_infra.stack.group import ProcessGroup, ending, stop

# In a test these reach the child too, although they are no settings.
_PASSED_ON = ("TIDEGATE_CRASH_AT", "TIDEGATE_CRASH_ONCE")


@dataclass(frozen=True, slots=True)
class Program:
    """A running process of ours; its health is at 127.0.0.1:`health_port`."""

    name: str
    process: subprocess.Popen[bytes]
    health_port: int
    log: Path

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def health(self) -> tuple[bool, str]:
        """Whether it does its work, and in its own words why not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=2):
                return True, "ready"
        except urllib.error.HTTPError as refusal:
            with refusal:
                return False, refusal.read().decode().strip()
        except OSError:
            return False, "starting"

    def wait_until_ready(self, timeout_seconds: float = 60) -> None:
        """Return when the process does its work.

        Raises
        ------
        DependencyUnavailable
            It ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout_seconds
        words = "starting"
        while self.process.poll() is None and time.monotonic() < deadline:
            is_ready, words = self.health()
            if is_ready:
                return
            time.sleep(0.05)
        if self.process.poll() is not None:
            end = ending(self.process.returncode)
            raise DependencyUnavailable(f"{self.name} {end}: {self.last_words()}")
        raise DependencyUnavailable(f"{self.name} is not ready after {timeout_seconds:.0f} s: {words}")

    def last_words(self) -> str:
        """Last line of its log, and where the others are: a file may have many mistakes."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        said = next((line.strip() for line in reversed(lines) if line.strip()), None)
        return f"{said} (the last line of {self.log})" if said else "it said nothing"

    def stop(self, timeout_seconds: float = 10) -> None:
        """Ask it to finish (SIGTERM); kill it when it has not within `timeout_seconds`."""
        stop(self.process, timeout_seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.process.kill()
        self.process.wait()


def start(
    name: str, settings: Settings, *, group: ProcessGroup, log: Path, wait_seconds: float = 0
) -> Program:
    """Start a process of ours with exactly these settings, whatever variables stand in our own environment.

    Parameters
    ----------
    name
        As in ``tidegate run NAME``.
    settings
        Its settings; `health_port` must be a real port.
    group
        Which it joins: it does not outlive this process.
    log
        File to which its output is appended.
    wait_seconds
        How long its dependencies may be away when it starts.
    """
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(PREFIX) or key in _PASSED_ON
    }
    command = [sys.executable, "-m", "tidegate_infra.process", name, "--wait", str(wait_seconds)]
    process = group.spawn(command, log=log, env=environment | settings.environment())
    return Program(name, process, settings.health_port, log)
