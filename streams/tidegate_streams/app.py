"""``tidegate run stream``: Faust reads the journal, the fold decides, what is new is published."""

import asyncio
import logging
import os
import time
from typing import Any

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs forget to export

from tidegate import topics
from tidegate.errors import ConfigError, DependencyUnavailable, InvariantBroken, TidegateError
from tidegate_infra.kafka.client import admin, explained, group_name, topic_id
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_streams import transport
from tidegate_streams.journals import Journals
from tidegate_streams.outbox import OUTPUTS, Outbox
from tidegate_streams.shelf import Shelf

STOP_SECONDS = 10.0
"""How long an orderly stop may take before the process just ends; nothing depends on it."""

_TURN_SECONDS = 0.1
_WATCH_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 86_400.0
_ANSWER_SECONDS = 5.0

_log = logging.getLogger(__name__)


def main(process: Process) -> None:
    """Run stage 2 until it is told to stop.

    Raises
    ------
    DependencyUnavailable
        Kafka does not answer.
    ConfigError
        A topic is missing.
    InvariantBroken
        Going on would count or decide wrongly.
    """
    for library in ("faust", "mode", "aiokafka"):
        logging.getLogger(library).setLevel(logging.WARNING)
    require_topics(process.settings)
    asyncio.run(_run(process))


def require_topics(settings: Settings) -> None:
    """See that Kafka answers and has the topics of stage 2.

    Raises
    ------
    DependencyUnavailable
        Kafka does not answer.
    ConfigError
        Topics are missing.
    """
    try:
        present = admin(settings).list_topics(timeout=_ANSWER_SECONDS).topics
    except KafkaException as error:
        raise explained(error, "listing topics") from error
    needed = (topics.PARTIALS, topics.SNAPSHOTS, *OUTPUTS.values(), topics.DLQ)
    missing = [name for topic in needed if (name := settings.topic_prefix + topic) not in present]
    if missing:
        raise ConfigError(f"Kafka lacks {', '.join(missing)}: create the topics with `tidegate topic apply`")


class _Failures:
    """The first error that ends the process, wherever it happens."""

    def __init__(self) -> None:
        self.first: BaseException | None = None

    def add(self, error: BaseException) -> None:
        self.first = self.first or error


async def _run(process: Process) -> None:
    settings = process.settings
    client = admin(settings)
    journal = settings.topic_prefix + topics.PARTIALS
    failures = _Failures()
    journals = Journals(process)
    app = transport.build(group_name(settings, process.name), settings, journals)
    journal_id = topic_id(client, journal)
    journals.outbox = Outbox(process, app.producer, journal_id)
    journals.shelf = Shelf(process, journal_id, journals.rules)

    async def follow(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            try:
                await journals.take(message.partition, message.offset, message.key, message.value)
            except Exception as error:  # noqa: BLE001 - whatever it is ends the process
                # Going on would acknowledge what was not applied: stand still until the process ends.
                failures.add(error)
                await asyncio.Event().wait()

    # Raw: an error while Faust decodes would be thrown into the agent, and the message be lost.
    raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes}
    raw |= {"key_serializer": "raw", "value_serializer": "raw"}
    app.agent(app.topic(journal, **raw), name="journal")(follow)
    try:
        await app.start()
        await _watch(process, app, journals, failures)
    except KafkaError as error:
        failures.add(DependencyUnavailable(f"Kafka does not answer ({error}): is it up?"))
    finally:
        await _stop(process, app, failures.first)
    if failures.first is not None:
        raise failures.first


async def _watch(
    process: Process, app: transport.JournalApp, journals: Journals, failures: _Failures
) -> None:
    looked_at = looked_again_at = time.monotonic()
    while not process.stopping.is_set() and failures.first is None:
        if app.crashed:
            raise app.crash_reason or InvariantBroken("Faust stopped and does not say why: see the log")
        process.beat()
        try:
            await journals.settle()
            if time.monotonic() - looked_at > _WATCH_SECONDS:
                looked_at = time.monotonic()
                journals.check_progress(await asyncio.to_thread(_ends, process.settings))
            if time.monotonic() - looked_again_at > _LOOK_AGAIN_SECONDS:
                looked_again_at = time.monotonic()
                await journals.look_again()
        except TidegateError as error:
            failures.add(error)
        await asyncio.sleep(_TURN_SECONDS)


def _ends(settings: Settings) -> dict[int, int]:
    """Partition -> offset at its end, asked for apart from Faust; empty when Kafka does not answer."""
    journal = settings.topic_prefix + topics.PARTIALS
    # Made for it alone: after a restart of the broker one that lives on asks under the leader's old epoch.
    client = admin(settings)
    partitions = range(topics.TOPICS[topics.PARTIALS].partitions)
    end = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    latest = {TopicPartition(journal, partition): end for partition in partitions}
    answers = client.list_offsets(latest, request_timeout=_ANSWER_SECONDS)
    try:
        return {at.partition: answer.result().offset for at, answer in answers.items()}
    except KafkaException as error:
        _log.warning("the ends of %s are not known: %s", journal, explained(error, "listing offsets"))
        return {}


async def _stop(process: Process, app: transport.JournalApp, failure: BaseException | None) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
    except TimeoutError:
        if failure is None and not await asyncio.to_thread(_ends, process.settings):
            # No defect: what could not be sent is found missing at the next start.
            failure = DependencyUnavailable("Kafka does not answer, and Faust waits for it")
        # Faust's threads are not daemons: waiting for them could last for ever.
        process.log.error("did not stop in time", seconds=STOP_SECONDS, failure=failure and str(failure))
        os._exit(failure.exit_code if isinstance(failure, TidegateError) else InvariantBroken.exit_code)
