"""Exactly-once effects without transactions: claim a range, effect it, settle it.

A *claim* commits a partition's unchanged offset with the range's end in the metadata. The *effect* is a
pure function of the log and the claim, named by topic id, partition and offsets. *Settling* commits the
offset behind the range. Whoever is assigned a partition with a pending claim effects exactly that range
again, under the same name, so that the effect can be recognised.

Kafka fences commits by member and generation, not by ownership. A process that was stopped and resumed may
get its old partition back under a new member id within one poll, and its stale settle would be accepted.
Hence the *epoch*: it changes with every assignment, revocation and loss, and with every refused commit, and
a range of another epoch is worth nothing.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tidegate.errors import DependencyUnavailable, InvariantBroken, TidegateError
from tidegate_infra.kafka import client
from tidegate_infra.kafka.held import Held
from tidegate_infra.kafka.log import TRANSIENT, Log, Logs
from tidegate_infra.kafka.positions import Positions, refusals
from tidegate_infra.kafka.ranges import (
    Claim,
    Limits,
    Place,
    Range,
    made_anew,
    settled_metadata,
)
from tidegate_infra.settings import Settings

_log = structlog.get_logger(__name__)

# One call hands over at most this many messages: Python's share of the work is in whole batches, and
# rebalance callbacks run between them.
_CHUNK = 10_000
_ANSWER_S = 10.0


class ClaimLost(TidegateError):
    """The ranges are no longer this process's: drop them and poll again. Nothing was counted."""


