"""Silences: alerts that nobody is told of for a while. They stand in Kafka, for every process."""

import threading
from collections.abc import Iterable

from tidegate import codec
from tidegate.records import Alert, Silence
from tidegate.topics import SILENCES
from tidegate_consumers.notify.channel import labels_of
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import Settings

LONGEST_US = 30 * 86_400_000_000
"""Kafka keeps silences for as long."""


def matches(silence: Silence, alert: Alert) -> bool:
    """Whether an alert has every label that a silence names."""
    has = labels_of(alert)
    return all(has.get(pair.key) == pair.value for pair in silence.matchers)


def is_held(alert: Alert, silences: Iterable[Silence], now_us: int) -> bool:
    """Whether an alert that is to be told now is not told."""
    return any(one.starts_at <= now_us < one.ends_at and matches(one, alert) for one in silences)


def was_held(alert: Alert, silences: Iterable[Silence]) -> bool:
    """Whether an alert that fires began under a silence, of before it."""
    return any(
        one.ts <= alert.ts and one.starts_at <= alert.ts < one.ends_at and matches(one, alert)
        for one in silences
    )


def put(settings: Settings, silence: Silence) -> None:
    """Write a silence, or another end of one."""
    value = codec.encode(silence)
    send(settings, [Outgoing(topic=SILENCES, key=silence.silence_id, value=value)])


def read(settings: Settings) -> dict[str, Silence]:
    """Read every silence that Kafka keeps, by its id."""
    return {record.silence_id: record for _, record in scan.records(settings, SILENCES) if record is not None}


class Silences:
    """The silences as they are now, followed on a thread.

    Parameters
    ----------
    settings
        Where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._known = read(settings)
        self._over = threading.Event()
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._follow, args=(settings,), daemon=True, name="silences")
        self._thread.start()

    @property
    def present(self) -> list[Silence]:
        """Every silence, past ones too.

        Raises
        ------
        TidegateError
            Kafka refuses to tell of them.
        """
        if self._broken is not None:
            raise self._broken
        return list(self._known.values())

    def close(self) -> None:
        """Follow no more."""
        self._over.set()
        self._thread.join()

    def _follow(self, settings: Settings) -> None:
        try:
            for step in scan.follow(settings, SILENCES):
                if self._over.is_set():
                    return
                if step is not None and step[1] is not None:
                    # A new mapping: whoever reads the old one is not disturbed.
                    self._known = self._known | {step[1].silence_id: step[1]}
        except Exception as error:  # noqa: BLE001 - raised where it is asked for
            self._broken = error
