"""Tidegate: release control for LLM applications. The contract, and the client that speaks it.

::

    import tidegate

    tidegate.configure(app="support", environment="prod", kafka="localhost:9092")
    router = tidegate.Router("support-bot", default="stable")

    release = router.assign(user_id)
    with tidegate.call(release, provider="openai", request_model="gpt-4o") as c:
        ...
"""

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
