"""What a resolver sends after it stood still, or while the store answers in part: no store is asked here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.infra.claiming import Between
from tests.streams.shell import ago
from tests.streams.test_resolve_process import call, send, thumb, until
from uuid_utils import uuid7

from tidegate.client.handle import series_of
from tidegate.errors import DependencyUnavailable
from tidegate.records import Evaluation, LLMCall
from tidegate.topics import EVALUATIONS, FEEDBACK
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.settled import Settled
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_streams.resolve import process
from tidegate_streams.resolve.process import Resolver
from tidegate_streams.resolve.ratings import Answer

pytestmark = pytest.mark.usefixtures("topics")


class Knowing:
    """It knows some calls and all copies in the log, and may refuse to say anything of a topic's ratings."""

    def __init__(self, settings: Settings, calls: list[LLMCall], *, refuses: str = "") -> None:
        self._settings, self._refuses = settings, refuses
        self._series = {(one.tenant, one.event_id): series_of(one) for one in calls}

    def ask(self, topic: str, ratings: Any, *, everywhere: bool) -> Answer:
        if topic == self._refuses:
            raise DependencyUnavailable("not about these")
        return Answer(self._series, {(one.tenant, one.event_id) for one in copies(self._settings)})


def copies(settings: Settings) -> list[Any]:
    return [record for _, record in scan.records(settings, FEEDBACK) if record.series is not None]


@pytest.fixture
def knowing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Resolver]]:
    """Make a resolver that is told what it asks for, and need not wait for a sink."""
    monkeypatch.setattr(Settled, "reach", lambda *_: True)
    with ExitStack() as made:

        def make(*calls: LLMCall, **more: str) -> Resolver:
            known: Any = Knowing(settings, list(calls), **more)
            return made.enter_context(closing(Resolver(Process("resolve", settings), known, patience_s=60)))

        yield make


def test_one_that_stood_still_sends_nothing_more_before_the_group_says_that_it_is_still_a_member(
    settings: Settings, knowing: Callable[..., Resolver]
) -> None:
    one = call()
    resolver = knowing(one)
    put = resolver._deliveries.put

    def refuse(**_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID))

    between = Between(resolver._consumer)

    def put_and_stand_still(*arguments: Any, **more: Any) -> None:
        put(*arguments, **more)
        # All that one who wakes could notice: that time has passed, and what the group says to it.
        resolver._fence.heard(ago(settings.kafka_session_ms))
        between._own["commit"] = refuse

    resolver._deliveries.put = put_and_stand_still  # type: ignore[method-assign]
    send(settings, FEEDBACK, [thumb(one), thumb(one)])
    # Twice, the second time as a redo.
    until(lambda: resolver._figures.lost._value.get() == 2, resolver.turn)
    assert len(copies(settings)) == 1
    between.undo()
    until(lambda: len(copies(settings)) == 2 and resolver.open == 0, resolver.turn)
    assert len({copy.event_id for copy in copies(settings)}) == 2


def test_ratings_about_which_the_store_says_nothing_do_not_keep_the_others(
    settings: Settings, knowing: Callable[..., Resolver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_TROUBLE_S", 0.1)
    one = call()
    judged = Evaluation(
        event_id=str(uuid7()), ts=one.ts_end, tenant="acme", name="correct", kind="judge",
        evaluator="j", passed=True, target_event_id=one.event_id,
    )  # fmt: skip
    resolver = knowing(one, refuses=EVALUATIONS)
    send(settings, EVALUATIONS, [judged])
    until(lambda: resolver.open == 1, resolver.turn)
    send(settings, FEEDBACK, [thumb(one)])
    until(lambda: len(copies(settings)) == 1, resolver.turn)
    assert resolver.open == 1
    assert not resolver._process.health.is_ready
