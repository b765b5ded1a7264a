"""Child processes that never outlive their parent, however it ends."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

# Waits for the end of its input, which comes when the last holder of the pipe is gone, then kills its own
# group. Only SIGKILL can end it earlier, once it has said that it is on guard.
_GUARDIAN = 'trap "" TERM INT HUP; echo; exec >/dev/null; read _; kill -KILL 0'


class ProcessGroup:
    """A process group whose members are killed when this process ends, even by SIGKILL.

    The first member is a guardian: a shell that reads from a pipe whose other end only this process holds.
    The kernel closes that end whatever ends this process, and the guardian then kills the group. A child
    joins the group before it runs its program, so there is no moment in which it could be missed. Being in a
    group of their own, the children do not receive the terminal's Ctrl-C: their parent stops them in order.

    Examples
    --------
    >>> with ProcessGroup() as group:
    ...     sleeper = group.spawn(["sleep", "60"])
    >>> sleeper.wait()
    -9
    """

    def __init__(self) -> None:
        self._guardian = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        if self._guardian.stdout is not None:
            self._guardian.stdout.readline()
            self._guardian.stdout.close()
        self._members: list[subprocess.Popen[bytes]] = []

    @property
    def is_guarded(self) -> bool:
        """Whether the guardian lives; without it, end this process rather than leave orphans later."""
        return self._guardian.poll() is None

    def spawn(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start `command` in the group; what it prints is appended to the file `log`."""
        if log is None:
            return self._spawn(command, subprocess.DEVNULL, env)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return self._spawn(command, output.fileno(), env)

    def _spawn(
        self, command: Sequence[str], output: int, env: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes]:
        member = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            process_group=self._guardian.pid,
        )
        self._members = [*(other for other in self._members if other.poll() is None), member]
        return member

    def close(self) -> None:
        """Kill what is left of the group."""
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
        self._guardian.wait()
        if any(member.poll() is None for member in self._members):
            # A guardian that was killed itself guards nothing. The group is there while a member is.
            with suppress(ProcessLookupError):
                os.killpg(self._guardian.pid, signal.SIGKILL)
        for member in self._members:
            member.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ending(returncode: int) -> str:
    """Say how a process ended, as in ``store {ending}``."""
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with {returncode}"


def stop(process: subprocess.Popen[bytes], timeout_seconds: float = 10) -> None:
    """Ask a process to end (SIGTERM); kill it when it has not within `timeout_seconds`."""
    process.terminate()
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
