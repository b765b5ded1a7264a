"""When this process may fork: not while a Kafka client is made or connects for the first time.

A fork in such a moment leaves the child with locks that nobody will ever let go: librdkafka's own, or
glibc's in `getaddrinfo()` while a broker's address is looked up. The child's own client could then never
send.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CONNECTING_SECONDS = 0.2

_making = threading.Lock()
_made_at = -_CONNECTING_SECONDS


@contextmanager
def no_fork() -> Iterator[None]:
    """Let a fork wait until what is made here exists and has had time to connect."""
    global _made_at
    with _making:
        yield
        _made_at = time.monotonic()


def _wait() -> None:
    _making.acquire()
    time.sleep(max(0.0, _made_at + _CONNECTING_SECONDS - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait, after_in_parent=_making.release, after_in_child=_making.release)
