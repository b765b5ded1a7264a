"""Faust's Kafka transport, with what it leaves out put right.

It positions a consumer at the group's commits, which run ahead of what was applied; here the position is
what the fold expects next. Its producer may reorder on a retry; here it is idempotent.
"""

import ssl
from collections.abc import Mapping
from typing import Any, Protocol

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from tidegate import topics
from tidegate_infra.kafka.client import HEARTBEATS
from tidegate_infra.settings import Settings
from tidegate_streams import fence


class Positions(Protocol):
    """Who knows where each journal partition is read from."""

    def assign(self, partitions: set[TP]) -> None:
        """Forget everything and begin anew with these partitions."""

    async def revoke(self) -> None:
        """Stop publishing: the partitions may be another process's once this returns."""

    def heard(self, at: fence.Moment) -> None:
        """Note that the group counted this process among its members at that moment."""

    async def recall(self) -> None:
        """Wait until `begin` may be called."""

    async def begin(self, partition: TP, start: int, end: int) -> None:
        """Take in a partition's first offset and its end, read after `recall`; choose where to begin."""

    def position(self, partition: TP) -> int | None:
        """Offset that is expected next; None before `begin`."""


class _Thread(driver.AIOKafkaConsumerThread):
    app: "JournalApp"

    async def on_start(self) -> None:
        """Tell of each sign of life that the group has taken, dated by when it was sent."""
        await super().on_start()
        consumer: Any = self._consumer
        coordinator = consumer._coordinator
        beat = coordinator._do_heartbeat

        async def heartbeat() -> bool:
            sent_at = fence.now()
            taken: bool = await beat()
            if taken:
                self.app.positions.heard(sent_at)
            return taken

        coordinator._do_heartbeat = heartbeat


class _Consumer(driver.Consumer):
    app: "JournalApp"

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.app.positions.revoke()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        # Before anything is fetched: what was held of an earlier assignment may be stale.
        self.app.positions.assign(set(assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to what is expected next. Faust calls this after each rebalance and when it drops a fetch."""
        positions = self.app.positions
        assigned = self.assignment()
        fresh = [partition for partition in assigned if positions.position(partition) is None]
        if fresh:
            await positions.recall()
            starts = await self.earliest_offsets(*fresh)
            ends = await self.highwaters(*fresh)
            for partition in fresh:
                await positions.begin(partition, starts[partition], ends[partition])
        expected = {partition: positions.position(partition) or 0 for partition in assigned}
        await self.seek_wait(expected)
        return expected


class _Producer(driver.Producer):
    def _settings_extra(self) -> Mapping[str, Any]:
        return {**super()._settings_extra(), "acks": "all", "enable_idempotence": True}


class _Transport(driver.Transport):
    Consumer = _Consumer
    Producer = _Producer


class JournalApp(faust.App):
    """A Faust app that reads journals from where `positions` says."""

    positions: Positions

    def _new_transport(self) -> driver.Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> driver.Transport:
        return _Transport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Write nothing to the working directory: all state is in memory."""


def build(app_id: str, settings: Settings, positions: Positions, **conf: Any) -> JournalApp:
    """Make the app, configured for journals.

    Parameters
    ----------
    app_id
        Name of the consumer group.
    settings
        Where Kafka is, and how it is secured.
    positions
        Where partitions are read from.
    conf
        Further Faust settings.
    """
    session_s = settings.kafka_session_ms / 1_000
    defaults: dict[str, Any] = {
        "broker": [f"aiokafka://{server}" for server in settings.kafka.split(",")],
        "broker_credentials": _credentials(settings),
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": session_s / HEARTBEATS,
        "broker_request_timeout": max(30.0, session_s),
        "broker_max_poll_interval": 300.0,
        # Positions come from the fold; commits only show other tools how far it is.
        "broker_commit_interval": 1.0,
        "broker_commit_every": 1_000,
        "consumer_auto_offset_reset": "earliest",
        "producer_linger": 0.0,
        "producer_request_timeout": 30.0,
        "producer_compression_type": "lz4",
        # Never reached: the outbox refuses a message of half as many bytes.
        "producer_max_request_size": topics.LARGE_BYTES,
        "stream_buffer_maxsize": 64,
        "stream_wait_empty": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "agent_supervisor": "mode.supervisors.CrashingSupervisor",
        "web_enabled": False,
    }
    app = JournalApp(app_id, **(defaults | conf))
    app.positions = positions
    return app


def _credentials(settings: Settings) -> faust.auth.Credentials | None:
    protocol = settings.kafka_security_protocol
    context = None
    if protocol.endswith("ssl"):
        ca = settings.kafka_ca
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    if protocol.startswith("sasl"):
        return faust.SASLCredentials(
            username=settings.kafka_username,
            password=settings.kafka_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
