"""The watch over the ledger, beside the sink's work: figures, and an alert when events are nowhere."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime, timedelta

from clickhouse_connect.driver.exceptions import ClickHouseError
from prometheus_client import Counter, Gauge

from tidegate import codec
from tidegate.errors import TidegateError
from tidegate.topics import ALERTS, CALLS, EVALUATIONS, FEEDBACK, PRODUCERS
from tidegate_consumers.sink import unbalanced
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.kafka import scan
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.kafka.settled import Settled
from tidegate_infra.ledger import LIVING_SECONDS, LedgerRow, by_hour
from tidegate_infra.process import Process

LOOKS_BACK = timedelta(hours=6)
"""An alert whose events are never found is over after so long. Twice as far takes four times as long."""

OWNER = (PRODUCERS, 0)
"""Of several workers, the one that has this partition looks."""

_ACCOUNTED = (CALLS, FEEDBACK, EVALUATIONS, PRODUCERS)
_FIRST_S = 60.0
_EVERY_S = 300.0
_ANSWER_S = 30.0
_HOUR = timedelta(hours=1)
_SETTLING = timedelta(seconds=LIVING_SECONDS)
_COUNTS = ("accepted", "stored", "duplicate", "failed", "in_flight", "missing")


class Watch:
    """Looks at the ledger every five minutes, in a thread of its own, which no stop waits for.

    Parameters
    ----------
    process
        Settings, log and metrics.
    group
        Consumer group of the sink, which must have stored an hour before it is judged.
    first_s
        When the first look is due, in seconds.
    """

    def __init__(self, process: Process, group: str, first_s: float = _FIRST_S) -> None:
        self._process = process
        self._group = group
        self._due_s = time.monotonic() + first_s
        self._look: Future[None] | None = None
        registry = process.metrics
        self._events = Gauge(
            "tidegate_ledger_events",
            "Events of the last hours, by where they are.",
            ["where"],
            registry=registry,
        )
        self._unbalanced = Gauge(
            "tidegate_ledger_unbalanced_producers",
            "Producers of the last hours with events that are nowhere.",
            ["tenant"],
            registry=registry,
        )
        self._judged = Gauge(
            "tidegate_ledger_judged_seconds",
            "End of the last hour that was judged.",
            ["group"],
            registry=registry,
        )
        self._failed = Counter(
            "tidegate_ledger_failed_looks",
            "Looks that Kafka or ClickHouse did not let come to their end.",
            registry=registry,
        )

    def turn(self, *, is_ours: bool) -> None:
        """Begin a look when one is due; a defect in the last one is raised here.

        Parameters
        ----------
        is_ours
            Whether this worker has `OWNER`. Another one shows no figures.
        """
        if self._look is not None and self._look.done():
            look, self._look = self._look, None
            look.result()
        if not is_ours:
            for gauge in (self._events, self._unbalanced, self._judged):
                gauge.clear()
        elif self._look is None and time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _EVERY_S
            self._look = Future()
            # An executor's thread would be waited for when the process ends.
            threading.Thread(target=self._once, args=(self._look,), name="ledger", daemon=True).start()

    def _once(self, done: Future[None]) -> None:
        try:
            self.look(datetime.now(UTC))
        except (TidegateError, ClickHouseError, OSError) as error:
            # Whatever is refused to the watch, the sink may still do its work.
            self._failed.inc()
            self._process.log.warning("ledger_not_judged", reason=str(error))
        except Exception as defect:  # noqa: BLE001 - raised in the next turn
            done.set_exception(defect)
            return
        done.set_result(None)

    def look(self, now: datetime) -> None:
        """Judge the hours that are long over, if all that came in them is stored; show the figures.

        Raises
        ------
        DependencyUnavailable
            Kafka or ClickHouse does not answer.
        ConfigError
            One of them refuses to be asked, or to be told.
        """
        settings = self._process.settings
        end = (now - _SETTLING).replace(minute=0, second=0, microsecond=0)
        until_ms = round((end + _SETTLING).timestamp() * 1_000)
        # Asked first: what is stored while the ledger is read must not make up for what was not before.
        with closing(Settled(settings, self._group, _ACCOUNTED)) as settled:
            is_stored = settled.reach(settled.ends_at(until_ms))
        with clickhouse.connect(settings, readonly=True, answer_seconds=_ANSWER_S) as store:
            rows = by_hour(store, since=end - LOOKS_BACK)
        self._show(rows)
        if not is_stored:
            self._process.log.info("ledger_not_judged", reason="the sink is behind", hour=end.isoformat())
            return
        over = [row for row in rows if row.hour is not None and row.hour < end]
        last = unbalanced.published(alert for _, alert in scan.records(settings, ALERTS) if alert is not None)
        alerts = unbalanced.changes(over, last, now)
        if alerts:
            send(settings, [Outgoing(topic=ALERTS, key=a.fingerprint, value=codec.encode(a)) for a in alerts])
        for one in alerts:
            self._process.log.warning(one.rule, status=one.status, tenant=one.tenant, events=one.value)
        self._judged.labels(self._group).set(end.timestamp())

    def _show(self, rows: Sequence[LedgerRow]) -> None:
        for name in _COUNTS:
            self._events.labels(name).set(sum(getattr(row, name) for row in rows))
        self._events.labels("dead_lettered").set(sum(sum(row.dead_lettered.values()) for row in rows))
        unbalanced_producers = {(row.tenant, row.producer_id) for row in rows if not row.balanced}
        self._unbalanced.clear()
        for tenant in {row.tenant for row in rows}:
            of_tenant = sum(tenant == one for one, _ in unbalanced_producers)
            self._unbalanced.labels(tenant).set(of_tenant)
