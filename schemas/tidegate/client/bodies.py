"""What people wrote and models answered: off unless asked for, masked before it leaves the app."""

from tidegate.client.configuration import Mask
from tidegate.client.rules import Event
from tidegate.records import Content, Feedback, LLMCall

MASK_FAILED = "mask_failed"
"""Tag of an event whose bodies were dropped because the mask raised."""

MAX_ERROR_BYTES = 1_000

_EVENT_BYTES = 1_000
"""About what an event takes in memory on the wire without its bodies."""

_CONTENT = ("input", "output", "context")


def _places(event: Event) -> list[tuple[object, str]]:
    """Return where the event's bodies are: object and attribute."""
    if isinstance(event, LLMCall):
        return [(event.content, name) for name in _CONTENT] if event.content is not None else []
    if isinstance(event, Feedback):
        return [(event, "comment"), (event, "correction")]
    return [(event, "explanation")]


def _texts(event: Event) -> list[tuple[object, str, str]]:
    found = [(owner, name, getattr(owner, name)) for owner, name in _places(event)]
    return [(owner, name, text) for owner, name, text in found if text is not None]


def remove(event: Event) -> bool:
    """Remove every body; say whether there was one. A call keeps the size, and that something was cut."""
    texts = _texts(event)
    for owner, name, _ in texts:
        setattr(owner, name, None)
    if texts and isinstance(event, LLMCall) and event.content is not None:
        event.content.truncated = True
    return bool(texts)


def withhold(event: Event) -> None:
    """Remove every body and its traces: the app did not opt in."""
    if isinstance(event, LLMCall):
        event.content = None
    elif isinstance(event, Feedback):
        event.comment = event.correction = None
    else:
        event.explanation = None


def size_bytes(event: Event) -> int:
    """Return about how many bytes of memory the event holds."""
    if isinstance(event, LLMCall) and event.content is None:
        return _EVENT_BYTES
    return _EVENT_BYTES + sum(len(text) for _, _, text in _texts(event))


def measure(content: Content) -> None:
    """Fill in the size of the bodies as they came, unless the app said it."""
    if content.bytes == 0:
        texts = [getattr(content, name) or "" for name in _CONTENT]
        content.bytes = sum(len(text.encode(errors="replace")) for text in texts)


def mask(event: Event, hook: Mask, policy: str | None) -> None:
    """Run the app's mask over every body and over the error message.

    Raises
    ------
    Exception
        Whatever the hook raises; the caller then removes the bodies.
    """
    changed = 0
    for owner, name, text in _texts(event):
        masked = hook(text)
        if not isinstance(masked, str):
            raise TypeError(f"the mask returned {type(masked).__name__} where str belongs")
        changed += masked != text
        setattr(owner, name, masked)
    if isinstance(event, LLMCall):
        if event.error_message is not None:
            event.error_message = hook(event.error_message)
        if event.content is not None:
            event.content.masked_count += changed
            event.content.mask_policy = event.content.mask_policy or policy


def remove_unmasked(event: Event) -> None:
    """Remove the bodies of an event whose mask failed, and mark it."""
    remove(event)
    if isinstance(event, LLMCall):
        event.error_message = None
    event.tags = [*event.tags, MASK_FAILED]


def shorten_error(call: LLMCall) -> None:
    """Cut the error message to the 1 kB that the contract allows."""
    if call.error_message is not None and len(call.error_message) * 4 > MAX_ERROR_BYTES:
        cut = call.error_message.encode(errors="replace")[:MAX_ERROR_BYTES]
        call.error_message = cut.decode(errors="ignore")


def has_bodies(event: Event) -> bool:
    """Say whether there is anything to mask."""
    return bool(_texts(event)) or (isinstance(event, LLMCall) and event.error_message is not None)
