"""Reading ahead: the next pieces of a source are parsed and checked while the last one is added up."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tidegate_streams.backtest.pieces import Piece

_THREADS = 2
"""Parsing takes up to twice as long as adding up, and neither holds the interpreter for long."""

Part = Callable[[], list[Piece]]
"""Reads one part of a source."""


def read(parts: Iterator[Part]) -> Iterator[Piece]:
    """Yield the pieces of all parts in their order; at most three parts are in memory.

    Parameters
    ----------
    parts
        What has to be done for each part. What one raises is raised here, in its place.
    """
    with ThreadPoolExecutor(_THREADS, "backtest") as pool:
        due: deque[Future[list[Piece]]] = deque()
        for part in parts:
            due.append(pool.submit(part))
            if len(due) > _THREADS:
                yield from due.popleft().result()
        while due:
            yield from due.popleft().result()
