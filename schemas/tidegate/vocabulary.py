"""The closed lists of the contract.

A value that is not in its list decodes as ``other`` and counts: its producer may be newer than its reader.
In the app that writes it, it is a slip, which `emit` refuses.
"""

OTHER = "other"

TRAFFIC = ("live", "shadow", "eval", "synthetic")
STATUS = ("ok", "error", "timeout", "cancelled", "rate_limited", "filtered")
OUTCOME = ("answered", "abstained", "refused", "empty")
ASSIGNMENT_REASON = ("split", "targeting_match", "static", "default")
ASSIGNMENT_UNIT = ("user", "session", "tenant", "request")
SOURCE = ("sdk", "litellm", "otel", "http", "cli", "replay")
FEEDBACK_KIND = ("thumbs", "stars", "score", "label", "comment", "correction", "implicit")
EVALUATION_KIND = ("judge", "assertion", "heuristic", "human", "guardrail", "pairwise", "custom")
EVALUATION_STATUS = ("ok", "error", "skipped")
GUARDRAIL_STAGE = ("input", "output", "tool", "retrieval")
GUARDRAIL_ACTION = ("none", "flag", "mask", "block", "error")

CLOSED: dict[str, dict[str, tuple[str, ...]]] = {
    "LLMCall": {
        "source": SOURCE,
        "traffic": TRAFFIC,
        "status": STATUS,
        "outcome": OUTCOME,
        "assignment_reason": ASSIGNMENT_REASON,
        "assignment_unit": ASSIGNMENT_UNIT,
    },
    "Feedback": {"source": SOURCE, "kind": FEEDBACK_KIND},
    "Evaluation": {"source": SOURCE, "kind": EVALUATION_KIND, "status": EVALUATION_STATUS},
    "Guardrail": {"stage": GUARDRAIL_STAGE, "action": GUARDRAIL_ACTION},
    "Series": {"traffic": TRAFFIC},
}
"""Record -> field -> the values that it may take."""
