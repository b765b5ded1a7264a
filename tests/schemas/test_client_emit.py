"""What `emit` takes, refuses, drops and counts, in memory."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.client import completion
from tidegate.client.client import Client
from tidegate.client.reports import merged
from tidegate.client.transport import MemoryTransport
from tidegate.records import Content, Feedback, LLMCall, ProducerReport, SeqRange

CALL_ID = "019ca94e-fd00-7000-8000-5f6fdb5b3a01"

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]
Records = Callable[[MemoryTransport, type], list[Any]]


def test_an_emitted_call_is_completed_and_named(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
    memory = MemoryTransport()
    client = new_client(memory, app_version="1.2")
    event_id = client.emit(new_call())
    assert client.flush(5)
    (call,) = records(memory, LLMCall)
    assert call.event_id == event_id
    assert event_id is not None
    assert event_id[14] == "7"
    assert (call.tenant, call.app, call.environment, call.app_version) == ("default", "app", "test", "1.2")
    assert (call.deployment, call.variant, call.assignment_reason) == ("app", "default", None)
    assert (call.producer_id, call.seq) == (client.counts.producer_id, 1)


def test_what_an_event_says_itself_is_kept(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    client.emit(new_call(tenant="acme", app="other", environment="prod", deployment="bot", variant="v2"))
    assert client.flush(5)
    (call,) = records(memory, LLMCall)
    assert (call.tenant, call.app, call.environment) == ("acme", "other", "prod")
    assert (call.deployment, call.variant) == ("bot", "v2")


def test_a_refused_event_is_logged_with_its_field_and_counted(
    new_client: NewClient, new_call: NewCall, caplog: pytest.LogCaptureFixture
) -> None:
    client = new_client()
    for _ in range(5):
        assert client.emit(new_call(output_tokens=-3)) is None
    assert client.emit(new_call(provider=None)) is None
    assert client.counts.dropped == {"negative": 5, "missing": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "LLMCall refused: output_tokens: -3 is negative",
        "LLMCall refused: provider: is missing",
    ]


def test_a_full_queue_drops_the_newest_and_counts_them(
    new_client: NewClient, new_call: NewCall, silent: MemoryTransport
) -> None:
    client = new_client(silent, queue_events=10)
    emitted = [client.emit(new_call()) for _ in range(25)]
    assert [e is not None for e in emitted] == [True] * 10 + [False] * 15
    assert client.counts.dropped == {"queue_full": 15}


def test_the_queue_is_bounded_by_bytes_too(
    new_client: NewClient, new_call: NewCall, silent: MemoryTransport
) -> None:
    client = new_client(silent, queue_bytes=100_000, content=True)
    body = "x" * 30_000
    emitted = [client.emit(new_call(content=Content(input=body, bytes=0))) for _ in range(5)]
    assert [e is not None for e in emitted] == [True, True, True, False, False]


def test_confirmed_events_make_room(new_client: NewClient, new_call: NewCall) -> None:
    client = new_client(queue_events=10)
    for _ in range(10):
        for _ in range(10):
            assert client.emit(new_call()) is not None
        assert client.flush(5)
    assert client.counts.delivered == 100


def test_a_batch_tool_may_wait_for_room(new_client: NewClient, new_call: NewCall) -> None:
    client = new_client(queue_events=5, when_full="wait")
    assert all(client.emit(new_call()) for _ in range(100))
    assert client.flush(5)
    assert (client.counts.delivered, client.counts.dropped) == (100, {})


def test_threads_share_a_client_without_losing_count(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
    memory = MemoryTransport()
    client = new_client(memory)

    def run() -> None:
        for i in range(200):
            client.emit(new_call(ttft_us=-1 if i % 2 else 1))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(10)
    assert client.counts.dropped == {"negative": 800}
    assert sorted(call.seq for call in records(memory, LLMCall)) == list(range(1, 801))


def test_events_that_kafka_refuses_are_in_the_failed_ranges(
    new_client: NewClient, new_call: NewCall, refusing: Any, records: Records
) -> None:
    client = new_client(refusing)
    calls = [new_call() for _ in range(6)]
    for call in calls:
        call.event_id = completion.new_event_id()
    refusing.keys = {calls[i].event_id for i in (1, 2, 4)}
    for call in calls:
        client.emit(call)
    assert not client.flush(5), "three were refused"
    assert client.flush(5), "none was refused since"
    client.shutdown(2)
    last = records(refusing, ProducerReport)[-1]
    assert [(r.from_seq, r.to_seq) for r in last.failed] == [(2, 3), (5, 5)]
    assert (last.accepted, last.delivered, last.final) == (6, 3, True)


def test_an_event_that_cannot_be_written_leaves_no_gap(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    client.emit(new_call())
    client.emit(new_call(session_id="\ud800"))
    client.emit(new_call())
    assert client.flush(5)
    assert [call.seq for call in records(memory, LLMCall)] == [1, 2]
    assert client.counts.dropped == {"unencodable": 1}


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_emitted_raises(
    new_client: NewClient, new_call: NewCall, data: st.DataObject
) -> None:
    class Hostile:
        def __eq__(self, other: object) -> bool:
            raise ValueError

        def __bool__(self) -> bool:
            raise ValueError

        def __repr__(self) -> str:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    odd = st.sampled_from(
        [Hostile(), None, -1, 2**70, "\ud800", b"", [Hostile()], {"a": 1}, float("nan"), object]
    )
    client = new_client()
    event = new_call()
    for name in data.draw(st.lists(st.sampled_from(LLMCall.__slots__), max_size=4)):
        setattr(event, name, data.draw(odd))
    client.emit(event)
    client.emit(data.draw(odd))
    client.emit(new_call(), data.draw(odd))
    client.emit(Feedback(name="n", kind="thumbs", given_by="user"), target=data.draw(odd))
    assert client.flush(5)
    client.shutdown(1)


def test_flush_says_false_when_time_runs_out(
    new_client: NewClient, new_call: NewCall, silent: MemoryTransport
) -> None:
    client = new_client(silent)
    client.emit(new_call())
    started = time.monotonic()
    assert not client.flush(0.2)
    assert time.monotonic() - started < 2


def test_shutdown_says_how_many_were_lost_and_reports_them(
    new_client: NewClient, new_call: NewCall, silent: MemoryTransport, records: Records
) -> None:
    client = new_client(silent)
    for _ in range(3):
        client.emit(new_call())
    assert client.shutdown(1.5) == 3
    last = records(silent, ProducerReport)[-1]
    assert [(r.from_seq, r.to_seq) for r in last.failed] == [(1, 3)]
    assert client.emit(new_call()) is None
    assert client.counts.dropped == {"closed": 1}


def test_feedback_knows_whether_it_is_good(new_client: NewClient, records: Records) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    for kind, value in [("thumbs", 1.0), ("thumbs", 0.0), ("stars", 4.0), ("stars", 3.0), ("stars", 2.0)]:
        client.emit(Feedback(name="n", kind=kind, value=value, given_by="user", target_event_id=CALL_ID))
    assert client.flush(5)
    assert [f.positive for f in records(memory, Feedback)] == [True, False, True, None, False]


ranges = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 5)), max_size=40)


@given(ranges, st.integers(1, 10))
def test_failed_ranges_may_grow_and_never_shrink(pairs: list[tuple[int, int]], limit: int) -> None:
    given_ranges = [SeqRange(from_seq=a, to_seq=a + n) for a, n in pairs]
    seqs = {s for r in given_ranges for s in range(r.from_seq, r.to_seq + 1)}

    def covered(found: list[SeqRange]) -> set[int]:
        return {s for r in found for s in range(r.from_seq, r.to_seq + 1)}

    assert covered(merged(given_ranges, 1_000)) == seqs
    few = merged(given_ranges, limit)
    assert len(few) <= limit
    assert covered(few) >= seqs
    assert all(a.to_seq < b.from_seq for a, b in pairwise(few))


def test_what_the_stream_would_refuse_is_refused_at_once_and_counted(
    new_client: NewClient, new_call: NewCall, caplog: pytest.LogCaptureFixture
) -> None:
    client = new_client()
    thumb = Feedback(name="helpful", kind="thumbs", value=7, given_by="user", target_session_id="s")
    with caplog.at_level(logging.WARNING, "tidegate"):
        assert client.emit(new_call(variant="v" * 257)) is None
        assert client.emit(thumb) is None
    assert client.counts.dropped == {"too_long": 1, "out_of_range": 1}
    assert [r.getMessage() for r in caplog.records] == [
        f"LLMCall refused: variant: {'v' * 20}… is 257 bytes long, at most 256",
        "Feedback refused: value: 7 is no thumb: 1 is up, 0 is down",
    ]


def test_a_signal_handler_may_emit_while_its_thread_emits(new_client: NewClient, new_call: NewCall) -> None:
    client = new_client()

    def interrupt(signum: int, frame: object) -> None:
        client.emit(new_call())

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        emitted = sum(client.emit(new_call()) is not None for _ in range(2_000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert emitted == 2_000
    assert client.flush(10)
    assert client.counts.delivered > 2_000
