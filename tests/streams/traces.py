"""Random traffic of two tenants that obeys what is commanded, through stage 1 and 2, in time or late."""

import heapq
import itertools
import json
import random
from collections import defaultdict, deque

from tests.streams.folding import RULES, SECOND, START, rollout
from tests.system.test_demo_decisions import BOOK, FakeMessage

from tidegate import codec
from tidegate.client.completion import complete
from tidegate.client.configuration import Configuration
from tidegate.client.handle import series_of
from tidegate.records import (
    DecisionMetric,
    DeploymentCommand,
    Evaluation,
    Feedback,
    JournalRollout,
    LLMCall,
    WindowMetricsBatch,
)
from tidegate.series import shard_partition
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK, ROLLOUTS
from tidegate_infra.kafka.ranges import Range
from tidegate_streams import fold
from tidegate_streams.aggregate.watermarks import Watermarks
from tidegate_streams.aggregate.work import shrink
from tidegate_streams.backtest import drive, files
from tidegate_streams.backtest.tally import Tally
from tidegate_streams.partials import PANE_US

TENANTS = ("acme", "initech")
JOURNALS = 2
PARTITIONS = {CALLS: 3, FEEDBACK: 2, EVALUATIONS: 2}
PANES = 8
APPLIED = 1
"""Pane at whose start the rollouts are applied."""

KINDS = {LLMCall: "call", Feedback: "feedback", Evaluation: "evaluation"}
TOPICS = {LLMCall: CALLS, Feedback: FEEDBACK, Evaluation: EVALUATIONS}
METRICS = [
    DecisionMetric(name=name, kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=4.0)
    for name in ("error_rate", "feedback.helpful", "evaluation.faithful")
]


def time_of(event):
    return event.ts_end if isinstance(event, LLMCall) else event.ts


