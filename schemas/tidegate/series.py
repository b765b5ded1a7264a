"""What calls are grouped by, and which of them may decide."""

from typing import Any

import xxhash

DIMENSIONS = (
    "tenant",
    "environment",
    "app",
    "deployment",
    "variant",
    "operation",
    "provider",
    "request_model",
    "prompt_name",
    "prompt_version",
    "traffic",
)
"""The finest series: exactly one a call. Never a user, a session, a trace, a tag or an attribute."""

ROLLUPS: dict[str, tuple[str, ...]] = {
    "release": ("tenant", "environment", "deployment", "variant", "traffic"),
    "app": ("tenant", "environment", "app", "traffic"),
    "model": ("tenant", "environment", "app", "provider", "request_model", "traffic"),
    "prompt": ("tenant", "environment", "app", "prompt_name", "prompt_version", "traffic"),
    "tenant": ("tenant", "traffic"),
}
"""Sums of series that are emitted: roll-up -> the dimensions that it keeps. Decisions read `release`.

Traffic stays a dimension of every roll-up, so that quality and latency can be read from live traffic and
cost from all of it.
"""

FILTERED = ("app", "operation")
"""Dimensions by which a rollout may choose the calls that decide: those that are settled before a variant is
assigned. What a variant brings about itself (its model, its prompt, a fallback to another provider) would
compare a part of one with another part of the other; the deployment is the rollout's own."""

ROLLED_UP = "*"
"""Value of a dimension that a roll-up does not keep."""

OVERFLOW = "__overflow__"
"""Value of every dimension but the tenant, for what comes above the cap on live series."""


def comparable(traffic: Any, assignment_reason: Any, attempt: Any, cache_hit: Any, head_sampled: Any) -> Any:
    """Say which calls may decide: only those that a variant's own behaviour explains.

    One rule for plain values and for Polars expressions, which share the operators.

    Parameters
    ----------
    traffic, assignment_reason
        Fields of a call; an absent reason is the empty string.
    attempt, cache_hit, head_sampled
        Fields of a call.

    Returns
    -------
    bool or expression
        False for shadow traffic, targeted or default assignments, retries, answers from a cache, and
        calls that were kept only because they failed.
    """
    return (
        (traffic == "live")
        & (assignment_reason != "targeting_match")
        & (assignment_reason != "default")
        & (attempt == 1)
        & (cache_hit == False)  # noqa: E712 - expressions have no `not`
        & (head_sampled == True)  # noqa: E712
    )


def deployment_key(tenant: str, environment: str, deployment: str) -> str:
    """Return the Kafka key of rollouts, commands, actions and status.

    The deployment's name alone would let staging overwrite production.
    """
    return f"{tenant}/{environment}/{deployment}"


def specification_id(spec_hash: str, generation: int) -> str:
    """Return what an answer to a specification is about, so that none to its predecessor is taken for it."""
    return f"{spec_hash}.{generation}"


def shard_partition(shard: str, partitions: int) -> int:
    """Return the journal partition of a shard: everything compared or rolled up together is in one order."""
    return xxhash.xxh64_intdigest(shard.encode()) % partitions
