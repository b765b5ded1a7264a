"""Places where a test may kill a process: between any two effects."""

import os
import signal
from pathlib import Path

_AT = os.environ.get("TIDEGATE_CRASH_AT")
_ONCE = os.environ.get("TIDEGATE_CRASH_ONCE")


def crashpoint(name: str) -> None:
    """Kill this process with SIGKILL when ``TIDEGATE_CRASH_AT`` names this point; otherwise one comparison.

    ``TIDEGATE_CRASH_ONCE`` names a file that is made by the first crash; while it exists nothing crashes, so
    that the restarted process gets past the point.

    Parameters
    ----------
    name
        ``process.moment``, such as ``aggregate.after_claim``.
    """
    if name == _AT and (_ONCE is None or _is_first(Path(_ONCE))):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_first(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
