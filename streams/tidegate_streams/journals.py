"""The journal partitions that this process holds: each message in, what it causes out, then the next.

State is in memory and comes from the journal: an assignment begins with nothing and reads its partitions
from the newest snapshot that can be used, or else from their beginning. What is decided again is published
only where it is missing, so that nobody notices a restart. Of what the journal no longer reaches back to,
the fold is told what was published.
"""

import asyncio
import time

from faust.types import TP

from tidegate import topics
from tidegate.codec import decode
from tidegate.errors import ContractError, InvariantBroken
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.process import Process
from tidegate_streams import alerts, fence, fold, frozen, published
from tidegate_streams.journal import SNAPSHOT_SECONDS, SNAPSHOT_SHARE, Journal
from tidegate_streams.meters import Meters
from tidegate_streams.outbox import Outbox
from tidegate_streams.published import CommandConflict, Published
from tidegate_streams.shelf import Shelf

STALLED_SECONDS = 60.0
"""A partition that has messages and makes no progress for so long ends the process."""

_TURN_SECONDS = 0.05


class Journals:
    """All partitions of the present assignment.

    Parameters
    ----------
    process
        Settings, health, log and metrics.
    """

    outbox: Outbox
    shelf: Shelf

    def __init__(self, process: Process) -> None:
        self._process = process
        self.rules = fold.Rules(
            allowed_lateness_us=process.settings.allowed_lateness_us,
            series_cap=process.settings.series_cap,
        )
        self._epoch = self._recalled = 0
        self._fence = fence.Fence(process.settings.kafka_session_ms)
        # One message, or one thing published again, at a time; and nothing at all while a revocation ends.
        self._publishing = asyncio.Lock()
        self._held: dict[int, Journal | None] = {}
        self._published: asyncio.Future[Published] | None = None
        self._kept: asyncio.Future[dict[int, list[bytes]]] | None = None
        self._meters = Meters(process.metrics)

    def assign(self, partitions: set[TP]) -> None:
        """Forget everything and begin anew with these partitions.

        It is no sign of life: how long ago the group assigned them, only the next heartbeat can tell.
        """
        self._epoch += 1
        self._held = {partition.partition: None for partition in partitions}
        self._process.not_ready("replaying the journal")
        self._published = asyncio.ensure_future(self._read_back())
        self._kept = asyncio.ensure_future(asyncio.to_thread(self.shelf.read, sorted(self._held)))
        self._process.log.info("assigned", partitions=sorted(self._held))

    async def revoke(self) -> None:
        """Stop publishing: the partitions may be another process's once this returns."""
        self._epoch += 1
        self._held = {}
        # Nobody may take having none for being done with all.
        self._published = None
        self._process.not_ready("partitions are being assigned")
        async with self._publishing:
            pass

    def heard(self, at: fence.Moment) -> None:
        """Note that the group counted this process among its members at that moment."""
        self._fence.heard(at)

    async def _owns(self, epoch: int) -> bool:
        """Whether the partitions of an assignment are still this process's.

        One that stood still may have lost them without being told so yet: until the group was heard of again
        it cannot know, and waits.
        """
        while epoch == self._epoch and self._fence.is_shut:  # noqa: ASYNC110 - heard of in another thread
            await asyncio.sleep(_TURN_SECONDS)
        return epoch == self._epoch

    async def _read_back(self) -> Published:
        # What is being sent must be there before it is read back, or it would be sent again.
        async with self._publishing:
            pass
        return await asyncio.to_thread(published.read, self._process.settings)

    async def recall(self) -> None:
        """Wait for the snapshots: what is looked at afterwards of a journal is later than any of them."""
        epoch = self._epoch
        if waited := [one for one in (self._kept, self._published) if one is not None]:
            await asyncio.wait(waited)
        self._recalled = epoch

    async def begin(self, partition: TP, start: int, end: int) -> None:
        """Take in a partition's first offset and its end, read after `recall`; choose where to begin."""
        number, epoch = partition.partition, self._epoch
        if self._recalled != epoch:
            return  # Assigned anew meanwhile: Faust asks again.
        found = await self._newest(number, start, end)
        if epoch != self._epoch or self._held.get(number) is not None:
            return
        next_offset, snapshot = found or (start, None)
        self._held[number] = Journal(start, end, next_offset, snapshot, kept_offset=next_offset)
        self._process.log.info("begins", partition=number, start=start, end=end, next_offset=next_offset)

    async def _newest(self, partition: int, start: int, end: int) -> tuple[int, fold.State] | None:
        """Find the state to go on from. Without one the replay takes longer and comes to the same."""
        kept, known = self._kept, self._published
        if kept is None or known is None or known.exception() is not None:
            return None
        if failure := kept.exception():
            self._process.log.warning("snapshots not read", partition=partition, why=str(failure))
            return None
        pieces = kept.result().get(partition, [])
        found = await asyncio.to_thread(self.shelf.newest, pieces, partition, start, end)
        if found is not None and not known.result().agrees(*found):
            why = "it has not decided what was published"
            self._process.log.warning("snapshot not used", partition=partition, why=why)
            return None
        return found

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
            journal.state, journal.snapshot = journal.snapshot, None
            if journal.state is None:
                journal.state = fold.State(
                    partition,
                    self.rules,
                    journal.starts_at,
                    pasts,
                    known.overflows(),
                    frozenset(known.refusals),
                )
        began = time.monotonic()
        try:
            record = decode(value or b"", expect=fold.JOURNAL)
            is_new = offset >= known.windows.get(partition, -1)
            # In a thread, so that the event loop keeps answering Kafka meanwhile.
            records = await asyncio.to_thread(fold.apply, journal.state, offset, record, windows=is_new)
        except ContractError as error:
            records = []
            if not await self._owns(epoch):
                return
            await self.outbox.reject(partition, offset, key, value, error)
        journal.unkept_seconds += time.monotonic() - began
        crashpoint("stream.after_apply")
        for output in records:
            if not await self._owns(epoch):
                return
            if await self._lacks(known, output):
                try:
                    await self.outbox.send(output)
                except ContractError as error:
                    # A restart would cause it again: it must not stand in the way of all that follows.
                    await self.outbox.reject(partition, offset, key, value, error)
                    continue
                known.note(output)
                crashpoint("stream.mid_send")
        crashpoint("stream.after_send")
        journal.next_offset = offset + 1
        journal.progressed_at = time.monotonic()
        self._meters.show(partition, journal.state)
        if journal.wants_snapshot:
            await self._keep(partition, journal, journal.state)

    async def _keep(self, partition: int, journal: Journal, state: fold.State) -> None:
        """Take a snapshot, and let it be written while the fold goes on."""
        began = time.monotonic()
        at, journal.unkept_seconds = journal.next_offset, 0.0
        state.gather()
        freezing = asyncio.ensure_future(asyncio.to_thread(frozen.freeze, state))

        async def write() -> None:
            try:
                await asyncio.to_thread(self.shelf.write, partition, at, await freezing)
                journal.kept_offset = at
                self._meters.snapshot.labels(partition).set(at)
            except Exception as error:  # noqa: BLE001 - whatever it is, only the next restart takes longer
                self._process.log.error("no snapshot", partition=partition, why=repr(error))
            seconds = time.monotonic() - began
            journal.kept_until = began + max(SNAPSHOT_SECONDS, seconds / SNAPSHOT_SHARE)

        journal.keeping = asyncio.create_task(write())
        # What is applied next must not be in it.
        await asyncio.wait([freezing])

    async def settle(self) -> None:
        """See which partitions have become current, and say ready when all are."""
        if self._published is None or not self._published.done():
            return
        known = self._published.result()
        for partition, journal in list(self._held.items()):
            if journal is None or journal.is_current or journal.next_offset < journal.end_at_assignment:
                continue
            await self._show_again(known, known, partition)
            journal.is_current = True
        if all(journal is not None and journal.is_current for journal in self._held.values()):
            self._kept = None
            self._process.ready()

    async def look_again(self) -> None:
        """See whether a late writer has put a lower revision behind the highest, which compaction would keep.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        if self._published is None or not self._published.done():
            return
        known = self._published.result()
        found = await asyncio.to_thread(published.read, self._process.settings, (topics.DEPLOYMENTS,))
        for partition, journal in list(self._held.items()):
            if journal is not None and journal.is_current:
                await self._show_again(known, found, partition)

    async def _show_again(self, known: Published, found: Published, partition: int) -> None:
        epoch = self._epoch
        async with self._publishing:
            for key, command in list(found.hidden(partition)):
                if command.revision < max(known.commands[key], default=0):
                    continue  # A newer one was published since.
                if not await self._owns(epoch):
                    return
                self._process.log.warning(
                    "command published again", deployment=key, revision=command.revision
                )
                await self.outbox.send(command)
                known.note(command)

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
            self._meters.lag.labels(partition).set(waiting)
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
            alert = alerts.command_conflict(conflict.decided, conflict.published, str(conflict))
            if known.lacks(alert):
                await self.outbox.send(alert)
            raise
