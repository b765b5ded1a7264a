"""A small disk that can be full: a file system of its own in memory."""

import functools
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_MIB = 256


@functools.cache
def can_be_mounted() -> bool:
    """Whether this user may mount, in a namespace that ends with the run: in a container root may not."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


class SmallDisk:
    """A tmpfs.

    Parameters
    ----------
    path
        Where it is mounted; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no room for anything."""
        while True:
            there = os.statvfs(self.path)
            used = (there.f_blocks - there.f_bfree) * there.f_frsize
            # What was written in between makes it fail, and it is measured again.
            if self._mount(f"remount,size={max(used, there.f_frsize)}").returncode == 0:
                return

    def free(self) -> None:
        """Give the room back."""
        self._mount(f"remount,size={_MIB}m").check_returncode()

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        self._mount(f"size={_MIB}m").check_returncode()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a copy of what stood there, where it stood."""
        kept = self.path.with_name(f"{self.path.name}.kept")
        shutil.copytree(self.path, kept, symlinks=True)
        subprocess.run(["umount", str(self.path)], check=True)
        self.path.rmdir()
        kept.rename(self.path)

    def _mount(self, options: str) -> subprocess.CompletedProcess[bytes]:
        command = ["mount", "-t", "tmpfs", "-o", options, "tidegate-faults", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False)