class RangeConsumer:
    """Consumes topics in ranges, each of which can be claimed, effected and settled once.

    Parameters
    ----------
    settings
        Where Kafka is.
    group
        Name of the process in the consumer group, such as `aggregate`.
    topics
        Topics without the installation's prefix.
    max_rows, max_bytes
        A range is complete with this many messages or bytes of values.
    max_ms
        Longest time a message waits; then every partition's messages become ranges, so that they share a
        commit.
    start
        Next offset of a partition for which the group has none committed.
    max_held_bytes
        About the most bytes of values held over all partitions, ranges that are out included; four ranges
        unless given.

    Notes
    -----
    One thread. A partition has at most one range out; further messages of it wait, up to the same limits,
    and then it is paused. `poll` has to be called more often than `max.poll.interval.ms`, also while a
    store is down.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topics: Sequence[str],
        *,
        max_rows: int,
        max_bytes: int,
        max_ms: int,
        start: Callable[[Log], int],
        max_held_bytes: int | None = None,
    ) -> None:
        self.epoch = 0
        self.group = client.group_name(settings, group)
        self._plain = {settings.topic_prefix + topic: topic for topic in topics}
        self._held = Held(Limits(max_rows, max_bytes, max_ms / 1_000), max_held_bytes or 4 * max_bytes)
        self._assigned: list[Place] = []
        self._paused: set[Place] = set()
        self._member = ""
        self._unread = False
        self._logs = Logs(settings, topics)
        self._positions = Positions(self._logs, self.group, start)
        self._consumer: Consumer = client.consumer(
            settings,
            group,
            # A log that was cut below the position must be seen, not skipped.
            auto_offset_reset="error",
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            fetch_queue_backoff_ms=10,
            fetch_wait_max_ms=50,
            queued_max_messages_kbytes=65_536,
            # A commit that is not answered must end long before the process looks dead.
            socket_timeout_ms=10_000,
        )
        self._consumer.subscribe(
            list(self._plain), on_assign=self._on_assign, on_revoke=self._on_leave, on_lost=self._on_leave
        )

    def poll(self, timeout: float) -> list[Range]:
        """Read for at most `timeout` seconds and return the ranges that are complete.

        Raises
        ------
        RetentionLoss
            Events are gone from the log before they were read.
        InvariantBroken
            The log is not the one that was claimed.
        DependencyUnavailable
            Kafka refuses in a way that does not pass by itself.
        """
        if self._unread and not self._read_positions():
            self._fetch(1, timeout)
            return []
        self._read(min(timeout, self._held.wait_s(time.monotonic())))
        return [] if self._unread else self._take_due()

    def idle(self, timeout: float) -> None:
        """Stay in the group without reading on, while ranges that are out cannot be effected."""
        self._steer(paused=set(self._held.tracks))
        self._fetch(1, timeout)

    def valid(self, ranges: Sequence[Range]) -> bool:
        """Whether the ranges are still this process's to effect."""
        return not self._reason(ranges)

    def claim(self, ranges: Sequence[Range], prices: str = "") -> None:
        """Say what is about to be effected; ranges to be redone are claimed already and keep their prices.

        Raises
        ------
        ClaimLost
            The ranges were dropped; poll again.
        """
        self._check(ranges)
        self._commit_claims(self._claims(ranges, prices), ranges)

    def confirm(self, ranges: Sequence[Range]) -> None:
        """Have the group itself say that claimed ranges are still this process's: commit their claims again.

        A process that stood still finds everything as it was, until it hears of the group again.

        Raises
        ------
        ClaimLost
            The ranges were dropped; poll again.
        """
        self._check_claimed(ranges)
        self._commit([self._claim(range_) for range_ in ranges])
        # An empty group takes commits of those who are no longer its members.
        self._check(ranges)

    def settle(self, ranges: Sequence[Range]) -> None:
        """Say that all effects of the ranges stand.

        Raises
        ------
        ClaimLost
            The ranges were dropped, and will be redone by whoever owns their partitions now; poll again.
        """
        self._check_claimed(ranges)
        self._commit([self._settled(range_) for range_ in ranges])
        for range_ in ranges:
            self._held.tracks[range_.place].settle()

    def settle_and_claim(self, ranges: Sequence[Range], prices: str = "") -> list[Range]:
        """Say that all effects of the ranges stand, and claim in the same commit what is ready by now.

        Returns
        -------
        list of Range
            As of `poll`, but claimed: none when nothing is ready, or only after more company has come.

        Raises
        ------
        ClaimLost
            As for `settle`. Should the commit have arrived, its claims are redone.
        """
        self._check_claimed(ranges)
        for range_ in ranges:
            self._held.tracks[range_.place].settle()
        epoch = self.epoch
        while self._read(0) == _CHUNK and not self._held.due(time.monotonic()):
            pass
        if self.epoch != epoch:
            raise ClaimLost("ranges dropped: another assignment began before they were settled")
        following = self._take_due()
        self._check(following)
        offsets = [self._settled(range_) for range_ in ranges] + self._claims(following, prices)
        # A partition's next range begins where the one before ends, so that its claim also settles that one.
        self._commit_claims(list({(tp.topic, tp.partition): tp for tp in offsets}.values()), following)
        return following

    def positions(self) -> dict[Place, int]:
        """Offset below which everything is settled, per assigned topic and partition."""
        return {key: track.free_at() for key, track in self._held.tracks.items()}

    def ends(self, topics: Sequence[str], *, committed: bool = False) -> dict[Place, int]:
        """Where the logs of assigned partitions end: their positions, once everything is settled.

        Parameters
        ----------
        topics
            Whose partitions.
        committed
            Before the first transaction that is still open.

        Returns
        -------
        dict
            Without partitions of which Kafka does not say.
        """
        return self._logs.ends([key for key in self._held.tracks if key[0] in topics], committed=committed)

    def held_bytes(self) -> int:
        """Bytes of values that were read and are not settled."""
        return self._held.bytes

    def partition_count(self, topic: str) -> int:
        """Partitions that the topic has, assigned or not."""
        return self._logs.topic(topic).partitions

    def topic_id(self, topic: str) -> str:
        """Kafka's id of the topic."""
        return self._logs.topic(topic).id

    def close(self) -> None:
        """Leave the group. Ranges that are out stay claimed, and are redone by the next owner."""
        self._consumer.close()
        self._drop()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop()
        self._assigned = [(self._plain[tp.topic], tp.partition) for tp in partitions]
        self._unread = bool(partitions)
        # Nothing is read until the positions are known. An assignment at a logical offset would not do, even
        # paused: librdkafka asks for it again half a second after an answer that came too late, and then goes
        # on reading from there (rd_kafka_toppar_handle_Offset, 2.16).
        consumer.assign([])

    def _on_leave(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._drop()

    def _drop(self) -> None:
        self.epoch += 1
        self._assigned, self._held.tracks, self._paused, self._unread = [], {}, set(), False

    def _read_positions(self) -> bool:
        """Begin every assigned partition where the group's committed offsets say; False without an answer."""
        places = self._assigned
        member = self._consumer.memberid()
        tracks = self._positions.read(self._consumer, places) if member else None
        if tracks is None:
            return False
        self._member, self._held.tracks, self._unread = member, tracks, False
        self._consumer.assign([self._logs.at(place, track.lo) for place, track in tracks.items()])
        self._paused = set(places)
        return True

    def _read(self, timeout: float) -> int:
        """Read on where there is room; return how many messages came."""
        self._steer(paused=self._held.full())
        return self._fetch(_CHUNK, timeout)

    def _fetch(self, count: int, timeout: float) -> int:
        epoch = self.epoch
        messages: list[Any] = self._consumer.consume(count, max(timeout, 0.0))
        if self.epoch != epoch or self._unread:
            return 0
        runs: defaultdict[Place, list[Any]] = defaultdict(list)
        ends: dict[Place, int] = {}
        troubles = []
        for message in messages:
            error = message.error()
            key = (self._plain.get(message.topic(), ""), message.partition())
            if error is None:
                runs[key].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[key] = message.offset()
            else:
                troubles.append(message)
        self._take(runs, ends)
        for message in troubles:
            self._judge(message.error(), message.topic(), message.partition())
        return len(messages)

    def _take(self, runs: Mapping[Place, list[Any]], ends: Mapping[Place, int]) -> None:
        now_s = time.monotonic()
        again = [key for key, run in runs.items() if not self._held.tracks[key].add(run, now_s)]
        again += [
            key for key, end in ends.items() if key not in again and not self._held.tracks[key].passed(end)
        ]
        for key in again:
            track = self._held.tracks[key]
            _log.warning("reading_again", topic=key[0], partition=key[1], offset=track.position)
            try:
                self._consumer.seek(self._logs.at(key, track.position))
            except KafkaException as error:
                raise client.explained(error, f"reading {key[0]}[{key[1]}] again") from error

    def _judge(self, error: KafkaError, real: str | None, partition: int | None) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET and real is not None and partition is not None:
            place = self._plain[real], partition
            raise self._positions.why_nothing_at(place, self._held.tracks[place].position)
        if error.fatal() or error.code() not in TRANSIENT:
            raise DependencyUnavailable(f"Kafka refuses to be read: {real}[{partition}]: {error.str()}")
        _log.warning("kafka_trouble", error=error.str())

    def _steer(self, paused: set[Place]) -> None:
        if pause := paused - self._paused:
            self._consumer.pause([self._logs.at(place) for place in pause])
        if resume := self._paused - paused:
            self._consumer.resume([self._logs.at(place) for place in resume])
        self._paused = paused

    def _take_due(self) -> list[Range]:
        return self._held.take(self.topic_id, self.epoch, time.monotonic())

    def _reason(self, ranges: Sequence[Range]) -> str:
        """Why the ranges are not this process's; empty when they are."""
        if any(range_.epoch != self.epoch for range_ in ranges):
            return f"read in assignment {ranges[0].epoch}, it is now {self.epoch}"
        owned = {(self._plain[tp.topic], tp.partition) for tp in self._consumer.assignment()}
        if lost := [range_.name for range_ in ranges if range_.place not in owned]:
            return f"no longer assigned: {lost}"
        for range_ in ranges:
            if self._held.tracks[range_.place].out is not range_:
                return f"settled or dropped before: {range_.name}"
        # A process that was stopped for longer than its session has no member id, and an empty group takes
        # commits without one.
        if self._consumer.memberid() != self._member:
            return "the group has given this process up"
        return ""

    def _check(self, ranges: Sequence[Range]) -> None:
        if reason := self._reason(ranges):
            raise ClaimLost(f"ranges dropped: {reason}")

    def _check_claimed(self, ranges: Sequence[Range]) -> None:
        self._check(ranges)
        unclaimed = [range_.name for range_ in ranges if not self._held.tracks[range_.place].claimed]
        if unclaimed:
            raise InvariantBroken(f"settled without a claim: {unclaimed}; claim a range before its effects")

    def _claims(self, ranges: Sequence[Range], prices: str) -> list[TopicPartition]:
        """What claims the ranges; those to be redone are claimed already, and keep their prices."""
        offsets = []
        for range_ in ranges:
            if not range_.redo:
                range_.prices = prices
                offsets.append(self._claim(range_))
        return offsets

    def _claim(self, range_: Range) -> TopicPartition:
        claim = Claim(range_.hi, len(range_.messages), range_.topic_id, range_.prices)
        return self._logs.at(range_.place, range_.lo, claim.metadata())

    def _settled(self, range_: Range) -> TopicPartition:
        return self._logs.at(range_.place, range_.hi + 1, settled_metadata(range_.topic_id))

    def _commit_claims(self, offsets: list[TopicPartition], ranges: Sequence[Range]) -> None:
        """Commit, and find out that what was read is of the topics that were assigned.

        A topic that is deleted and made anew between two looks of the client is simply read on, from the same
        offset. It has another id from then on: what was read while it had the old one is the old one's.
        """
        answers = self._logs.ask() if ranges else {}
        self._commit(offsets)
        before = {topic: self.topic_id(topic) for topic in self._plain.values()}
        try:
            self._logs.hear(answers)
        except KafkaException as error:
            self._unanswered()
            raise ClaimLost(f"it is not known whether the topics are still the same: {error}") from error
        for topic, topic_id in before.items():
            if self.topic_id(topic) != topic_id:
                raise made_anew(topic, topic_id, self.topic_id(topic))
        for range_ in ranges:
            self._held.tracks[range_.place].claimed = True

    def _commit(self, offsets: list[TopicPartition]) -> None:
        if refused := refusals(self._consumer, offsets):
            self._unanswered()
            raise ClaimLost(f"commit refused: {refused}")

    def _unanswered(self) -> None:
        """Whether it was refused or only not answered: read the group's own word again before all else."""
        keys = self._assigned
        self._drop()
        self._assigned, self._unread = keys, bool(keys)
