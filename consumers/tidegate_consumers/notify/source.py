"""The records of a consumer group, read on while earlier ones wait, committed when they are done."""

from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate_consumers.notify.offsets import Offsets
from tidegate_infra.kafka import client
from tidegate_infra.settings import Settings

Place = tuple[str, int]

MOST_WAITING = 100
"""Where each record is told for itself: a hundred that wait say that the receiver is down."""

_log = structlog.get_logger(__name__)

_ANSWER_S = 5.0
_COMMIT_MS = 200

# What only a person can repair; the rest librdkafka repairs by itself, and says so meanwhile.
_FINAL = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)


class Source:
    """Reads topics record by record; never waits.

    Parameters
    ----------
    settings
        Where Kafka is.
    group
        Name of the process in the consumer group.
    topics
        Topics without the installation's prefix.
    most_waiting
        Records of a partition that wait at a time; then it is paused, and polled on.

    Notes
    -----
    A group that never was begins at the end. That beginning is committed before anything is read, so that
    what comes in while the process is down is not taken for the past.
    """

    def __init__(
        self, settings: Settings, group: str, topics: Sequence[str], most_waiting: int = MOST_WAITING
    ) -> None:
        self._most_waiting = most_waiting
        self._plain = {settings.topic_prefix + topic: topic for topic in topics}
        self._real = {topic: real for real, topic in self._plain.items()}
        self._offsets: dict[Place, Offsets] = {}
        self._settled: dict[Place, int] = {}
        self._starts: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._assigned: list[Place] = []
        self._unread = True
        self.epoch = 0
        self._consumer: Consumer = client.consumer(
            settings,
            group,
            # Only what `settle` hands over is committed: in the background, so that a coordinator that is
            # away stops nothing, and once more when partitions are given back.
            enable_auto_commit=True,
            auto_commit_interval_ms=_COMMIT_MS,
            enable_auto_offset_store=False,
            fetch_wait_max_ms=100,
        )
        self._consumer.subscribe(
            list(self._plain), on_assign=self._on_assign, on_revoke=self._on_leave, on_lost=self._on_leave
        )

    @property
    def has_begun(self) -> bool:
        """Whether it stands where its partitions begin: nothing published from now on is missed."""
        return not self._unread

    def begun_at(self, topic: str) -> int:
        """Return the offset at which a topic of one partition was taken up; 0 if another has it."""
        return self._starts.get((topic, 0), 0)

    def read(self) -> list[tuple[str, Message]]:
        """Return what came in, with its topic. Each record has to be `done` at some time.

        Raises
        ------
        TidegateError
            Kafka refuses for good.
        """
        if self._unread and self._assigned:
            self._begin()
        epoch = self.epoch
        messages = self._consumer.consume(self._most_waiting, 0)
        if self._unread or self.epoch != epoch:
            return []
        came = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._judge(error)
                continue
            topic = self._plain[str(message.topic())]
            self._offsets[topic, _number(message.partition())].read(_number(message.offset()))
            came.append((topic, message))
        self._steer()
        return came

    def done(self, topic: str, message: Message, epoch: int) -> None:
        """Note that a record need not be read again; in another epoch it belongs to somebody else."""
        if epoch == self.epoch:
            self._offsets[topic, _number(message.partition())].done(_number(message.offset()))

    def settle(self) -> None:
        """Have committed what is done."""
        for place, offsets in self._offsets.items():
            if offsets.next != self._settled[place]:
                topic, number = place
                self._consumer.store_offsets(
                    offsets=[TopicPartition(self._real[topic], number, offsets.next)]
                )
                self._settled[place] = offsets.next

    def standing(self) -> dict[str, tuple[int, int]]:
        """Return by topic how many records wait, and how many are not done at all."""
        found = dict.fromkeys(self._real, (0, 0))
        for (topic, number), offsets in self._offsets.items():
            _, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._real[topic], number), cached=True
            )
            waiting, lag = found[topic]
            found[topic] = (waiting + offsets.waiting, lag + max(0, high - offsets.next))
        return found

    def close(self) -> None:
        """Commit what is done, and leave the group."""
        self.settle()
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop()
        self._assigned = [(self._plain[tp.topic], tp.partition) for tp in partitions]
        self._unread = bool(partitions)
        # Nothing is read until it is known where they begin, and never at a logical offset: see
        # `tidegate_infra.kafka.claims`.
        consumer.assign([])

    def _on_leave(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._drop()

    def _drop(self) -> None:
        self.epoch += 1
        self._offsets, self._settled, self._paused = {}, {}, set()
        self._assigned, self._unread = [], True

    def _begin(self) -> None:
        """Take up every partition where the group left it; without an answer, at the next turn."""
        asked = [TopicPartition(self._real[topic], number) for topic, number in self._assigned]
        starts: dict[Place, int] = {}
        fresh = []
        try:
            for tp in self._consumer.committed(asked, timeout=_ANSWER_S):
                if tp.error is not None:
                    raise KafkaException(tp.error)
                low, high = self._consumer.get_watermark_offsets(tp, timeout=_ANSWER_S)
                place = (self._plain[tp.topic], tp.partition)
                starts[place] = _start(place, tp.offset, low, high)
                if starts[place] != tp.offset:
                    fresh.append(TopicPartition(tp.topic, tp.partition, starts[place]))
            if fresh:
                self._consumer.commit(offsets=fresh, asynchronous=False)
        except KafkaException as error:
            self._judge(error.args[0])
            return
        begins = [TopicPartition(self._real[topic], number, at) for (topic, number), at in starts.items()]
        self._consumer.assign(begins)
        # A pause outlives its assignment; once something was read, to resume what is not paused repeats it.
        self._consumer.resume(begins)
        self._offsets = {place: Offsets(at) for place, at in starts.items()}
        self._settled = dict(starts)
        self._starts = starts
        self._unread = False

    def _steer(self) -> None:
        full = {place for place, offsets in self._offsets.items() if offsets.waiting >= self._most_waiting}
        if pausing := full - self._paused:
            self._consumer.pause([TopicPartition(self._real[topic], n) for topic, n in pausing])
        if resuming := self._paused - full:
            self._consumer.resume([TopicPartition(self._real[topic], n) for topic, n in resuming])
        self._paused = full

    def _judge(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _FINAL:
            raise client.explained(KafkaException(error), "reading what is to be delivered")
        _log.warning("kafka_trouble", error=error.str())


def _start(place: Place, committed: int, low: int, high: int) -> int:
    if committed < 0:
        return high
    if committed > high:
        _log.error(
            "log_replaced", topic=place[0], committed=committed, end=high, effect="read from its start"
        )
        return low
    if committed < low:
        _log.error("lost_to_retention", topic=place[0], records_at_most=low - committed, first_left=low)
        return low
    return committed


def _number(value: Any) -> int:
    # Messages that carry no error have all their coordinates; the stubs do not know.
    return int(value)
