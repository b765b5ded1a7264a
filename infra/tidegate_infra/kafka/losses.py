"""What retention took before it was read is told to people: by an alert, once, before the process ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate import codec
from tidegate.errors import TidegateError
from tidegate.records import Alert, KeyValue
from tidegate.records.alert import fingerprint
from tidegate.topics import ALERTS
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.log import RetentionLoss
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.process import Process

RULE = "retention_loss"


@contextmanager
def told(process: Process) -> Iterator[None]:
    """Tell of a loss that ends the work inside; it is raised further.

    A process that is started again meets the same loss until somebody acts, and says nothing more.
    """
    try:
        yield
    except RetentionLoss as loss:
        said = alert(process.name, loss, time.time_ns() // 1_000)
        try:
            known = scan.records(process.settings, ALERTS)
            if not any(one is not None and one.fingerprint == said.fingerprint for _, one in known):
                message = Outgoing(topic=ALERTS, key=said.fingerprint, value=codec.encode(said))
                send(process.settings, [message])
        except TidegateError as error:
            process.log.error("loss_not_told", reason=str(error))
        raise


def alert(name: str, loss: RetentionLoss, ts_us: int) -> Alert:
    """Say what is lost, whose it was to read, and what to do. It never resolves: the events stay lost.

    Parameters
    ----------
    name
        The process.
    loss
        What it found.
    ts_us
        When, in microseconds since the epoch.
    """
    log = loss.log
    labels = {
        "rule": RULE,
        "process": name,
        "topic": log.topic,
        "topic_id": log.topic_id,
        "partition": str(log.partition),
        "first_offset": str(loss.lo),
    }
    return Alert(
        fingerprint=fingerprint(labels),
        status="firing",
        rule=RULE,
        rule_hash=fingerprint({"rule": RULE}),
        severity="critical",
        labels=[KeyValue(key=key, value=value) for key, value in sorted(labels.items())],
        annotations=[KeyValue(key="summary", value=f"{name} has stopped. {loss}")],
        starts_at=ts_us,
        value=float(log.low - loss.lo),
        threshold=0.0,
        unit="events",
        sequence=1,
        tenant="",
        ts=ts_us,
    )
