"""What was done and what was found in a run, one JSON object a line."""

import json
import threading
import time
from pathlib import Path
from typing import Any


class History:
    """A file to which every thread of a run writes.

    Parameters
    ----------
    path
        Written anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._lock = threading.Lock()
        self._zero_s = time.monotonic()

    def note(self, what: str, **facts: Any) -> None:
        """Write what happened, with the seconds since the beginning of the run."""
        line = {"s": round(time.monotonic() - self._zero_s, 3), "what": what, **facts}
        with self._lock:
            self._file.write(json.dumps(line, default=str) + "\n")
            self._file.flush()


def add(path: Path, what: str, **facts: Any) -> None:
    """Add what was seen from outside to a history that nobody writes any more."""
    with path.open("a") as file:
        file.write(json.dumps({"what": what, **facts}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Read a run's history back."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
