"""Catch events in tests, without Kafka."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tidegate.client import configuration
from tidegate.client.client import Client
from tidegate.client.current import install
from tidegate.client.transport import MemoryTransport
from tidegate.codec import decode
from tidegate.records import Evaluation, Feedback, LLMCall

_FLUSH_SECONDS = 5.0


class Capture:
    """What was emitted, as a reader of Kafka would see it: encoded and decoded again."""

    def __init__(self, client: Client, transport: MemoryTransport) -> None:
        self._client = client
        self._transport = transport

    @property
    def events(self) -> list[Any]:
        """Every event so far, in order."""
        if not self._client.flush(_FLUSH_SECONDS):
            raise TimeoutError(f"events were not encoded within {_FLUSH_SECONDS:.0f} s")
        records = [decode(sent.value) for sent in self._transport.sent]
        return [r for r in records if isinstance(r, (LLMCall, Feedback, Evaluation))]

    @property
    def calls(self) -> list[LLMCall]:
        """Every call so far."""
        return [r for r in self.events if isinstance(r, LLMCall)]

    @property
    def feedback(self) -> list[Feedback]:
        """Every rating so far."""
        return [r for r in self.events if isinstance(r, Feedback)]

    @property
    def evaluations(self) -> list[Evaluation]:
        """Every evaluation so far."""
        return [r for r in self.events if isinstance(r, Evaluation)]

    @property
    def dropped(self) -> dict[str, int]:
        """How many events were refused or dropped, by reason."""
        return self._client.counts.dropped


@contextmanager
def capture(**settings: Any) -> Iterator[Capture]:
    """Catch what is emitted in the block; the client before is back afterwards.

    Parameters
    ----------
    settings
        Those of `tidegate.configure`; app, environment and kafka need not be given.

    Examples
    --------
    >>> import tidegate
    >>> with capture() as events:
    ...     with tidegate.call(provider="openai", request_model="gpt-4o"):
    ...         pass
    >>> events.calls[0].status
    'ok'
    """
    given = {"app": "app", "environment": "test", "kafka": "memory:0"} | settings
    transport = MemoryTransport()
    client = Client(configuration.read(given, environ={}), make_transport=lambda: transport)
    previous = install(client)
    try:
        yield Capture(client, transport)
    finally:
        install(previous)
        client.shutdown(_FLUSH_SECONDS)
