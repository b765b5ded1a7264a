"""Tidegate: release control for LLM applications. The contract, and the client that speaks it.

::

    import tidegate

    tidegate.configure(app="support", environment="prod", kafka="localhost:9092")
    router = tidegate.Router("support-bot", default="stable")

    release = router.assign(user_id)
    with tidegate.call(release, provider="openai", request_model="gpt-4o") as c:
        ...
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from tidegate.assignment import Assignment
    from tidegate.client.current import configure, emit, flush, handle, shutdown
    from tidegate.client.timing import call
    from tidegate.errors import ConfigError, TidegateError
    from tidegate.records import Content, Evaluation, Feedback, Guardrail, LLMCall, Retrieval
    from tidegate.router import Router

__all__ = [
    "Assignment",
    "ConfigError",
    "Content",
    "Evaluation",
    "Feedback",
    "Guardrail",
    "LLMCall",
    "Retrieval",
    "Router",
    "TidegateError",
    "call",
    "configure",
    "emit",
    "flush",
    "handle",
    "shutdown",
]

_HOMES = {
    "assignment": ("Assignment",),
    "client.current": ("configure", "emit", "flush", "handle", "shutdown"),
    "client.timing": ("call",),
    "errors": ("ConfigError", "TidegateError"),
    "records": ("Content", "Evaluation", "Feedback", "Guardrail", "LLMCall", "Retrieval"),
    "router": ("Router",),
}


if not typing.TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import the client at its first use, all of it: who reads the contract alone starts without."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for home, names in _HOMES.items():
            module = importlib.import_module(f"{__name__}.{home}")
            globals().update({each: getattr(module, each) for each in names})
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
