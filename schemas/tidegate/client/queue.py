"""Events between the app's threads and the worker, bounded by number and by bytes."""

import threading
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BoundedQueue(Generic[Item]):
    """A queue that counts an event until it is settled, not until it is taken.

    So one bound covers what waits here and what waits in the Kafka client for an answer.

    Parameters
    ----------
    max_events
        How many events may be unsettled.
    max_bytes
        How many bytes, as estimated by the caller of `put`.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._items: SimpleQueue[Item] = SimpleQueue()
        # Re-entrant, because a signal handler or a finaliser may emit while its own thread is in `put`.
        self._lock = threading.RLock()
        self._events = 0
        self._bytes = 0

    @property
    def unsettled(self) -> int:
        """Events that were put and not settled."""
        return self._events

    def put(self, item: Item, size: int) -> bool:
        """Add an event of about `size` bytes; False when there is no room, without waiting for any."""
        with self._lock:
            # A single event may exceed the bytes when nothing else waits: else it could never be sent.
            if self._events >= self._max_events or (self._events and self._bytes + size > self._max_bytes):
                return False
            self._events += 1
            self._bytes += size
        self._items.put(item)
        return True

    def put_signal(self, item: Item) -> None:
        """Add something that is no event, behind the events that are there."""
        self._items.put(item)

    def settled(self, size: int) -> None:
        """Give back the room of one event."""
        with self._lock:
            self._events -= 1
            self._bytes -= size

    def get(self, timeout_seconds: float) -> Item | None:
        """Take the oldest item; None when none came in time. 0 does not wait."""
        try:
            return self._items.get(block=timeout_seconds > 0, timeout=timeout_seconds or None)
        except Empty:
            return None
