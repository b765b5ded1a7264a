"""Every alert that we fire, through every kind of receivers that checks what its owner publishes."""

import asyncio
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.consumers.receivers import ROUTING_KEY, RULES, SECRET, Strict

from tidegate.records import Alert
from tidegate_consumers.notify import unreachable
from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.delivery import Endpoint
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.sink import unbalanced
from tidegate_infra.kafka import losses
from tidegate_infra.kafka.log import Log, RetentionLoss
from tidegate_infra.ledger import LedgerRow

NOW_US = 1_760_000_000_000_000


def shipped(alert: Any) -> list[Alert]:
    """What consumers and processes make of their findings; stage 2's look the same but for their words."""
    log = Log(topic="llm.calls", topic_id="id", partition=3, low=900, high=1_000)
    missing = LedgerRow(
        **dict.fromkeys(LedgerRow.__dataclass_fields__, 0)
        | {"tenant": "acme", "app": "chat", "producer_id": "p", "hour": datetime(2026, 3, 1, tzinfo=UTC)}
        | {"missing": 7, "final": False, "dead_lettered": {}, "refused": {}}
    )
    [ledger] = unbalanced.changes([missing], {}, datetime(2026, 3, 1, 2, tzinfo=UTC))
    stage_2 = (
        *("rollout_held", "rollout_rolled_back", "rollout_promoted", "rollout_state_lost"),
        *("rollout_split_uneven", "series_overflow", "command_conflict"),
    )
    return [
        losses.alert("sink", RetentionLoss(log, 700, "sink"), NOW_US),
        ledger,
        unreachable.failing("team", "answered 403", sequence=0, now_us=NOW_US),
        *(alert(rule=rule, fingerprint=f"{i:016x}") for i, rule in enumerate(stage_2)),
    ]


@pytest.mark.parametrize("kind", RULES)
def test_what_we_fire_is_taken_when_it_fires_and_when_it_is_over(alert: Any, kind: str) -> None:
    async def tell(endpoint: Endpoint, told: Alert) -> str:
        return (await endpoint.tell(Parcel(records=(told,)))).words

    alerts = shipped(alert)
    secret = SECRET if kind == "webhook" else ROUTING_KEY
    with closing(Strict(kind)) as receiver:
        endpoint = Endpoint(Channel(name="x", kind=kind, url=receiver.url, secrets=(secret,), own=True))
        for fired in alerts:
            over = replace(fired, status="resolved", sequence=fired.sequence + 1, ends_at=fired.ts + 1)
            for told in (fired, over):
                words = asyncio.run(tell(endpoint, told))
                assert words == f"answered {RULES[kind][1]}", receiver.refused
    assert len(receiver.taken) == 2 * len(alerts)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("pagerduty", {"secrets": ("short",)}), ("webhook", {"secrets": ("whsec_" + "B" * 32,)})],
)
def test_what_a_receiver_refuses_is_not_taken_for_delivered(alert: Any, kind: str, wrong: Any) -> None:
    with closing(Strict(kind)) as receiver:
        plain = Channel(name="x", kind=kind, url=receiver.url, secrets=(SECRET,), own=True)
        outcome = asyncio.run(Endpoint(replace(plain, **wrong)).tell(Parcel(records=(alert(),))))
    assert (outcome.kind, outcome.words) == ("failed", "answered 400")
    assert receiver.refused
