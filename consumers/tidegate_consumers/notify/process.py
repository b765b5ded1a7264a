"""Alerts and commands to every channel: channels come and go with their file, and none waits for another."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from tidegate.registry import SchemaRegistry
from tidegate.topics import DLQ, SILENCES
from tidegate_consumers.notify.address import AddressRefused
from tidegate_consumers.notify.channel import WEBHOOK, Channel, of_settings
from tidegate_consumers.notify.courier import Receiver, Shared
from tidegate_consumers.notify.delivery import TIMEOUT_S, Endpoint
from tidegate_consumers.notify.figures import Figures
from tidegate_consumers.notify.file import FileError, load
from tidegate_consumers.notify.kinds import KINDS
from tidegate_consumers.notify.mailbox import Mailbox
from tidegate_consumers.notify.notifier import SOURCES, Notifier
from tidegate_consumers.notify.schedule import Schedule
from tidegate_consumers.notify.silences import Silences
from tidegate_consumers.notify.writer import Writer
from tidegate_infra.kafka import scan
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings

_TURN_S = 0.05
_LOOK_S = 2.0

Channels = Callable[[], Sequence[Channel]]


def main(process: Process) -> None:
    """Deliver until stopped.

    Raises
    ------
    ConfigError
        The webhook's address or secret is wrong, the file of channels has mistakes, or a topic is missing.
    AddressRefused
        The webhook's name leads into a private network, and that is not allowed.
    """
    settings = process.settings
    if not settings.webhook_url and settings.channels is None:
        _idle(process)
        return
    channels_of(settings)
    scan.check_topics(settings, [*SOURCES, SILENCES, DLQ])
    asyncio.run(deliver(process))


def channels_of(settings: Settings) -> list[Channel]:
    """Return the webhook of the settings, and what their file of channels has.

    Raises
    ------
    ConfigError
        The webhook is wrong.
    FileError
        With all problems of the file.
    """
    fixed = [of_settings(settings)] if settings.webhook_url else []
    return fixed + (load(settings.channels, settings) if settings.channels else [])


def receiver_of(channel: Channel, timeout_s: float = TIMEOUT_S) -> Endpoint | Mailbox:
    """Return what takes the parcels of a channel."""
    make = Mailbox if KINDS[channel.kind].requests is None else Endpoint
    return make(channel, timeout_s=timeout_s)


def _idle(process: Process) -> None:
    process.log.info(
        "idle",
        reason="no webhook and no channels: TIDEGATE_WEBHOOK_URL and TIDEGATE_WEBHOOK_SECRET name one, "
        "TIDEGATE_CHANNELS a file of them",
    )
    process.ready()
    while not process.stopping.wait(1):
        process.beat()


async def deliver(process: Process, schedule: Schedule | None = None, timeout_s: float = TIMEOUT_S) -> None:
    """Deliver to every channel until stopped."""
    with closing(Office(process, schedule or Schedule(), timeout_s)) as office:
        await office.open()
        while not process.stopping.is_set():
            await office.turn()
            await asyncio.sleep(_TURN_S)
        await office.finish()


class Office:
    """The notifiers of a process.

    Parameters
    ----------
    process
        Settings, health, log and metrics.
    schedule
        When to try again.
    timeout_s
        For a whole attempt.
    """

    def __init__(self, process: Process, schedule: Schedule, timeout_s: float) -> None:
        settings = process.settings
        self._process = process
        self._timeout_s = timeout_s
        self._writer = Writer(settings, SOURCES)
        self._silences = Silences(settings)
        self._shared = Shared(
            process=process,
            writer=self._writer,
            figures=Figures(process.metrics),
            silences=self._silences,
            registry=SchemaRegistry(settings.schema_registry_url) if settings.schema_registry_url else None,
            schedule=schedule,
        )
        self._notifiers: dict[str, Notifier] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._look_s = 0.0
        self._mistakes = ""

    async def open(self) -> None:
        """Begin with the channels there are.

        Raises
        ------
        ConfigError
            They are wrong: there are none before that could hold.
        AddressRefused
            The webhook of the settings leads where it may not.
        """
        for channel in channels_of(self._process.settings):
            await self._add(channel)
        self._shared.figures.read_file(is_right=True)
        self._look_s = time.monotonic() + _LOOK_S

    async def turn(self) -> None:
        """Let every channel take a turn, and look at their file now and then."""
        self._process.beat()
        self._writer.poll()
        if time.monotonic() >= self._look_s:
            self._look_s = time.monotonic() + _LOOK_S
            await self._look()
        for notifier in self._notifiers.values():
            notifier.turn()
        troubles = [self._mistakes, *(notifier.trouble() for notifier in self._notifiers.values())]
        if trouble := next(filter(None, troubles), ""):
            self._process.not_ready(trouble)
        elif all(notifier.is_at_work for notifier in self._notifiers.values()):
            self._process.ready()

    async def finish(self) -> None:
        """Let what is under way come to an end."""
        for looking in self._looking:
            looking.cancel()
        await asyncio.gather(*(notifier.finish() for notifier in self._notifiers.values()))

    def close(self) -> None:
        """Commit, and leave the groups."""
        for notifier in self._notifiers.values():
            notifier.close()
        self._silences.close()
        self._writer.close()

    async def _look(self) -> None:
        """Read the file of channels again; while it has mistakes, the channels before hold."""
        try:
            channels = {channel.name: channel for channel in channels_of(self._process.settings)}
        except FileError as error:
            if str(error) != self._mistakes:
                self._mistakes = str(error)
                self._process.log.error(
                    "channels_file_broken", problems=str(error), effect="the channels before it hold"
                )
                self._shared.figures.read_file(is_right=False)
            return
        if self._mistakes:
            self._mistakes = ""
            self._shared.figures.read_file(is_right=True)
        present = {name: notifier.channel for name, notifier in self._notifiers.items()}
        for name, channel in present.items():
            if channels.get(name) != channel:
                await self._remove(name)
        for name, channel in channels.items():
            if present.get(name) != channel:
                await self._add(channel)

    async def _add(self, channel: Channel) -> None:
        receiver: Receiver = receiver_of(channel, self._timeout_s)
        if channel.name == WEBHOOK:
            await self._look_up(channel, receiver)
        else:
            # A name that nobody answers holds up no other channel.
            looking = asyncio.create_task(self._look_up(channel, receiver))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)
        self._notifiers[channel.name] = Notifier(channel, receiver, self._shared)
        self._process.log.info("channel_open", channel=channel.name, kind=channel.kind, to=channel.shown)

    async def _look_up(self, channel: Channel, receiver: Receiver) -> None:
        """Say at once, and not with the first alert, that a channel leads nowhere or where it may not."""
        try:
            await receiver.addresses()
        except AddressRefused as refusal:
            if channel.name == WEBHOOK:
                raise
            self._process.log.error("channel_refused", channel=channel.name, reason=str(refusal))
        except (OSError, UnicodeError) as error:
            self._process.log.warning(
                "webhook_unknown", channel=channel.name, webhook=channel.shown, reason=str(error)
            )

    async def _remove(self, name: str) -> None:
        notifier = self._notifiers.pop(name)
        await notifier.finish()
        notifier.close()
        self._process.log.info("channel_closed", channel=name)
