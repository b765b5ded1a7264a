"""Alerts and commands to a webhook: read on, delivered side by side, committed when done."""

import asyncio
import random
import time
from collections.abc import Iterable
from contextlib import closing
from functools import partial

import stamina
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as Record

from tidegate import codec
from tidegate.errors import ContractError
from tidegate.registry import SchemaRegistry
from tidegate.topics import ALERTS, DEPLOYMENTS, DLQ, TOPICS
from tidegate_consumers.notify.delivery import Endpoint, Outcome
from tidegate_consumers.notify.figures import Figures
from tidegate_consumers.notify.message import Message, message_of
from tidegate_consumers.notify.schedule import Schedule
from tidegate_consumers.notify.source import Source
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.kafka import client, scan
from tidegate_infra.kafka.dead_letters import DeadLetter, bury
from tidegate_infra.process import Process

NAME = "notify"
SOURCES = (DEPLOYMENTS, ALERTS)

AT_ONCE = 4
"""Posts of a topic that are under way together; commands do not queue behind alerts."""

_TURN_S = 0.05
_FINISH_S = 3.0

Task = asyncio.Task[None]


def main(process: Process) -> None:
    """Deliver until stopped.

    Raises
    ------
    ConfigError
        The webhook's address or secret is wrong, or a topic is missing.
    AddressRefused
        The webhook's name leads into a private network, and that is not allowed.
    """
    if not process.settings.webhook_url:
        _idle(process)
        return
    endpoint = Endpoint(process.settings)
    scan.check_topics(process.settings, [*SOURCES, DLQ])
    asyncio.run(deliver(process, endpoint))


def _idle(process: Process) -> None:
    process.log.info("idle", reason="no webhook: TIDEGATE_WEBHOOK_URL and TIDEGATE_WEBHOOK_SECRET name one")
    process.ready()
    while not process.stopping.wait(1):
        process.beat()


async def deliver(process: Process, endpoint: Endpoint, schedule: Schedule | None = None) -> None:
    """Deliver to an endpoint until stopped."""
    try:
        await endpoint.addresses()
    except OSError as error:
        process.log.warning("webhook_unknown", webhook=endpoint.shown, reason=str(error))
    with closing(Notifier(process, endpoint, schedule or Schedule())) as notifier:
        while not process.stopping.is_set():
            notifier.turn()
            await asyncio.sleep(_TURN_S)
        await notifier.finish()