class Trace:
    """One run: what was emitted, the journal that it became, and what was published of it.

    Parameters
    ----------
    seed
        Of everything that is random.
    late
        Whether events come after their time, some of them too late to count, and watermarks follow them; or
        each with its pane, in any order.
    windows
        Whether stage 2 forms windows beside its decisions.
    """

    def __init__(self, seed, *, late, windows=False):
        self.random = random.Random(seed)
        self.late, self.windows = late, windows
        self.specs = {
            tenant: rollout(tenant=tenant, ts=START + APPLIED * PANE_US, alpha_rollback=0.05, metrics=METRICS)
            for tenant in TENANTS
        }
        self.harm = {tenant: self.random.choice([1, 3]) for tenant in TENANTS}
        self.emitted = {tenant: [] for tenant in TENANTS}
        self.journals = {partition: [] for partition in range(JOURNALS)}
        self.published = {partition: [] for partition in range(JOURNALS)}
        self.states = {partition: fold.State(partition, RULES) for partition in range(JOURNALS)}
        self.commands = {}
        self.came_late = 0
        self._offsets = {(t, p): itertools.count() for t, n in PARTITIONS.items() for p in range(n)}
        self._ends = dict.fromkeys(self._offsets, 0)
        self._watermarks = Watermarks(0, follows_clock=False)
        self._coming, self._numbers = [], itertools.count()

    def run(self, events=()):
        """Serve, or play the events of another run."""
        for event in events:
            self._emit(event)
        pane = 0
        while pane < PANES or self._coming:
            start_us = START + pane * PANE_US
            if pane == APPLIED:
                self._apply()
            if pane < PANES and not events:
                self._serve(start_us)
            # Who works through a backlog reads many panes at once.
            if not self.late or self.random.random() < 0.4:
                self._aggregate(list(self._arrived(start_us + PANE_US)))
            self._beat(start_us + PANE_US)
            pane += 1
        return self

    def _arrived(self, until_us):
        while self._coming and self._coming[0][0] < until_us:
            yield heapq.heappop(self._coming)[2]

    def _serve(self, start_us):
        for tenant in TENANTS:
            for _ in range(self.random.randint(20, 45)):
                call = self._call(tenant, start_us + self.random.randrange(PANE_US))
                self._emit(call)
                for rating in self._ratings(call):
                    self._emit(rating)

    def _call(self, tenant, end_us):
        command = self.commands.get(tenant)
        variant = "v1"
        if command is not None:
            (variant,) = self.random.choices(
                [one.variant for one in command.weights], [one.weight_bp for one in command.weights]
            )
        is_bad = self.random.random() < 0.15 * (self.harm[tenant] if variant == "v2" else 1)
        call = LLMCall(
            ts_start=end_us - self.random.randrange(1, 3 * SECOND),
            ts_end=end_us,
            operation="chat",
            provider="openai",
            request_model="gpt-4o",
            status="error" if is_bad else "ok",
            deployment="chat",
            variant=variant,
        )
        if command is not None:
            call.assignment_unit, call.assignment_hash = "user", self.random.getrandbits(63)
            call.assignment_reason, call.assignment_revision = "split", command.revision
        return self._completed(call, tenant)

    def _completed(self, event, tenant):
        complete(event, Configuration(app="chat", tenant=tenant, environment="prod", kafka="none"), 0)
        return event

    def _ratings(self, call):
        """The candidate is judged sooner than the baseline; people take their time."""
        share = 0.15 * (self.harm[call.tenant] if call.variant == "v2" else 1)
        about = {"target_event_id": call.event_id, "series": series_of(call)}
        if self.random.random() < 0.5:
            ts = call.ts_end + self.random.choice([0, 8, 45] if call.variant == "v1" else [0, 8]) * SECOND
            passed = self.random.random() >= share
            judged = Evaluation(
                ts=ts, name="faithful", kind="judge", evaluator="judge", passed=passed, **about
            )
            yield self._completed(judged, call.tenant)
        if self.random.random() < 0.3:
            ts = call.ts_end + self.random.choice([3, 25]) * SECOND
            value = float(self.random.random() >= share)
            given = Feedback(ts=ts, name="helpful", kind="thumbs", value=value, given_by="user", **about)
            yield self._completed(given, call.tenant)

    def _emit(self, event):
        self.emitted[event.tenant].append(event)
        delay_us = self.random.choice([0, 0, 1, 2, 5, 14, 40, 75]) * SECOND if self.late else 0
        heapq.heappush(self._coming, (time_of(event) + delay_us, next(self._numbers), event))

    def _aggregate(self, arrived):
        by_place = defaultdict(list)
        for event in arrived:
            topic = TOPICS[type(event)]
            closed_us = self.states[shard_partition(event.tenant, JOURNALS)].closed_us
            self.came_late += closed_us is not None and time_of(event) < closed_us
            by_place[topic, self.random.randrange(PARTITIONS[topic])].append(event)
        entries = []
        for topic in PARTITIONS:
            ranges = [
                range_
                for place, events in sorted(by_place.items())
                if place[0] == topic
                for range_ in self._ranges(place, events)
            ]
            if ranges:
                work = shrink(ranges, [[False] * len(one.messages) for one in ranges], BOOK, JOURNALS)
                assert not work.dead
                entries += work.entries
                for number, latest_us in work.latest_us.items():
                    if topic == CALLS:
                        self._watermarks.settled(ranges[number].partition, latest_us, None)
        by_source = defaultdict(deque)
        for entry in entries:
            record = codec.decode(entry.value)
            by_source[record.topic, record.partition].append((entry.partition, record))
        while by_source:
            source = self.random.choice(sorted(by_source))
            self._take(*by_source[source].popleft())
            if not by_source[source]:
                del by_source[source]

    def _ranges(self, place, events):
        topic, partition = place
        self.random.shuffle(events)
        cut = self.random.randint(0, len(events))
        for some in (events[:cut], events[cut:]):
            if some:
                offsets = [next(self._offsets[place]) for _ in some]
                self._ends[place] = offsets[-1] + 1
                yield Range(
                    topic=topic, topic_id=f"id-{topic}", partition=partition, lo=offsets[0], hi=offsets[-1],
                    messages=[FakeMessage(*one, START + 10**12) for one in zip(some, offsets, strict=True)],
                    redo=False, epoch=1, prices=BOOK.hash,
                )  # fmt: skip

    def _beat(self, now_us):
        if not self.late:
            for partition in range(PARTITIONS[CALLS]):
                self._watermarks.settled(partition, None, now_us)
        beat = self._watermarks.heartbeat(
            "w",
            -1,
            self._ends,
            {topic: f"id-{topic}" for topic in PARTITIONS},
            self._ends,
            PARTITIONS,
            now_us,
        )
        for partition in range(JOURNALS):
            self._take(partition, beat)

    def _apply(self):
        for number, tenant in enumerate(TENANTS):
            head = {"topic_id": "r", "topic": ROLLOUTS, "partition": 0, "lo": number, "hi": number}
            head |= {"part": 0, "parts": 1, "digest": 0}
            spec = JournalRollout(**head, record=codec.encode(self.specs[tenant]))
            self._take(shard_partition(tenant, JOURNALS), spec)

    def _take(self, partition, record):
        journal = self.journals[partition]
        journal.append(record)
        outputs = fold.apply(self.states[partition], len(journal) - 1, record, windows=self.windows)
        self.published[partition] += decided(outputs)
        for output in outputs:
            if isinstance(output, DeploymentCommand):
                self.commands[output.tenant] = output

    def of(self, tenant):
        """Commands of one tenant's rollout."""
        published = self.published[shard_partition(tenant, JOURNALS)]
        return [one for one in published if isinstance(one, DeploymentCommand) and one.tenant == tenant]


def decided(outputs):
    """Without windows, which a replay leaves out."""
    return [one for one in outputs if not isinstance(one, WindowMetricsBatch)]


def backtested(spec, events, file):
    """Commands of `tidegate backtest` over events that a file holds."""
    lines = [json.dumps({"type": KINDS[type(one)], **codec.as_dict(one)}, default=str) for one in events]
    file.write_text("\n".join(lines) + "\n")
    tally = Tally(spec, BOOK)
    for piece in files.read(file, {"tenant": "-", "environment": "-", "app": "-", "variant": "-"}):
        tally.refuse(str(file), piece.refused)
        tally.add(str(file), piece.record, piece.events)
    assert not tally.named
    records = drive.decide(spec, drive.released(tally.partials()), start_us=spec.ts)
    return [one for one in records if isinstance(one, DeploymentCommand)]
