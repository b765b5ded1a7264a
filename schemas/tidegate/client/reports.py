"""The client's own account of its events: the left side of the ledger."""

import socket
import threading
import uuid
from collections import Counter

from tidegate.client.configuration import Configuration
from tidegate.records import DroppedCount, ProducerReport, SeqRange

MAX_FAILED_RANGES = 1_000
"""Above this, neighbouring ranges are joined over what lies between. The ledger subtracts what it has seen
from a failed range, so a range may be too wide and never too narrow."""


class Account:
    """Counts of one producer, from its start.

    `drop` may be called from any thread; everything else belongs to the worker's.

    Parameters
    ----------
    configuration
        Names the tenant and the app.
    sdk_version
        Version of the client.
    """

    def __init__(self, configuration: Configuration, sdk_version: str) -> None:
        self.producer_id = str(uuid.uuid4())
        self.last_seq = 0
        self.delivered = 0
        self._configuration = configuration
        self._sdk_version = sdk_version
        self._failed: list[SeqRange] = []
        self._dropped: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._report_seq = 0
        self._reported: object = None

    @property
    def failed(self) -> int:
        """How many events are in failed ranges."""
        return sum(r.to_seq - r.from_seq + 1 for r in self._failed_ranges())

    @property
    def dropped(self) -> dict[str, int]:
        """How many events never got a seq, by reason."""
        with self._lock:
            return dict(self._dropped)

    def accept(self) -> int:
        """Count an event that is about to be sent; return its seq."""
        self.last_seq += 1
        return self.last_seq

    def drop(self, reason: str) -> None:
        """Count an event that was refused or for which there was no room."""
        with self._lock:
            self._dropped[reason] += 1

    def fail(self, seq: int) -> None:
        """Note that Kafka did not confirm an event."""
        self._failed.append(SeqRange(from_seq=seq, to_seq=seq))
        if len(self._failed) > 4 * MAX_FAILED_RANGES:
            self._failed_ranges()

    def _failed_ranges(self) -> list[SeqRange]:
        self._failed = merged(self._failed, MAX_FAILED_RANGES)
        return list(self._failed)

    def report(self, now_us: int, *, final: bool = False) -> ProducerReport | None:
        """Return the account as a record; None when nothing changed since the last one."""
        failed = self._failed_ranges()
        state = (self.last_seq, self.delivered, failed, self.dropped, final)
        if state == self._reported:
            return None
        self._reported = state
        self._report_seq += 1
        return ProducerReport(
            producer_id=self.producer_id,
            tenant=self._configuration.tenant,
            app=self._configuration.app,
            sdk_version=self._sdk_version,
            host=socket.gethostname(),
            report_seq=self._report_seq,
            ts=now_us,
            final=final,
            accepted=self.last_seq,
            delivered=self.delivered,
            last_seq=self.last_seq or None,
            failed=failed,
            dropped=[DroppedCount(reason=reason, count=n) for reason, n in sorted(self.dropped.items())],
        )


def merged(ranges: list[SeqRange], limit: int) -> list[SeqRange]:
    """Return ranges in order, without overlaps or neighbours, at most `limit` of them.

    Where there are too many, those with the narrowest gaps between them are joined.
    """
    joined: list[SeqRange] = []
    for r in sorted(ranges, key=lambda r: r.from_seq):
        if joined and r.from_seq <= joined[-1].to_seq + 1:
            joined[-1] = SeqRange(from_seq=joined[-1].from_seq, to_seq=max(joined[-1].to_seq, r.to_seq))
        else:
            joined.append(r)
    surplus = len(joined) - limit
    if surplus <= 0:
        return joined
    gaps = sorted(range(1, len(joined)), key=lambda i: joined[i].from_seq - joined[i - 1].to_seq)
    starts = sorted({0, *gaps[surplus:]})
    ends = [*(start - 1 for start in starts[1:]), len(joined) - 1]
    return [
        SeqRange(from_seq=joined[first].from_seq, to_seq=joined[last].to_seq)
        for first, last in zip(starts, ends, strict=True)
    ]