class Notifier:
    """One worker of notify: a loop that never waits, and a task for each record that does.

    Parameters
    ----------
    process
        Settings, health, log and metrics.
    endpoint
        Where to post.
    schedule
        When to try again.
    """

    def __init__(self, process: Process, endpoint: Endpoint, schedule: Schedule) -> None:
        settings = process.settings
        self._process = process
        self._endpoint = endpoint
        self._schedule = schedule
        self._figures = Figures(process.metrics)
        self._registry = (
            SchemaRegistry(settings.schema_registry_url) if settings.schema_registry_url else None
        )
        admin = client.admin(settings)
        self._topic_ids = {topic: client.topic_id(admin, settings.topic_prefix + topic) for topic in SOURCES}
        self._producer = client.producer(settings, linger_ms=0)
        self._source = Source(settings, NAME, SOURCES)
        self._epoch = self._source.epoch
        self._slots = {topic: asyncio.Semaphore(AT_ONCE) for topic in SOURCES}
        self._tasks: set[Task] = set()
        self._posting: set[Task | None] = set()
        self._failing: dict[Task | None, str] = {}
        self._not_before_s = 0.0
        self._is_gone = False

    def turn(self) -> None:
        """Take in what came, settle what is done, and say how it goes."""
        self._process.beat()
        self._producer.poll(0)
        records = self._source.read()
        if self._source.epoch != self._epoch:
            # Whoever has the partitions now begins with what is not committed.
            _cancel(self._tasks)
            self._epoch = self._source.epoch
        for topic, record in records:
            self._tasks.add(asyncio.create_task(self._see_through(topic, record, self._epoch)))
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            if not task.cancelled():
                task.result()
        self._source.settle()
        self._say_how_it_goes()

    async def finish(self) -> None:
        """Let posts that are under way come to an end; the rest is delivered by the next owner."""
        _cancel(self._tasks - self._posting)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FINISH_S)
        _cancel(self._tasks)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """Commit, and leave the group."""
        self._source.close()
        self._producer.flush(_FINISH_S)

    async def _see_through(self, topic: str, record: Record, epoch: int) -> None:
        """Deliver a record, however long it takes, or dead-letter it."""
        try:
            value = record.value()
            if value is not None:  # the mark of a removed key says nothing to anybody
                message = message_of(codec.decode(value, self._registry, TOPICS[topic].records))
                await self._deliver(topic, message)
        except ContractError as error:
            await self._bury(topic, record, error.reason, error.detail)
        except _GivenUp as given_up:
            await self._bury(topic, record, "undeliverable", str(given_up))
        self._source.done(topic, record, epoch)

    async def _deliver(self, topic: str, message: Message) -> None:
        task = asyncio.current_task()
        failures = 0
        try:
            while (outcome := await self._round(topic, message, again=failures > 0)).kind != "delivered":
                failures += 1
                pause_s = self._schedule.pause_s(failures, outcome.asked_s, random.random())
                self._process.log.warning(
                    "webhook_failed",
                    id=message.id,
                    webhook=self._endpoint.shown,
                    reason=outcome.words,
                    rounds=failures,
                    again_in_seconds=pause_s,
                )
                if pause_s is None:
                    raise _GivenUp(f"{outcome.words}, after {failures} rounds of attempts")
                self._failing[task] = outcome.words
                await asyncio.sleep(pause_s)
        finally:
            self._failing.pop(task, None)

    async def _round(self, topic: str, message: Message, *, again: bool) -> Outcome:
        """Try a few times within seconds, and return what the last attempt gave."""
        async with self._slots[topic]:
            try:
                async for attempt in stamina.retry_context(
                    on=_Passing, attempts=3, timeout=10.0, wait_initial=0.2, wait_max=2.0, wait_jitter=0.2
                ):
                    with attempt:
                        await self._released()
                        if again or attempt.num > 1:
                            self._figures.retries.inc()
                        outcome = await self._attempt(message)
                        if outcome.passing:
                            raise _Passing(outcome)
            except _Passing as failure:
                return failure.outcome
            return outcome

    async def _released(self) -> None:
        """Wait while the receiver wants to be left alone."""
        while (wait_s := self._not_before_s - time.monotonic()) > 0:  # noqa: ASYNC110 - others may prolong it
            await asyncio.sleep(wait_s)
        if self._is_gone:
            await _for_ever()

    async def _attempt(self, message: Message) -> Outcome:
        task = asyncio.current_task()
        self._posting.add(task)
        try:
            outcome = await self._endpoint.post(message)
        finally:
            self._posting.discard(task)
        self._figures.counted(outcome.kind)
        if outcome.kind == "delivered":
            crashpoint("notify.after_post")
        if outcome.kind == "gone":
            self._disable(outcome)
            await _for_ever()
        if outcome.asked_s:
            asked_s = self._schedule.granted_s(outcome.asked_s)
            self._not_before_s = max(self._not_before_s, time.monotonic() + asked_s)
        return outcome

    def _disable(self, outcome: Outcome) -> None:
        """Post no more. Nothing is committed past here, so that a restart goes on where this ended."""
        if not self._is_gone:
            self._is_gone = True
            self._process.log.error(
                "webhook_gone",
                webhook=self._endpoint.shown,
                reason=outcome.words,
                effect="nothing is posted until this process is restarted; it then begins with what waits",
            )

    async def _bury(self, topic: str, record: Record, reason: str, error: str) -> None:
        """Dead-letter a record, and return when Kafka has it."""
        partition, offset = record.partition(), record.offset()
        assert partition is not None
        assert offset is not None
        letter = DeadLetter(
            topic=topic,
            topic_id=self._topic_ids[topic],
            partition=partition,
            offset=offset,
            stage=NAME,
            reason=reason,
            error=error,
        )
        written: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()

        def on_delivery(refused: KafkaError | None, _message: Record) -> None:
            if not written.done():
                written.set_result(refused)

        name = self._process.settings.topic_prefix + DLQ
        bury(partial(self._producer.produce, name, on_delivery=on_delivery), letter, record)
        if (refused := await written) is not None:
            raise client.explained(KafkaException(refused), "writing a dead letter")
        crashpoint("notify.after_dead_letter")
        self._figures.counted("dead_lettered")
        self._process.log.error("dead_lettered", record=letter.coordinates, reason=reason, error=error)

    def _say_how_it_goes(self) -> None:
        for topic, (waiting, lag) in self._source.standing().items():
            self._figures.stands(topic, waiting, lag)
        if self._is_gone:
            self._process.not_ready(f"{self._endpoint.shown} answered 410, gone: restart to try it again")
        elif self._failing:
            words = next(iter(self._failing.values()))
            self._process.not_ready(f"{len(self._failing)} wait for {self._endpoint.shown}: {words}")
        elif self._source.has_begun:
            self._process.ready()


def _cancel(tasks: Iterable[Task]) -> None:
    for task in tasks:
        task.cancel()


async def _for_ever() -> None:
    """Hold a record until the process ends."""
    await asyncio.Event().wait()


class _Passing(Exception):
    """An attempt failed in a way that may be over in a second."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.words)
        self.outcome = outcome


class _GivenUp(Exception):
    """A delivery failed as often as the schedule allows."""
