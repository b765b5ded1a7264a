"""Times a call: ``with tidegate.call(provider="openai", request_model="gpt-4o") as c``."""

import dataclasses
from types import TracebackType
from typing import Any, Self

from tidegate.assignment import Assignment
from tidegate.client.clock import SYSTEM, Clock
from tidegate.client.completion import new_event_id
from tidegate.client.current import current, handle
from tidegate.client.rules import Problem
from tidegate.records import LLMCall

_FIELDS = frozenset(f.name for f in dataclasses.fields(LLMCall))
_BEFOREHAND = {"operation": "chat", "provider": "", "request_model": "", "status": "ok"}
_RATE_LIMITED = 429


class Call:
    """A call that is being made; `tidegate.call` makes one, and it is emitted when the block ends.

    Parameters
    ----------
    fields
        Fields of the `LLMCall`.
    assignment
        What a `Router` said, if it was asked.
    clock
        The machine's clocks unless given.
    """

    def __init__(self, fields: dict[str, Any], assignment: Assignment | None, clock: Clock = SYSTEM) -> None:
        self._unknown = fields.keys() - _FIELDS
        known = {name: fields[name] for name in fields.keys() & _FIELDS} if self._unknown else fields
        self.record = LLMCall(**(_BEFOREHAND | known | {"ts_start": 0, "ts_end": 0}))
        if not self.record.event_id:
            self.record.event_id = new_event_id()
        if isinstance(assignment, Assignment):
            assignment.mark(self.record)
        self._assignment = assignment
        self._clock = clock
        self._started_us = 0

    @property
    def event_id(self) -> str:
        """Identity of the call, known before it is made."""
        return self.record.event_id

    @property
    def handle(self) -> str:
        """See `tidegate.handle`."""
        return handle(self.record)

    def first_chunk(self) -> None:
        """Note that content began to arrive; only the first time counts."""
        if self.record.ttft_us is None:
            self.record.ttft_us = self._clock.monotonic_us() - self._started_us
            self.record.stream = True

    def __enter__(self) -> Self:
        self._started_us = self._clock.monotonic_us()
        self.record.ts_start = self._clock.now_us()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A wall clock that is set back in the middle must not make a call negative.
        self.record.ts_end = self.record.ts_start + self._clock.monotonic_us() - self._started_us
        client = current()
        if error is not None:
            explain(self.record, error)
        if self._unknown:
            client.refuse(self.record, *map(_unknown, sorted(self._unknown)))
        else:
            client.emit(self.record, self._assignment)


def call(assignment: Assignment | None = None, **fields: Any) -> Call:
    """Time a call and emit it, whatever becomes of it; the app's own exception passes through untouched.

    Parameters
    ----------
    assignment
        What a `Router` said, for a call that it routed.
    fields
        Of the `LLMCall`: at least ``provider`` and ``request_model``; ``operation`` is ``chat`` unless
        given. More can be set on ``c.record`` in the block. A name that does not exist refuses the event,
        not the app's call.

    Examples
    --------
    ::

        with tidegate.call(provider="openai", request_model="gpt-4o") as c:
            answer = ask(question)
            c.record.output_tokens = answer.usage.completion_tokens
        page.rating_handle = c.handle
    """
    return Call(fields, assignment)


def explain(call: LLMCall, error: BaseException) -> None:
    """Say on a call how it failed, by the exception's class alone: messages of providers quote prompts."""
    cls = type(error)
    http_status = getattr(error, "status_code", None)
    if type(http_status) is int and call.http_status is None and 100 <= http_status <= 599:
        call.http_status = http_status
    if call.status == "ok":
        if not isinstance(error, Exception):  # asyncio's cancellation, an abandoned generator, Ctrl-C
            call.status = "cancelled"
        elif isinstance(error, TimeoutError) or "timeout" in cls.__name__.lower():
            call.status = "timeout"
        else:
            call.status = "rate_limited" if call.http_status == _RATE_LIMITED else "error"
    if call.error_type is None:
        package = cls.__module__.partition(".")[0]
        call.error_type = cls.__qualname__ if package == "builtins" else f"{package}.{cls.__qualname__}"


def _unknown(name: str) -> Problem:
    return Problem(name, "unknown_field", "no such field", name, _FIELDS)
