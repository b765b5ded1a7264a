"""Records about a rollout that tests of commands write to the log."""

import dataclasses
import uuid
from typing import Any

from tidegate import codec
from tidegate.records import DeploymentCommand, Evidence, Exposure, RolloutProgress, Weight
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import Settings

KEY = "acme/prod/answers"


def progress(**changes: Any) -> RolloutProgress:
    present = RolloutProgress(
        tenant="acme",
        environment="prod",
        deployment="answers",
        rollout="june",
        generation=1,
        revision=3,
        state="progressing",
        step=1,
        steps=2,
        reason="Waiting for 50 more calls.",
        weights=[
            Weight(variant="march", role="baseline", weight_bp=5_000),
            Weight(variant="june", role="candidate", weight_bp=5_000),
        ],
        exposure=[Exposure(variant="june", calls=120, calls_step=20, units=7)],
        evidence=[
            Evidence(
                metric="error_rate",
                candidate="june",
                verdict="inconclusive",
                n_baseline=1_000,
                n_candidate=120,
                events_baseline=10,
                events_candidate=3,
                estimate=2.5,
                ci_low=0.5,
                ci_high=6.0,
                unit="1",
                log_e_rollback=2.0,
                log_e_promotion=800.0,
                margin_kind="odds",
                rollback_margin=1.1,
                promotion_margin=1.5,
                alpha_rollback=0.01,
                alpha_promotion=0.05,
                alpha_spent=0.002,
                sentence="Three of 120 failed.",
            )
        ],
        looks=12,
        version=40,
        partition=0,
    )
    return dataclasses.replace(present, **changes)


def publish(settings: Settings, topic: str, *records: Any, key: str = KEY) -> None:
    send(settings, [Outgoing(topic=topic, key=key, value=codec.encode(record)) for record in records])


def command(revision: int, **changes: Any) -> DeploymentCommand:
    made = DeploymentCommand(
        command_id=str(uuid.uuid5(uuid.NAMESPACE_OID, str(revision))),
        tenant="acme",
        environment="prod",
        deployment="answers",
        rollout="june",
        generation=1,
        revision=revision,
        action="advance",
        state="progressing",
        step=revision,
        assignment_unit="session",
        salt="s",
        weights=progress().weights,
        reason="Nothing is worse.",
        actor="controller",
        actor_kind="controller",
        ts=1_000_000 * revision,
    )
    return dataclasses.replace(made, **changes)
