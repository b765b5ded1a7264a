"""How a parcel gets to its receiver: tried at once, again within seconds, and again for hours."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import stamina

from tidegate.registry import SchemaRegistry
from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.delivery import Outcome
from tidegate_consumers.notify.figures import Figures
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.schedule import Schedule
from tidegate_consumers.notify.silences import Silences
from tidegate_consumers.notify.writer import Writer
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.process import Process

AT_ONCE = 4
"""Parcels of a topic that are under way together; commands do not queue behind alerts."""

TELLING_ROUNDS = 3
"""Failed rounds, about six minutes, after which the other channels are told of it."""

Task = asyncio.Task[None]


class Receiver(Protocol):
    """What takes parcels."""

    async def addresses(self) -> list[str]:
        """Resolve where it is; raises when that may not be called."""

    async def tell(self, parcel: Parcel) -> Outcome:
        """Try once."""

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all channels of a process have in common."""

    process: Process
    writer: Writer
    figures: Figures
    silences: Silences
    registry: SchemaRegistry | None
    schedule: Schedule


class Report(Protocol):
    """Who hears how a channel fares."""

    async def failing(self, words: str) -> None:
        """Hear that it has not got through for long, and what the last attempt gave."""

    async def through(self) -> None:
        """Hear that nothing waits for it any more."""


class Courier:
    """The attempts of a channel.

    Parameters
    ----------
    channel, receiver
        Who is told, and how.
    topics
        What parcels come from.
    shared
        When to try again, log and metrics.
    report
        Hears of lasting failures.
    """

    def __init__(
        self, channel: Channel, receiver: Receiver, topics: Sequence[str], shared: Shared, report: Report
    ) -> None:
        self.channel = channel
        self.posting: set[Task | None] = set()
        self._receiver = receiver
        self._shared = shared
        self._report = report
        self._slots = {topic: asyncio.Semaphore(AT_ONCE) for topic in topics}
        self._failing: dict[Task | None, str] = {}
        self._not_before_s = 0.0
        self._is_gone = False

    def trouble(self) -> str:
        """Say what keeps the channel from getting through; empty when nothing does."""
        if self._is_gone:
            return f"{self.channel.shown} answered 410, gone: restart to try it again"
        if self._failing:
            words = next(iter(self._failing.values()))
            return f"{len(self._failing)} wait for {self.channel.shown}: {words}"
        return ""

    async def deliver(self, topic: str, parcel: Parcel) -> None:
        """Try until the receiver has taken a parcel.

        Raises
        ------
        GivenUp
            It failed as often as the schedule allows.
        ContractError
            The parcel cannot be written as the receiver wants it.
        """
        task = asyncio.current_task()
        failures = 0
        try:
            while (outcome := await self._round(topic, parcel, again=failures > 0)).kind != "delivered":
                failures += 1
                pause_s = self._shared.schedule.pause_s(failures, outcome.asked_s, random.random())
                self._shared.process.log.warning(
                    "webhook_failed",
                    id=parcel.id,
                    channel=self.channel.name,
                    webhook=self.channel.shown,
                    reason=outcome.words,
                    rounds=failures,
                    again_in_seconds=pause_s,
                )
                if failures >= TELLING_ROUNDS or pause_s is None:
                    await self._report.failing(outcome.words)
                if pause_s is None:
                    raise GivenUp(f"{outcome.words}, after {failures} rounds of attempts")
                self._failing[task] = outcome.words
                await asyncio.sleep(pause_s)
        finally:
            self._failing.pop(task, None)
        if not self._failing:
            await self._report.through()

    async def _round(self, topic: str, parcel: Parcel, *, again: bool) -> Outcome:
        """Try a few times within seconds, and return what the last attempt gave."""
        async with self._slots[topic]:
            try:
                async for attempt in stamina.retry_context(
                    on=_Passing, attempts=3, timeout=10.0, wait_initial=0.2, wait_max=2.0, wait_jitter=0.2
                ):
                    with attempt:
                        await self._released()
                        if again or attempt.num > 1:
                            self._shared.figures.retried(self.channel.name)
                        outcome = await self._attempt(parcel)
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

    async def _attempt(self, parcel: Parcel) -> Outcome:
        task = asyncio.current_task()
        self.posting.add(task)
        try:
            outcome = await self._receiver.tell(parcel)
        finally:
            self.posting.discard(task)
        self._shared.figures.counted(self.channel.name, outcome.kind)
        if outcome.kind == "delivered":
            crashpoint("notify.after_post")
        if outcome.kind == "gone":
            await self._disable(outcome)
            await _for_ever()
        if outcome.asked_s:
            asked_s = self._shared.schedule.granted_s(outcome.asked_s)
            self._not_before_s = max(self._not_before_s, time.monotonic() + asked_s)
        return outcome

    async def _disable(self, outcome: Outcome) -> None:
        """Post no more. Nothing is committed past here, so that a restart goes on where this ended."""
        if not self._is_gone:
            self._is_gone = True
            self._shared.process.log.error(
                "webhook_gone",
                channel=self.channel.name,
                webhook=self.channel.shown,
                reason=outcome.words,
                effect="nothing is posted until this process is restarted; it then begins with what waits",
            )
            await self._report.failing(outcome.words)


async def _for_ever() -> None:
    """Hold a record until the process ends."""
    await asyncio.Event().wait()


class _Passing(Exception):
    """An attempt failed in a way that may be over in a second."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.words)
        self.outcome = outcome


class GivenUp(Exception):
    """A delivery failed as often as the schedule allows."""
