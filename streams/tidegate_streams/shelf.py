"""Where snapshots are kept: llm.snapshots, one partition for each of the journal."""

import time
from collections import defaultdict
from collections.abc import Iterable

from confluent_kafka import KafkaException, TopicPartition

from tidegate import topics
from tidegate.errors import ContractError, DependencyUnavailable
from tidegate_infra.crashpoint import crashpoint
from tidegate_infra.kafka import client
from tidegate_infra.process import Process
from tidegate_streams import fold, frozen, readback, snapshots
from tidegate_streams.frozen import Frozen
from tidegate_streams.snapshots import Source

_FLUSH_SECONDS = 60.0
_TURN_SECONDS = 0.5
_ANSWER_SECONDS = 10.0


class Shelf:
    """Snapshots of the journals of one installation, as this release makes them.

    All of it waits for Kafka: call it from a thread.

    Parameters
    ----------
    process
        Settings and log.
    journal_id
        Kafka's id of the journal.
    rules
        Those of the fold.
    """

    def __init__(self, process: Process, journal_id: str, rules: fold.Rules) -> None:
        self._settings = process.settings
        self._log = process.log
        self._stopping = process.stopping
        self._journal_id = journal_id
        self._release = snapshots.release(rules)
        self._topic = self._settings.topic_prefix + topics.SNAPSHOTS
        self._kept_from: dict[int, int] = {}

    def read(self, partitions: Iterable[int]) -> dict[int, list[bytes]]:
        """Return the messages that are kept of some journal partitions.

        Raises
        ------
        DependencyUnavailable
            Kafka does not answer.
        """
        kept: dict[int, list[bytes]] = defaultdict(list)
        places = {(topics.SNAPSHOTS, partition): None for partition in partitions}
        for message in readback.messages(self._settings, places):
            kept[message.partition() or 0].append(message.value() or b"")
        return kept

    def newest(
        self, kept: Iterable[bytes], partition: int, start: int, end: int
    ) -> tuple[int, fold.State] | None:
        """Return the newest state that a journal partition may go on from, and the offset to go on at.

        Parameters
        ----------
        kept
            What `read` returned of the partition.
        partition
            Of the journal.
        start, end
            First offset that it still has, and its end.
        """
        found = snapshots.newest(kept, self._source(partition), start, end)
        if found is None:
            return None
        next_offset, packed = found
        try:
            state = frozen.thaw(packed)
        except ContractError as error:
            self._log.error("snapshot not used", partition=partition, next_offset=next_offset, why=str(error))
            return None
        return (next_offset, state) if isinstance(state, fold.State) else None

    def write(self, partition: int, next_offset: int, state: Frozen) -> None:
        """Keep a snapshot, and let go of those before the last but one, which stands in for a damaged last.

        Raises
        ------
        DependencyUnavailable
            Kafka did not take all of it: what it took is no snapshot, and does no harm.
        """
        offsets: list[int] = []
        refused: list[str] = []

        def on_delivery(error: object, message: object) -> None:
            refused.append(str(error)) if error else offsets.append(message.offset())  # type: ignore[attr-defined]

        # One for each: its log waits to be asked for. Pieces may be there twice, so it is made quickly.
        producer = client.producer(self._settings, enable_idempotence=False)
        for piece in snapshots.cut(self._source(partition), next_offset, state.pack()):
            try:
                producer.produce(self._topic, piece, partition=partition, on_delivery=on_delivery)
            except (KafkaException, BufferError) as error:
                refused.append(str(error))
                break
            crashpoint("stream.mid_snapshot")
        deadline = time.monotonic() + _FLUSH_SECONDS
        while (unsent := producer.flush(_TURN_SECONDS)) and time.monotonic() < deadline:
            if self._stopping.is_set():
                return
        if refused or unsent:
            raise DependencyUnavailable(
                f"Kafka did not take a snapshot to {self._topic}[{partition}]: "
                f"{refused[0] if refused else 'it did not answer'}"
            )
        before = self._kept_from.get(partition)
        self._kept_from[partition] = min(offsets)
        if before is not None:
            self._delete(partition, before)

    def _delete(self, partition: int, before: int) -> None:
        admin = client.admin(self._settings)
        [answer] = admin.delete_records([TopicPartition(self._topic, partition, before)]).values()
        try:
            answer.result(timeout=_ANSWER_SECONDS)
        except KafkaException as error:
            raise client.explained(error, f"deleting old snapshots of {self._topic}[{partition}]") from error

    def _source(self, partition: int) -> Source:
        return Source(self._journal_id, partition, self._release)
