"""One channel at work: packed, delivered side by side and each alert in order, committed when done."""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence

from confluent_kafka import Message as Record

from tidegate import codec
from tidegate.errors import ContractError, DependencyUnavailable, TidegateError
from tidegate.records import Alert
from tidegate.topics import ALERTS, DEPLOYMENTS, TOPICS
from tidegate_consumers.notify import unreachable
from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.courier import Courier, GivenUp, Receiver, Shared, Task
from tidegate_consumers.notify.grouping import Groups, rounds
from tidegate_consumers.notify.kinds import KINDS
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.runbook import with_runbook
from tidegate_consumers.notify.silences import is_held, was_held
from tidegate_consumers.notify.source import MOST_WAITING, Source
from tidegate_consumers.notify.standing import Standing
from tidegate_infra.kafka import scan

SOURCES = (DEPLOYMENTS, ALERTS)

MOST_GROUPED = 20_000
"""Alerts that may wait where a flood is told as one."""

_FINISH_S = 3.0
_REMIND_S = 60.0
_LONGEST_WAIT_S = 60.0
_LONGEST_SCAN_S = 600.0

Place = tuple[str, Record]


class Notifier:
    """A loop that never waits, and a task for each parcel that does.

    Parameters
    ----------
    channel
        Who is told what.
    receiver
        How.
    shared
        Settings, health, log, metrics, and when to try again.
    """

    def __init__(self, channel: Channel, receiver: Receiver, shared: Shared) -> None:
        self.channel = channel
        self._receiver = receiver
        self._shared = shared
        self._kind = KINDS[channel.kind]
        most = MOST_GROUPED if self._kind.groups else max(MOST_WAITING, 4 * self._kind.most)
        self._source = Source(shared.process.settings, channel.group, SOURCES, most)
        self._courier = Courier(channel, receiver, SOURCES, shared, self)
        self._mark = unreachable.mark_of(channel.name)
        self._pages = shared.process.settings.runbooks
        self._wait_s = channel.wait_s
        self._remind_s = time.monotonic() + _REMIND_S
        shared.figures.open(channel.name)
        self._tasks: dict[Task, Sequence[str]] = {}
        self._begin()

    def _begin(self) -> None:
        self._epoch = self._source.epoch
        self._standing: Standing | None = None
        self._remembering: asyncio.Task[Standing] | None = None
        self._groups = Groups()
        self._arrived: list[Place] = []
        self._pending: list[tuple[Alert, Place | None]] = []
        self._due_s = 0.0
        self._last: dict[str, Task] = {}

    def turn(self) -> None:
        """Take in what came, pack what is due, and settle what is done."""
        came = self._source.read()
        if self._source.epoch != self._epoch:
            # Whoever has the partitions now begins with what is not committed.
            _cancel(self._tasks)
            self._begin()
        self._arrived += came
        if self._knows():
            arrived, self._arrived = self._arrived, []
            for topic, record in arrived:
                self._take(topic, record)
            self._release()
            self._pack()
            self._remind()
        for task in [task for task in self._tasks if task.done()]:
            for key in self._tasks.pop(task):
                if self._last.get(key) is task:
                    del self._last[key]
            if not task.cancelled():
                task.result()
        self._source.settle()
        for topic, (waiting, lag) in self._source.standing().items():
            self._shared.figures.stands(self.channel.name, topic, waiting, lag)

    @property
    def is_at_work(self) -> bool:
        """Whether nothing that is published from now on is missed."""
        return self._source.has_begun and self._standing is not None

    def trouble(self) -> str:
        """Say what keeps the channel from getting through; empty when nothing does."""
        return self._courier.trouble()

    async def finish(self) -> None:
        """Let posts that are under way come to an end; the rest is delivered by the next owner."""
        _cancel(set(self._tasks) - self._courier.posting)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FINISH_S)
        _cancel(self._tasks)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._remembering is not None:
            await asyncio.gather(self._remembering, return_exceptions=True)

    def close(self) -> None:
        """Commit, and leave the group."""
        self._source.close()
        self._receiver.close()

    def _knows(self) -> bool:
        """Whether it is known which alerts fire; it is read again when the partitions come back."""
        if self._standing is None and self._source.has_begun:
            if self._remembering is None:
                until = self._source.begun_at(ALERTS)
                self._remembering = asyncio.create_task(asyncio.to_thread(self._remembered, until))
            elif self._remembering.done():
                self._standing = self._recalled(self._remembering)
                if self._standing is None:
                    return False
                firing = [alert for alert in self._standing.firing.values() if self._wants(alert)]
                for alert in firing:
                    if was_held(alert, self._shared.silences.present):
                        self._standing.hold(alert)
                if self._kind.groups:
                    self._groups.assume(firing)
        return self._standing is not None

    def _recalled(self, remembering: asyncio.Task[Standing]) -> Standing | None:
        self._remembering = None
        try:
            return remembering.result()
        except DependencyUnavailable as error:
            self._shared.process.log.warning("waiting", channel=self.channel.name, reason=str(error))
            return None

    def _remembered(self, until: int) -> Standing:
        standing = Standing()
        settings = self._shared.process.settings
        for message, alert in scan.records(settings, ALERTS, timeout_seconds=_LONGEST_SCAN_S):
            if (message.offset() or 0) >= until:
                break
            if alert is not None:
                standing.take(alert)
        return standing

    def _wants(self, alert: Alert) -> bool:
        return self.channel.wants.include(alert) and alert.fingerprint != self._mark

    def _take(self, topic: str, record: Record) -> None:
        """Pack a record, let it wait for others, or see that nobody has to be told."""
        assert self._standing is not None
        value = record.value()
        if value is None:  # the mark of a removed key says nothing to anybody
            self._source.done(topic, record, self._epoch)
            return
        try:
            said = codec.decode(value, self._shared.registry, TOPICS[topic].records)
        except ContractError as error:
            self._start(self._refuse([(topic, record)], error.reason, error.detail, self._epoch), ())
            return
        if not isinstance(said, Alert):
            if self.channel.wants.include(said):
                self._send(Parcel(records=(said,)), [(topic, record)])
            else:
                self._source.done(topic, record, self._epoch)
            return
        if self._is_to_be_told(said, self._standing):
            self._await_others(said, (topic, record))
        else:
            self._source.done(topic, record, self._epoch)

    def _is_to_be_told(self, alert: Alert, standing: Standing) -> bool:
        is_news = standing.take(alert)
        # Of what nobody was told that it fires, nobody is told that it is over.
        was_kept_quiet = standing.release(alert.fingerprint) is not None
        if not is_news or not self._wants(alert):
            return False
        if alert.status == "firing" and is_held(alert, self._shared.silences.present, _now_us()):
            standing.hold(alert)
            self._shared.process.log.info("silenced", channel=self.channel.name, alert=alert.fingerprint)
            return False
        return alert.status == "firing" or not was_kept_quiet

    def _release(self) -> None:
        """Tell what fires still when its silence is over."""
        assert self._standing is not None
        if not self._standing.held:
            return
        silences, now_us = self._shared.silences.present, _now_us()
        for alert in list(self._standing.held.values()):
            if not is_held(alert, silences, now_us):
                self._standing.release(alert.fingerprint)
                self._await_others(alert, None)

    def _await_others(self, alert: Alert, place: Place | None) -> None:
        if not self._pending:
            self._due_s = time.monotonic() + self._wait_s
        self._pending.append((with_runbook(alert, self._pages), place))

    def _pack(self) -> None:
        if not self._pending or time.monotonic() < self._due_s:
            return
        pending, self._pending = self._pending, []
        places = {id(alert): place for alert, place in pending}
        alerts = [alert for alert, _ in pending]
        if self._kind.groups:
            parcels = self._groups.parcels(alerts)
            # While it floods, more is waited for each time.
            is_flood = any(len(parcel.records) > 1 for parcel in parcels)
            self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S) if is_flood else self.channel.wait_s
        else:
            parcels = [parcel for changes in rounds(alerts) for parcel in _portions(changes, self._kind.most)]
        for parcel in parcels:
            at = [place for alert in parcel.alerts if (place := places[id(alert)]) is not None]
            self._send(parcel, at)

    def _send(self, parcel: Parcel, places: Sequence[Place]) -> None:
        keys = [alert.fingerprint for alert in parcel.alerts] + [parcel.group] * bool(parcel.group)
        before = {self._last[key] for key in keys if key in self._last}
        self._start(self._see_through(parcel, places, before, self._epoch), keys)

    def _start(self, work: Coroutine[None, None, None], keys: Sequence[str]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = keys
        self._last |= dict.fromkeys(keys, task)

    def _remind(self) -> None:
        """Repeat what fires to a receiver that forgets it when it is restarted."""
        assert self._standing is not None
        if not self._kind.forgets or time.monotonic() < self._remind_s:
            return
        self._remind_s = time.monotonic() + _REMIND_S
        firing = [
            with_runbook(alert, self._pages)
            for mark, alert in self._standing.firing.items()
            if self._wants(alert) and mark not in self._standing.held and mark not in self._last
        ]
        for parcel in _portions(firing, self._kind.most):
            self._send(parcel, [])

    async def _see_through(
        self, parcel: Parcel, places: Sequence[Place], before: Iterable[Task], epoch: int
    ) -> None:
        """Deliver a parcel, however long it takes, or dead-letter it."""
        if before:
            await asyncio.wait(before)
        try:
            await self._courier.deliver(ALERTS if parcel.alerts else DEPLOYMENTS, parcel)
        except ContractError as error:
            await self._refuse(places, error.reason, error.detail, epoch)
        except GivenUp as given_up:
            await self._refuse(places, "undeliverable", str(given_up), epoch)
        else:
            for topic, record in places:
                self._source.done(topic, record, epoch)

    async def _refuse(self, places: Sequence[Place], reason: str, error: str, epoch: int) -> None:
        letters = [self._shared.writer.bury(topic, record, reason, error) for topic, record in places]
        for letter in await asyncio.gather(*letters):
            self._shared.figures.counted(self.channel.name, "dead_lettered")
            self._shared.process.log.error(
                "dead_lettered",
                channel=self.channel.name,
                record=letter.coordinates,
                reason=reason,
                error=error,
            )
        for topic, record in places:
            self._source.done(topic, record, epoch)

    async def failing(self, words: str) -> None:
        """Tell the other channels that this one does not get through."""
        standing = self._standing
        assert standing is not None
        if self._mark not in standing.firing:
            sequence = standing.sequence(self._mark)
            alert = unreachable.failing(self.channel.name, words, sequence=sequence, now_us=_now_us())
            # It comes back by the log; what is said before that has to know of it.
            standing.take(alert)
            await self._publish(alert)

    async def through(self) -> None:
        """Tell the other channels that this one gets through again, if they were told that it does not."""
        standing = self._standing
        assert standing is not None
        if (alert := standing.firing.get(self._mark)) is not None:
            over = unreachable.over(alert, now_us=_now_us())
            standing.take(over)
            await self._publish(over)

    async def _publish(self, alert: Alert) -> None:
        """Say something of the channel itself; that it cannot be said stops no delivery."""
        try:
            await self._shared.writer.publish(alert)
        except TidegateError as error:
            self._shared.process.log.error("alert_not_told", channel=self.channel.name, reason=str(error))


def _portions(alerts: Sequence[Alert], most: int) -> list[Parcel]:
    return [Parcel(records=tuple(alerts[at : at + most])) for at in range(0, len(alerts), most)]


def _cancel(tasks: Iterable[Task | None]) -> None:
    for task in tasks:
        if task is not None:
            task.cancel()


def _now_us() -> int:
    return time.time_ns() // 1_000
