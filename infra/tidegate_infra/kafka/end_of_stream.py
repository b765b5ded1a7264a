"""The end of a replay, said in the stream itself."""

import uuid

from tidegate import codec
from tidegate.records import EndOfStream
from tidegate.topics import CALLS
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import Settings


def end_stream(settings: Settings, ts_us: int) -> None:
    """Raise the watermark of every partition of ``llm.calls`` to a time, and no further.

    Parameters
    ----------
    settings
        Where Kafka is.
    ts_us
        Event time up to which nothing more will come, in microseconds since the epoch.
    """
    value = codec.encode(EndOfStream(run_id=str(uuid.uuid4()), ts=ts_us))
    send(
        settings, [Outgoing(topic=CALLS, value=value, partition=n) for n in scan.partitions(settings, CALLS)]
    )
