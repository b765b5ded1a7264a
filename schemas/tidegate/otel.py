"""How OpenTelemetry's GenAI attributes become fields of a call.

Pinned to commit ``e8fc5751506258db1459d1bde47994e01dee922e`` of open-telemetry/semantic-conventions-genai
(``model/gen-ai/registry.yaml``); the names of services, users, features and HTTP come from
open-telemetry/semantic-conventions. Later names of the same attribute are accepted beside it.
"""

from collections.abc import Callable
from typing import Any

COMMIT = "e8fc5751506258db1459d1bde47994e01dee922e"


def _as_is(value: Any) -> Any:
    return value


def _seconds_to_us(value: float) -> int:
    return round(value * 1_000_000)


def _count_to_attempt(value: int) -> int:
    return value + 1


def _our_revision(value: Any) -> int | None:
    """Flags of others have versions of any kind; ours are numbers."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else None


ATTRIBUTES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "service.name": ("app", _as_is),
    "service.version": ("app_version", _as_is),
    "deployment.environment.name": ("environment", _as_is),
    "session.id": ("session_id", _as_is),
    "gen_ai.conversation.id": ("session_id", _as_is),
    "user.hash": ("user_hash", _as_is),
    "feature_flag.key": ("deployment", _as_is),
    "feature_flag.result.variant": ("variant", _as_is),
    "feature_flag.result.reason": ("assignment_reason", _as_is),
    "feature_flag.version": ("assignment_revision", _our_revision),
    "gen_ai.operation.name": ("operation", _as_is),
    "gen_ai.provider.name": ("provider", _as_is),
    "gen_ai.request.model": ("request_model", _as_is),
    "gen_ai.request.stream": ("stream", _as_is),
    "gen_ai.request.temperature": ("temperature", _as_is),
    "gen_ai.request.max_tokens": ("max_tokens", _as_is),
    "gen_ai.request.reasoning.level": ("reasoning_level", _as_is),
    "gen_ai.response.model": ("response_model", _as_is),
    "gen_ai.response.id": ("response_id", _as_is),
    "gen_ai.response.time_to_first_chunk": ("ttft_us", _seconds_to_us),
    "gen_ai.response.finish_reasons": ("finish_reasons", list),
    "gen_ai.usage.input_tokens": ("input_tokens", _as_is),
    "gen_ai.usage.output_tokens": ("output_tokens", _as_is),
    "gen_ai.usage.cache_read.input_tokens": ("cache_read_tokens", _as_is),
    "gen_ai.usage.cache_creation.input_tokens": ("cache_write_tokens", _as_is),
    "gen_ai.usage.cache_write.input_tokens": ("cache_write_tokens", _as_is),
    "gen_ai.usage.reasoning.output_tokens": ("reasoning_tokens", _as_is),
    "gen_ai.prompt.name": ("prompt_name", _as_is),
    "gen_ai.prompt.version": ("prompt_version", _as_is),
    "gen_ai.agent.name": ("agent_name", _as_is),
    "gen_ai.agent.version": ("agent_version", _as_is),
    "gen_ai.workflow.name": ("workflow", _as_is),
    "server.address": ("server_address", _as_is),
    "openai.response.service_tier": ("service_tier", _as_is),
    "error.type": ("error_type", _as_is),
    "http.response.status_code": ("http_status", _as_is),
    "http.request.resend_count": ("attempt", _count_to_attempt),
}
"""Attribute -> field of `tidegate.records.LLMCall` and the conversion of its value.

Where two attributes name one field, the later row wins: a conversation goes before a session.
"""


def fields_from_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a call that a span's attributes give.

    Parameters
    ----------
    attributes
        Attributes of a span, by OpenTelemetry's names. Others are ignored.

    Returns
    -------
    dict
        Field -> value in the contract's unit; absent attributes leave their field out.

    Examples
    --------
    >>> fields_from_attributes({"gen_ai.request.model": "o3", "gen_ai.response.time_to_first_chunk": 0.5})
    {'request_model': 'o3', 'ttft_us': 500000}
    """
    return {
        field: convert(attributes[name])
        for name, (field, convert) in ATTRIBUTES.items()
        if attributes.get(name) is not None
    }
