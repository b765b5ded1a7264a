"""The data directory of a local stack: who runs in it, what must be in it, and what others may read."""

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tidegate.errors import ConfigError, Refused
from tidegate_infra.settings import STACK_FILE

# Each holds half of the truth (events here, rows and offsets there): one without the other loses or repeats.
PARTS = ("kafka", "store")


class DataDirectory:
    """A data directory; `with` it, this process alone runs a stack there.

    A lock of the operating system says whether a stack runs: it ends with its holder, however that ends, so
    neither a stale file nor a process id that was given out again can be taken for a running stack.

    Parameters
    ----------
    path
        Made when it is not there.
    demo
        Whether a demo is played there. It begins empty: what an earlier demo left is removed, since its calls
        and decisions would count with this one's. Data of anything else are never removed.
    """

    def __init__(self, path: Path, *, demo: bool = False) -> None:
        self.path = path.expanduser().absolute()
        self.stack_file = self.path / STACK_FILE
        self._demo = demo
        self._marker = self.path / "complete"
        self._demo_marker = self.path / "demo"
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        """Take the directory.

        Raises
        ------
        Refused
            A stack runs there, or a demo would stand among other data.
        ConfigError
            It cannot be written, or a part of it was deleted.
        """
        lock = self.open(self._lock_file, "a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise Refused(
                f"a stack already runs in {self.path}: stop it with `tidegate down --data-dir {self.path}`, "
                "or choose another --data-dir"
            ) from None
        self._lock = lock
        try:
            if self._demo:
                self._begin_demo()
            else:
                # From now on somebody's own, which the next demo must leave alone.
                self._demo_marker.unlink(missing_ok=True)
            self._check_parts()
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self.stack_file.unlink(missing_ok=True)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_ours:
            self.stack_file.unlink(missing_ok=True)
        self._release()

    def open(self, file: Path, mode: str) -> IO[Any]:
        """Open a file in it for writing, and make the directories above that file.

        Raises
        ------
        ConfigError
            It cannot be written.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return file.open(mode)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written ({error.strerror}): choose another --data-dir"
            ) from None

    @property
    def is_ours(self) -> bool:
        """Whether this process has it, and nobody deleted it since."""
        if self._lock is None:
            return False
        try:
            return self._lock_file.stat().st_ino == os.fstat(self._lock.fileno()).st_ino
        except FileNotFoundError:
            return False

    def holder(self) -> int | None:
        """Process id of the supervisor that runs a stack here; None when none does."""
        try:
            lock = self._lock_file.open()
        except (FileNotFoundError, NotADirectoryError):
            return None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
        return None

    def mark_complete(self) -> None:
        """Note that every part is there, so that one which is missing later was deleted."""
        self._marker.touch()

    def write(self, content: dict[str, Any]) -> None:
        """Replace stack.json, at once for every reader."""
        new = self.stack_file.with_suffix(".new")
        new.write_text(json.dumps(content, indent=2) + "\n")
        new.replace(self.stack_file)

    def read(self) -> dict[str, Any] | None:
        """Content of stack.json; None when there is none."""
        try:
            content: dict[str, Any] = json.loads(self.stack_file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise ConfigError(
                f"{self.stack_file} is damaged ({error}): `tidegate down --data-dir {self.path}` removes it"
            ) from None
        return content

    @property
    def _lock_file(self) -> Path:
        return self.path / "stack.lock"

    def _begin_demo(self) -> None:
        parts = [self.path / part for part in PARTS if (self.path / part).exists()]
        if parts and not self._demo_marker.exists():
            raise Refused(
                f"{self.path} holds other data than a demo's, which a demo must not mix with its own: "
                f"choose another --data-dir, or delete {_names(parts)} in it"
            )
        self._demo_marker.touch()
        self._marker.unlink(missing_ok=True)
        for part in parts:
            shutil.rmtree(part)

    def _check_parts(self) -> None:
        parts = [self.path / part for part in PARTS]
        missing = [part for part in parts if not part.is_dir()]
        if missing and self._marker.exists():
            left = [self._marker, *(part for part in parts if part.is_dir())]
            raise ConfigError(
                f"{self.path} is half deleted ({_names(missing)} missing): restore it, or delete "
                f"{_names(left)} in it to start empty"
            )

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _names(paths: Sequence[Path]) -> str:
    return " and ".join(path.name for path in paths)
