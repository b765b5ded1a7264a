"""Rows into the real engine: what is stored is what was sent, and each row once."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from clickhouse_connect.driver.summary import QuerySummary
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import DependencyUnavailable, InvariantBroken
from tidegate.records import (
    Alert,
    DeploymentCommand,
    DeploymentStatus,
    DroppedCount,
    EndOfStream,
    Evaluation,
    Evidence,
    KeyValue,
    LLMCall,
    ProducerReport,
    RolloutProgress,
    SeqRange,
    Weight,
)
from tidegate.series import comparable
from tidegate.topics import (
    ALERTS,
    CALLS,
    DEPLOYMENTS,
    DLQ,
    EVALUATIONS,
    FEEDBACK,
    METRICS,
    PRODUCERS,
    PROGRESS,
    STATUS,
)
from tidegate.vocabulary import STATUS as CALL_STATUSES
from tidegate_consumers.sink.facts import FACTS, TABLES, Reading, facts
from tidegate_consumers.sink.store import Store, gaps
from tidegate_infra.kafka.dead_letters import REQUEUED_HEADER, DeadLetter
from tidegate_infra.kafka.log import Log
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.prices import PriceBook
from tidegate_infra.settings import Settings
from tidegate_streams.rollouts.strata import RATES

BOOK = PriceBook.load()


@pytest.fixture
def store(migrated: None, settings: Settings) -> Iterator[Store]:
    opened = Store(settings)
    yield opened
    opened.close()


def put(
    store: Store, range_: Range, copies: list[bool] | None = None, *, doubtful: bool = False
) -> dict[str, int]:
    reading = Reading(copies if copies is not None else [False] * len(range_.messages), BOOK)
    return store.put(range_, facts(range_, reading), doubtful=doubtful).rows


def rows(store: Store, query: str) -> list[Any]:
    return [tuple(row) for row in store._client.query(query).result_rows]


def test_a_call_is_stored_as_it_was_sent(
    store: Store, full_call: Callable[..., LLMCall], ranged: Any
) -> None:
    call = full_call()
    now_s = int(time.time())  # bodies are kept for a while from when they came
    assert put(store, ranged([call], appended_ms=now_s * 1_000)) == {"calls": 1, "call_bodies": 1}
    [row] = store._client.query("SELECT * FROM calls").named_results()
    us = 1_000_000
    for name in ("ts_start", "ts_end"):
        assert row[name].replace(tzinfo=UTC) == datetime.fromtimestamp(getattr(call, name) / us, UTC)
    assert row["ts"] == row["ts_end"]
    assert row["latency_us"] == 1_250_000
    plain = {
        "attributes",
        "usage_other",
        "guardrails",
        "routing",
        "retrieval",
        "content",
        "ts_start",
        "ts_end",
    }
    for name in LLMCall.__dataclass_fields__.keys() - plain:
        assert row[name] == getattr(call, name), name
    assert row["attributes"] == {"k": "v", "k2": ""}
    assert row["usage_other"] == [{"unit": "web_searches", "quantity": 1.5}]
    assert [guardrail["name"] for guardrail in row["guardrails"]] == ["pii", "toxic"]
    assert row["guardrails"][0] == {
        "name": "pii", "stage": "input", "triggered": False, "action": "none", "result_raw": None,
        "categories": ["a", "b"], "score": 0.25, "duration_us": None, "policy_version": None,
    }  # fmt: skip
    assert (row["routing_router"], row["routing_query_words"], row["routing_score"]) == ("r", 4, None)
    assert (row["retrieval_count"], row["retrieval_doc_ids"]) == (2, ["d1", "d2"])
    assert row["has_content"]
    assert (row["_topic_id"], row["_partition"], row["_offset"]) == ("topic/id", 3, 0)
    assert row["append_ts"].replace(tzinfo=UTC) == datetime.fromtimestamp(now_s, UTC)
    [body] = store._client.query("SELECT * FROM call_bodies").named_results()
    assert (body["event_id"], body["input"], body["output"]) == (call.event_id, "Why?", "Because ü.")
    assert (body["context"], body["bytes"], body["masked_count"], body["truncated"]) == (None, 15, 1, False)


def test_what_is_unknown_stays_unknown(store: Store, call: Callable[..., LLMCall], ranged: Any) -> None:
    put(store, ranged([call(request_model="nobody-knows-this", outcome=None), call()]))
    unpriced, priced = rows(
        store,
        "SELECT cost_usd, cost_status, ttft_us, routing_router, retrieval_count, has_content FROM calls "
        "ORDER BY _offset",
    )
    assert unpriced == (None, "unpriced", None, None, None, False)
    assert priced == (Decimal("0.004500000"), "priced", None, None, None, False)
    assert rows(store, "SELECT DISTINCT price_version FROM calls") == [(BOOK.hash,)]


def test_time_from_the_future_is_clamped_as_windows_do(
    store: Store, call: Callable[..., LLMCall], ranged: Any
) -> None:
    put(store, ranged([call(ts_end=1_760_000_011_000_001)]))
    assert rows(store, "SELECT toUnixTimestamp64Micro(ts), toUnixTimestamp64Micro(ts_end) FROM calls") == [
        (1_760_000_011_000_000, 1_760_000_011_000_001)
    ]


def test_comparable_in_the_store_is_the_rule_of_the_contract(store: Store, call: Any, ranged: Any) -> None:
    calls = [
        call(traffic=traffic, assignment_reason=reason, attempt=attempt, cache_hit=hit, head_sampled=sampled)
        for traffic in ("live", "shadow")
        for reason in (None, "split", "static", "default", "targeting_match")
        for attempt in (1, 2)
        for hit in (False, True)
        for sampled in (False, True)
    ]
    put(store, ranged(calls))
    expected = [
        comparable(one.traffic, one.assignment_reason or "", one.attempt, one.cache_hit, one.head_sampled)
        for one in calls
    ]
    assert [stored for (stored,) in rows(store, "SELECT comparable FROM calls ORDER BY _offset")] == expected
    assert 0 < sum(expected) < len(expected)


def test_the_share_of_errors_in_the_store_is_the_metric_error_rate(
    store: Store, call: Any, ranged: Any
) -> None:
    put(store, ranged([call(status=status, assignment_reason="split") for status in CALL_STATUSES]))
    _, failed = RATES["error_rate"]
    assert rows(store, "SELECT error_share FROM variant_health") == [(len(failed) / len(CALL_STATUSES),)]


def test_every_message_is_in_exactly_one_account(store: Store, call: Any, ranged: Any) -> None:
    bad = call(ts_end=1)
    good, again = call(producer_id="p", seq=1), call(producer_id="p", seq=2)
    range_ = ranged([good, b"poison", again, EndOfStream(run_id="r", ts=1), bad, b""], lo=10)
    assert put(store, range_, [False, False, True, False, False, False]) == {
        "calls": 1,
        "duplicates": 1,
        "dead_letters": 3,
    }
    assert rows(store, "SELECT event_id, producer_id, seq, topic, _offset FROM duplicates") == [
        (again.event_id, "p", 2, CALLS, 12)
    ]
    assert rows(
        store, "SELECT source_offset, reason, event_id, size_bytes, stage FROM dead_letters ORDER BY 1"
    ) == [
        (11, "unknown_framing", None, 6, "sink"),
        (14, "negative_duration", bad.event_id, len(range_.messages[4]), "sink"),
        (15, "empty", None, 0, "sink"),
    ]


def test_feedback_keeps_its_series_or_says_that_it_has_none(store: Store, feedback: Any, ranged: Any) -> None:
    put(store, ranged([feedback(), feedback(resolved=False)], FEEDBACK))
    assert rows(
        store,
        "SELECT has_series, app, assignment_revision, comparable, positive, comment, attributes FROM "
        "feedback ORDER BY _offset",
    ) == [
        (True, "support", 3, True, False, "wrong", {"page": "3"}),
        (False, None, None, None, False, "wrong", {"page": "3"}),
    ]


def test_the_view_of_feedback_shows_what_holds(store: Store, feedback: Any, ranged: Any) -> None:
    first = feedback(resolved=False)
    resolved = feedback(event_id=first.event_id, value=1.0)
    other = {"target_event_id": "another"}
    taken_back = feedback(**other)
    retraction = feedback(retracted=True, ts=taken_back.ts + 1, **other)
    put(store, ranged([first, resolved, taken_back, retraction], FEEDBACK))
    assert rows(store, "SELECT event_id, has_series, value FROM feedback_given") == [
        (first.event_id, True, 1.0)
    ]


EVIDENCE = Evidence(
    metric="error_rate", candidate="new", verdict="fail", n_baseline=100, n_candidate=90, unit="share",
    margin_kind="odds", rollback_margin=1.1, promotion_margin=1.2, alpha_rollback=0.01, alpha_promotion=0.05,
    sentence="worse",
)  # fmt: skip
WEIGHTS = [
    Weight(variant="base", role="baseline", weight_bp=10_000),
    Weight(variant="new", role="candidate", weight_bp=0),
]
WHO = {"tenant": "acme", "environment": "prod", "deployment": "chat"}
SMALL: list[tuple[str, Any]] = [
    (EVALUATIONS, Evaluation(event_id="e", ts=1, tenant="acme", name="faithful", target_event_id="t",
    kind="judge",
        evaluator="ragas", passed=True, cost_usd=Decimal("0.01"))),
    (DEPLOYMENTS, DeploymentCommand(**WHO, command_id="c", rollout="r", generation=1, revision=2,
    action="rollback",
        state="rolling_back", step=1, assignment_unit="user", salt="s", weights=WEIGHTS, reason="worse",
        actor="tidegate", actor_kind="controller", evidence=[EVIDENCE], ts=1_760_000_000_000_000)),
    (STATUS, DeploymentStatus(**WHO, command_id="c", revision=2, applier="router", status="applied", ts=5)),
    (PROGRESS, RolloutProgress(**WHO, rollout="r", generation=1, revision=2, state="holding", step=1, steps=3,
        reason="waiting", weights=WEIGHTS, evidence=[EVIDENCE], version=9, partition=4)),
    (ALERTS, Alert(fingerprint="f", status="firing", rule="rollback", rule_hash="h", severity="critical",
    starts_at=5,
        labels=[KeyValue(key="deployment", value="chat")], sequence=1, tenant="acme", ts=5)),
    (PRODUCERS, ProducerReport(producer_id="p", tenant="acme", app="support", sdk_version="1", host="h",
    report_seq=3,
        ts=5, accepted=10, delivered=9, last_seq=10, failed=[SeqRange(from_seq=4, to_seq=4)],
        dropped=[DroppedCount(reason="queue_full", count=2)])),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "record"), SMALL, ids=[topic for topic, _ in SMALL])
def test_every_other_record_has_its_table(store: Store, ranged: Any, topic: str, record: Any) -> None:
    table = TABLES[topic][0]
    assert put(store, ranged([record, b"poison"], topic)) == {table: 1, "dead_letters": 1}
    [row] = store._client.query(f"SELECT * FROM {table}").named_results()
    flat = {
        name: value
        for name, value in ((name, getattr(record, name)) for name in record.__dataclass_fields__)
        if isinstance(value, str | float | bool | Decimal)
    }
    assert {name: row[name] for name in flat} == flat
    if topic in (DEPLOYMENTS, PROGRESS):
        assert [weight["weight_bp"] for weight in row["weights"]] == [10_000, 0]
        assert row["evidence"][0]["sentence"] == "worse"
    if topic == PRODUCERS:
        assert row["failed"] == [{"from_seq": 4, "to_seq": 4}]


def test_a_tombstone_gives_no_row(store: Store, ranged: Any) -> None:
    range_ = ranged([dict(SMALL)[PROGRESS]], PROGRESS)
    range_.messages[0].set_value(None)
    assert put(store, range_) == {}


def test_dead_letters_keep_their_source_and_whose_event_they_were(
    store: Store, call: Any, ranged: Any
) -> None:
    bad = call(ts_end=1, producer_id="p", seq=5)
    letter = DeadLetter(
        topic=CALLS,
        topic_id="i",
        partition=2,
        offset=77,
        stage="aggregate",
        reason="negative_duration",
        error="no",
    )
    put(store, ranged([bad], DLQ, headers=letter.headers()))
    assert rows(
        store,
        "SELECT source_topic, source_topic_id, source_partition, source_offset, stage, reason, "
        "producer_id, seq FROM dead_letters",
    ) == [(CALLS, "i", 2, 77, "aggregate", "negative_duration", "p", 5)]


def test_a_stranger_among_the_dead_letters_is_counted_by_its_own_place(store: Store, ranged: Any) -> None:
    put(store, ranged([b"hello"], DLQ, lo=4))
    assert rows(store, "SELECT source_topic, source_offset, reason FROM dead_letters") == [
        (DLQ, 4, "invalid_field")
    ]


def test_the_mark_of_a_dead_letter_that_was_put_back_is_no_dead_letter(store: Store, ranged: Any) -> None:
    letter = DeadLetter(
        topic=CALLS, topic_id="i", partition=2, offset=7, stage="aggregate", reason="undecodable", error="no"
    )
    headers = [*letter.headers(), (REQUEUED_HEADER, letter.coordinates.encode())]
    assert put(store, ranged([b""], DLQ, headers=headers)) == {}


def test_one_range_is_one_block_and_its_token_is_known(store: Store, call: Any, ranged: Any) -> None:
    range_ = ranged([call() for _ in range(300)])
    put(store, range_)
    put(store, range_)
    assert rows(store, "SELECT count(), uniqExact(_part) FROM calls") == [(300, 1)]


def test_a_redo_of_a_stored_range_changes_nothing(store: Store, call: Any, ranged: Any) -> None:
    calls = [call() for _ in range(50)]
    put(store, ranged(calls))
    put(store, ranged(calls, redo=True), doubtful=True)
    assert rows(store, "SELECT count(), uniqExact(_offset) FROM calls") == [(50, 50)]


def test_rows_that_the_token_claims_and_the_engine_lost_are_inserted_again(
    store: Store, call: Any, ranged: Any
) -> None:
    calls = [call(ts_end=1_760_000_001_250_000 + day * 86_400_000_000) for day in (0, 0, 1, 1)]
    put(store, ranged(calls, appended_ms=1_770_000_000_000))
    # As after a kill between the deduplication log and the part's rename: the token is known, the rows are
    # gone.
    store._client.command("ALTER TABLE calls DELETE WHERE _offset IN (1, 2) SETTINGS mutations_sync = 1")
    redo = ranged(calls, appended_ms=1_770_000_000_000, redo=True)
    stored = store.put(redo, facts(redo, Reading([False] * 4, BOOK)), doubtful=True)
    assert stored.repaired == 2
    assert rows(store, "SELECT _offset FROM calls ORDER BY _offset") == [(0,), (1,), (2,), (3,)]


def test_an_answer_of_200_without_the_rows_is_no_success(
    store: Store, call: Any, ranged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [call() for _ in range(3)]
    with monkeypatch.context() as patch:
        # What the client makes of 200 with an exception in the body: a summary without figures.
        patch.setattr(store._client, "insert_arrow", lambda *_, **__: QuerySummary())
        for doubtful in (False, True):
            with pytest.raises(DependencyUnavailable, match="3 rows into calls"):
                put(store, ranged(calls), doubtful=doubtful)
    put(store, ranged(calls), doubtful=True)
    assert rows(store, "SELECT count() FROM calls") == [(3,)]


def test_rows_of_a_stranger_stop_the_sink(store: Store, call: Any, ranged: Any) -> None:
    calls = [call() for _ in range(4)]
    put(store, ranged(calls))
    store._client.command(
        "INSERT INTO calls SELECT * FROM calls WHERE _offset = 2 SETTINGS insert_deduplicate = 0"
    )
    with pytest.raises(InvariantBroken, match="5 rows stand"):
        put(store, ranged(calls, redo=True), doubtful=True)


def test_a_partition_without_offsets_goes_on_a_range_before_its_last_row(
    store: Store, settings: Settings, call: Any, ranged: Any
) -> None:
    log = Log(CALLS, "topic/id", 3, 7, 90)
    store._range_rows = 2
    assert store.next_offset(log) == 7
    put(store, ranged([call(), call(), call(), b"poison"], lo=20))
    assert store.next_offset(log) == 20
    assert store.next_offset(replace(log, low=22)) == 22
    assert store.next_offset(replace(log, partition=4)) == 7
    assert store.next_offset(replace(log, topic_id="another")) == 7
    # The last range may have been made when more were allowed.
    with closing(Store(settings.model_copy(update={"sink_range_rows": 2}))) as lowered:
        assert lowered.next_offset(log) == 7


def test_a_partition_without_offsets_goes_back_a_range_however_far_apart_its_messages_lie(
    store: Store, call: Any, ranged: Any
) -> None:
    store._range_rows = 2
    # Transactions of one message leave a mark behind each, and what is aborted leaves as much as it had.
    for partition, step in enumerate([2, 9]):
        offsets = range(30, 30 + 3 * step, step)
        for offset in offsets:
            put(store, ranged([call()], lo=offset, partition=partition))
        # At least the last two, and not back to where the log begins.
        assert 30 - step < store.next_offset(Log(CALLS, "topic/id", partition, 0, 90)) <= offsets[-2]


def test_rows_go_as_far_as_any_table_has_them_that_would_count_them_twice(
    store: Store, call: Any, ranged: Any
) -> None:
    put(store, ranged([call(), b"poison", call()], lo=20), [False, False, True])
    ends = [store.end(ranged([call()], lo=lo)) for lo in (7, 22, 23)]
    assert ends == [23, 23, 23]
    assert store.end(ranged([call()], partition=4)) == 0
    assert store.end(ranged([call()], topic_id="another")) == 0
    put(store, ranged([b"poison"], METRICS, lo=5, topic_id="windows"))
    assert store.end(ranged([b"poison"], METRICS, topic_id="windows")) == 6


def test_a_range_that_stood_in_part_when_its_claim_was_forgotten_is_made_whole_by_others(
    store: Store, call: Any, ranged: Any
) -> None:
    messages = [call(), b"poison", call(), call(), b"poison"]
    copies = [False, False, True, False, False]
    claimed = ranged(messages, lo=20)
    whole = facts(claimed, Reading(copies, BOOK))
    store.put(claimed, {"calls": whole["calls"]}, doubtful=False)
    # Retention took the first two, and the group was told to go on behind them.
    put(store, ranged(messages[2:4], lo=22), copies[2:4], doubtful=True)
    put(store, ranged(messages[4:], lo=24), copies[4:], doubtful=True)
    accounts = [(table, rows(store, f"SELECT _offset FROM {table} ORDER BY _offset")) for table in ACCOUNTS]
    assert accounts == [("calls", [(20,), (23,)]), ("duplicates", [(22,)]), ("dead_letters", [(24,)])]


ACCOUNTS = ("calls", "duplicates", "dead_letters")


def test_of_a_range_that_stands_in_part_in_other_ranges_only_the_rest_is_written(
    store: Store, call: Any, ranged: Any
) -> None:
    calls = [call() for _ in range(20)]
    put(store, ranged(calls[10:15], lo=10))
    put(store, ranged(calls), doubtful=True)
    assert rows(store, "SELECT count(), uniqExact(_offset) FROM calls") == [(20, 20)]


@given(lo=st.integers(0, 9), size=st.integers(0, 9), data=st.data())
def test_gaps_are_the_offsets_that_do_not_stand(lo: int, size: int, data: st.DataObject) -> None:
    standing = data.draw(st.sets(st.integers(lo, lo + size - 1))) if size else set()
    found = gaps(lo, lo + size, standing)
    assert {offset for first, last in found for offset in range(first, last + 1)} == (
        set(range(lo, lo + size)) - standing
    )
    # Neighbours are one gap.
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(found))


def test_a_loss_to_retention_is_noted_once(store: Store) -> None:
    for partition, low in ((3, 20), (3, 20), (4, 1), (3, 25), (3, 25)):
        store.note_loss(Log(CALLS, "topic/id", partition, low, 90), 7 if partition == 3 else 0)
    query = "SELECT topic, _partition, first_offset, last_offset FROM log_losses ORDER BY ALL"
    assert rows(store, query) == [(CALLS, 3, 7, 19), (CALLS, 3, 20, 24), (CALLS, 4, 0, 0)]


def test_what_stands_of_a_claimed_range_is_not_lost(store: Store, call: Any, ranged: Any) -> None:
    put(store, ranged([call(), b"poison", call()], lo=20))
    for lo, low in ((20, 22), (18, 25)):
        store.note_loss(Log(CALLS, "topic/id", 3, low, 90), lo)
    query = "SELECT first_offset, last_offset FROM log_losses ORDER BY ALL"
    assert rows(store, query) == [(18, 19), (23, 24)]


def test_the_slow_way_of_a_redo_gives_the_same_rows(full_call: Any, call: Any, ranged: Any) -> None:
    calls = [full_call(), call(), b"poison", full_call()]
    for topic in (CALLS,):
        first, redo = ranged(calls), ranged(calls, redo=True)
        quick, slow = facts(first, Reading([False] * 4, BOOK)), facts(redo, Reading([False] * 4, BOOK))
        assert quick.keys() == slow.keys() <= set(TABLES[topic])
        for name in quick:
            assert quick[name].equals(slow[name].select(quick[name].columns)), name


def test_every_topic_of_facts_says_which_tables_it_fills() -> None:
    assert FACTS.keys() == TABLES.keys()
