"""Typed records, one for each Avro schema in `tidegate/avro`, with the same names.

What each field means, and its unit, stands in the schema: `tidegate schema explain LLMCall`.
Times are microseconds since the epoch, UTC; `None` is unknown, never zero. Fields that the client
fills in (`event_id`, `tenant`, `app`, ...) are empty by default here and required on the wire.
"""

from tidegate.records.alert import Alert, KeyValue
from tidegate.records.call import Attribute, Content, Guardrail, LLMCall, Retrieval, Routing, UsageOther
from tidegate.records.deployment import (
    DeploymentCommand,
    DeploymentStatus,
    Evidence,
    Exposure,
    RolloutProgress,
    SourceOffset,
    Weight,
)
from tidegate.records.drift import DriftCarrier, DriftEvent, DriftOpinion
from tidegate.records.evaluation import Evaluation
from tidegate.records.feedback import Feedback, Series
from tidegate.records.journal import (
    EndOfStream,
    Frame,
    Heartbeat,
    JournalAction,
    JournalRollout,
    PartialBatch,
    SourceProgress,
)
from tidegate.records.model import MetricValue, Model
from tidegate.records.price import PriceTable
from tidegate.records.producer import DroppedCount, ProducerReport, SeqRange
from tidegate.records.prompt import Prompt
from tidegate.records.rollout import (
    DecisionMetric,
    Filter,
    Freeze,
    Rollout,
    RolloutAction,
    Step,
    StepOverride,
    Variant,
)
from tidegate.records.silence import Silence
from tidegate.records.window import (
    Distribution,
    ErrorTypeCount,
    EvaluationCount,
    FeedbackCount,
    GuardrailCount,
    WindowMetrics,
    WindowMetricsBatch,
)

RECORDS: dict[str, type] = {
    "call": LLMCall,
    "feedback": Feedback,
    "evaluation": Evaluation,
    "rollout": Rollout,
    "rollout_action": RolloutAction,
    "deployment_command": DeploymentCommand,
    "deployment_status": DeploymentStatus,
    "rollout_progress": RolloutProgress,
    "producer_report": ProducerReport,
    "partial_batch": PartialBatch,
    "heartbeat": Heartbeat,
    "end_of_stream": EndOfStream,
    "journal_rollout": JournalRollout,
    "journal_action": JournalAction,
    "window_metrics_batch": WindowMetricsBatch,
    "window_metrics": WindowMetrics,
    "price_table": PriceTable,
    "drift_event": DriftEvent,
    "alert": Alert,
    "silence": Silence,
    "prompt": Prompt,
    "model": Model,
}
"""Subject of the schema history -> record."""

__all__ = [
    "RECORDS",
    "Alert",
    "Attribute",
    "Content",
    "DecisionMetric",
    "DeploymentCommand",
    "DeploymentStatus",
    "Distribution",
    "DriftCarrier",
    "DriftEvent",
    "DriftOpinion",
    "DroppedCount",
    "EndOfStream",
    "ErrorTypeCount",
    "Evaluation",
    "EvaluationCount",
    "Evidence",
    "Exposure",
    "Feedback",
    "FeedbackCount",
    "Filter",
    "Frame",
    "Freeze",
    "Guardrail",
    "GuardrailCount",
    "Heartbeat",
    "JournalAction",
    "JournalRollout",
    "KeyValue",
    "LLMCall",
    "MetricValue",
    "Model",
    "PartialBatch",
    "PriceTable",
    "ProducerReport",
    "Prompt",
    "Retrieval",
    "Rollout",
    "RolloutAction",
    "RolloutProgress",
    "Routing",
    "SeqRange",
    "Series",
    "Silence",
    "SourceOffset",
    "SourceProgress",
    "Step",
    "StepOverride",
    "UsageOther",
    "Variant",
    "Weight",
    "WindowMetrics",
    "WindowMetricsBatch",
]
