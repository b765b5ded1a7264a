"""How long and how large a value may be: one list, by which `emit`, `rollout apply` and the stream refuse."""

import re

from tidegate.errors import ContractError
from tidegate.records import Rollout, RolloutAction
from tidegate.series import DIMENSIONS

LONGEST_NAME_BYTES = 256
"""Of what becomes part of a series, in UTF-8."""

ROUTED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a rollout may name: it fits into a topic's key and a URL."""

ROUTED_RULE = "use up to 128 letters, digits, dots, dashes and underscores, beginning with a letter or digit"

LONGEST_US = 10**12
"""Longest duration, about eleven days. Bounds keep sums of squares exact."""

LATEST_US = 10**16
"""In the year 2286; a time above it is most likely in nanoseconds."""

MOST = 10**9
"""Most tokens or characters of a call, and the largest value of a rating."""

LEAST_SHARE = 1e-6
"""Least share of events that a sampler may keep."""

THUMBS = (0, 1)
"""Down and up."""

NAMES: dict[str, tuple[str, ...]] = {
    "LLMCall": tuple(name for name in DIMENSIONS if name != "traffic"),
    "Series": tuple(name for name in DIMENSIONS if name not in ("tenant", "traffic")),
    "Feedback": ("tenant", "name"),
    "Evaluation": ("tenant", "name"),
}
"""Record -> its fields that are names, and no longer than `LONGEST_NAME_BYTES`."""

DURATIONS: dict[str, tuple[str, ...]] = {
    "LLMCall": ("ttft_us", "queue_us", "gateway_us"),
    "Retrieval": ("duration_us",),
}
"""Record -> its fields that are no longer than `LONGEST_US`."""

COUNTS: dict[str, tuple[str, ...]] = {
    "LLMCall": (
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "reasoning_tokens",
        "input_chars",
        "output_chars",
    ),
}
"""Record -> its fields that are no larger than `MOST`."""

VALUES: dict[str, tuple[str, ...]] = {"Feedback": ("value",), "Evaluation": ("value",)}
"""Record -> its fields that lie within `MOST` of zero."""

LARGEST_CONTROL_BYTES = 256 << 10
"""Most bytes of a specification or an action: parts of it come again in all that is decided from it."""

MOST_METRICS = 100
"""Most metrics of a rollout, over its candidates: each command says of every one of them what was found."""


def check_control(control: Rollout | RolloutAction, size: int) -> None:
    """See that what is decided from a specification or an action will fit a message.

    Parameters
    ----------
    control
        The record.
    size
        Bytes that it has as a message.

    Raises
    ------
    ContractError
        With reason ``too_large``.
    """
    what = "specification" if isinstance(control, Rollout) else "action"
    if size > LARGEST_CONTROL_BYTES:
        raise ContractError(
            "too_large", f"the {what} has {size:,} bytes, at most {LARGEST_CONTROL_BYTES:,}: shorten it"
        )
    if not isinstance(control, Rollout):
        return
    metrics = len(control.metrics)
    tried = max(sum(variant.role == "candidate" for variant in control.variants), 1)
    if metrics * tried > MOST_METRICS:
        each = f" of each of {tried} candidates" if tried > 1 else ""
        raise ContractError(
            "too_large",
            f"{metrics} metrics{each}, at most {MOST_METRICS // tried}: keep those that decide",
        )
