"""The journal partitions that this process holds: each message in, what it causes out, then the next.

State is in memory and comes from the journal: an assignment begins with nothing and reads its partitions from
their beginning. What a replay decides again is published only where it is missing, so that nobody notices a
restart. Of what the journal no longer reaches back to, the fold is told what was published.
"""

import asyncio
import time
from dataclasses import dataclass, field

from faust.types import TP
from prometheus_client import Counter, Gauge

from tidegate import topics
from tidegate.codec import decode
from tidegate.errors import ContractError, InvariantBroken
from tidegate.records import Alert, KeyValue
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.process import Process
from tidegate_streams import alerts, fold, published
from tidegate_streams.outbox import Outbox
from tidegate_streams.published import CommandConflict, Published

STALLED_SECONDS = 60.0
"""A partition that has messages and makes no progress for so long ends the process."""


@dataclass(slots=True)
class Journal:
    """One assigned partition."""

    starts_at: int
    end_at_assignment: int
    next_offset: int
    state: fold.State | None = None
    """None before the first message: what was published has to be known first."""
    is_current: bool = False
    """Whether everything that stood there at assignment has been applied, and its outputs are complete."""
    progressed_at: float = field(default_factory=time.monotonic)


class Journals:
    """All partitions of the present assignment.

    Parameters
    ----------
    process
        Settings, health, log and metrics.
    """

    outbox: Outbox

    def __init__(self, process: Process) -> None:
        self._process = process
        self._rules = fold.Rules(
            allowed_lateness_us=process.settings.allowed_lateness_us,
            series_cap=process.settings.series_cap,
        )
        self._epoch = 0
        # One message, or one thing published again, at a time; and nothing at all while a revocation ends.
        self._publishing = asyncio.Lock()
        self._held: dict[int, Journal | None] = {}
        self._published: asyncio.Future[Published] | None = None
        registry = process.metrics
        self._applied = Counter(
            "tidegate_stream_messages", "Journal messages applied.", ["partition"], registry=registry
        )
        self._watermark = Gauge(
            "tidegate_stream_watermark_seconds",
            "Event time before which all calls are in, since the epoch.",
            ["partition"],
            registry=registry,
        )
        self._counts = Gauge(
            "tidegate_stream_counts",
            "Since the journal's beginning: what came too late, series over the cap, ranges repeated.",
            ["partition", "what"],
            registry=registry,
        )
        self._lag = Gauge(
            "tidegate_stream_lag", "Journal messages not yet applied.", ["partition"], registry=registry
        )

    def assign(self, partitions: set[TP]) -> None:
        """Forget everything and begin anew with these partitions."""
        self._epoch += 1
        self._held = {partition.partition: None for partition in partitions}
        self._process.not_ready("replaying the journal")
        self._published = asyncio.ensure_future(self._read_back())
        self._process.log.info("assigned", partitions=sorted(self._held))

    async def revoke(self) -> None:
        """Stop publishing: the partitions may be another process's once this returns."""
        self._epoch += 1
        self._held = {}
        self._process.not_ready("partitions are being assigned")
        async with self._publishing:
            pass

    async def _read_back(self) -> Published:
        # What is being sent must be there before it is read back, or it would be sent again.
        async with self._publishing:
            pass
        return await asyncio.to_thread(published.read, self._process.settings)

    def begin(self, partition: TP, start: int, end: int) -> None:
        """Take in a partition's first offset, and its end at the moment of assignment."""
        self._held[partition.partition] = Journal(start, end, start)

    def position(self, partition: TP) -> int | None:
        """Offset that is expected next; None before `begin`."""
        journal = self._held.get(partition.partition)
        return None if journal is None else journal.next_offset

    async def take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Apply a message, and return when all that it caused is safe in Kafka.

        Raises
        ------
        InvariantBroken
            When messages are missing, or going on would count or decide wrongly.
        """
        journal, epoch = self._held.get(partition), self._epoch
        if journal is None or self._published is None or offset < journal.next_offset:
            return  # Of an earlier assignment, or fetched twice around a seek.
        if offset > journal.next_offset:
            if journal.state is None:
                return  # Of an earlier assignment. If the log lost its start meanwhile, the watchdog sees it.
            raise InvariantBroken(
                f"{topics.PARTIALS} partition {partition} lacks {journal.next_offset} to {offset - 1}: "
                f"deleted before they were read; raise the topic's retention, and start again"
            )
        known = await self._published
        async with self._publishing:
            if epoch == self._epoch:
                await self._apply(journal, known, partition, offset, key, value)

    async def _apply(
        self,
        journal: Journal,
        known: Published,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
    ) -> None:
        epoch = self._epoch
        if journal.state is None:
            pasts = known.pasts(partition)
            # Windows from behind the end are another journal's; showing some a second time does no harm.
            if known.windows.get(partition, -1) >= journal.end_at_assignment:
                del known.windows[partition]
            journal.state = fold.State(partition, self._rules, journal.starts_at, pasts, known.overflows())
        try:
            record = decode(value or b"", expect=fold.JOURNAL)
            is_new = offset >= known.windows.get(partition, -1)
            # In a thread, so that the event loop keeps answering Kafka meanwhile.
            records = await asyncio.to_thread(fold.apply, journal.state, offset, record, windows=is_new)
        except ContractError as error:
            records = []
            await self.outbox.reject(partition, offset, key, value, error)
        crashpoint("stream.after_apply")
        for output in records:
            if epoch != self._epoch:
                return
            if await self._lacks(known, output):
                await self.outbox.send(output)
                known.note(output)
                crashpoint("stream.mid_send")
        crashpoint("stream.after_send")
        journal.next_offset = offset + 1
        journal.progressed_at = time.monotonic()
        self._show(partition, journal.state)

    async def settle(self) -> None:
        """See which partitions have become current, and say ready when all are."""
        if self._published is None or not self._published.done():
            return
        known, epoch = self._published.result(), self._epoch
        for partition, journal in list(self._held.items()):
            if journal is None or journal.is_current or journal.next_offset < journal.end_at_assignment:
                continue
            async with self._publishing:
                for key, command in list(known.hidden(partition)):
                    if epoch != self._epoch:
                        return
                    self._process.log.warning(
                        "command published again", deployment=key, revision=command.revision
                    )
                    await self.outbox.send(command)
                    known.note(command)
            journal.is_current = True
        if all(journal is not None and journal.is_current for journal in self._held.values()):
            self._process.ready()

    def check_progress(self, ends: dict[int, int]) -> None:
        """See that no partition stands still.

        Parameters
        ----------
        ends
            Partition -> offset at its end.

        Raises
        ------
        InvariantBroken
            When a partition has had messages for a minute and none was applied.
        """
        now = time.monotonic()
        for partition, journal in self._held.items():
            if journal is None or partition not in ends:
                continue
            waiting = max(ends[partition] - journal.next_offset, 0)
            self._lag.labels(partition).set(waiting)
            if not waiting:
                journal.progressed_at = now
            if now - journal.progressed_at > STALLED_SECONDS:
                raise InvariantBroken(
                    f"{topics.PARTIALS} partition {partition} has {waiting:,} messages and none was applied "
                    f"for {STALLED_SECONDS:.0f} s: ending, to be started again"
                )

    async def _lacks(self, known: Published, record: object) -> bool:
        try:
            return known.lacks(record)
        except CommandConflict as conflict:
            alert = _conflict(conflict)
            if known.lacks(alert):
                await self.outbox.send(alert)
            raise

    def _show(self, partition: int, state: fold.State) -> None:
        self._applied.labels(partition).inc()
        if state.watermark.us is not None:
            self._watermark.labels(partition).set(state.watermark.us / 1e6)
        for what, count in (*state.counts.items(), ("ranges_repeated", state.ranges.repeated)):
            self._counts.labels(partition, what).set(count)


def _conflict(conflict: CommandConflict) -> Alert:
    decided = conflict.decided
    labels = {
        "rule": "command_conflict",
        "tenant": decided.tenant,
        "environment": decided.environment,
        "deployment": decided.deployment,
        "revision": str(decided.revision),
    }
    return Alert(
        fingerprint=alerts.fingerprint(labels),
        status="firing",
        rule="command_conflict",
        rule_hash=alerts.fingerprint({"rule": "command_conflict"}),
        severity="critical",
        labels=[KeyValue(key=name, value=value) for name, value in sorted(labels.items())],
        annotations=[KeyValue(key="summary", value=str(conflict))],
        starts_at=decided.ts,
        cause_id=conflict.published.command_id,
        sequence=1,
        tenant=decided.tenant,
        ts=decided.ts,
    )
