"""What `emit` takes, refuses, drops and counts, in memory."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from inspect import ismodule
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tidegate
from tidegate.client import completion, current
from tidegate.client.client import Client
from tidegate.client.notices import Notices
from tidegate.client.off import Off
from tidegate.client.reports import merged
from tidegate.client.transport import MemoryTransport, Settled
from tidegate.codec import decode
from tidegate.errors import ConfigError
from tidegate.records import Content, Evaluation, Feedback, LLMCall, ProducerReport, SeqRange
from tidegate.testing import capture

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]


def records(transport: MemoryTransport, kind: type) -> list[Any]:
    return [r for r in (decode(sent.value) for sent in transport.sent) if isinstance(r, kind)]


def test_an_emitted_call_is_completed_and_named(new_client: NewClient, new_call: NewCall) -> None:
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


def test_what_an_event_says_itself_is_kept(new_client: NewClient, new_call: NewCall) -> None:
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


def test_threads_share_a_client_without_losing_count(new_client: NewClient, new_call: NewCall) -> None:
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
    new_client: NewClient, new_call: NewCall, refusing: Any
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


def test_an_event_that_cannot_be_written_leaves_no_gap(new_client: NewClient, new_call: NewCall) -> None:
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


def test_bodies_are_withheld_unless_asked_for(new_client: NewClient, new_call: NewCall) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    client.emit(new_call(content=Content(input="secret", bytes=6)))
    rated = {"name": "n", "kind": "comment", "given_by": "user", "target_event_id": "x"}
    client.emit(Feedback(**rated, comment="secret", correction="secret"))
    client.emit(Evaluation(name="n", kind="judge", evaluator="j", explanation="secret", target_event_id="x"))
    assert client.flush(5)
    assert all(b"secret" not in sent.value for sent in memory.sent)
    assert len(memory.sent) == 3


def test_the_mask_sees_every_body_in_the_background(new_client: NewClient, new_call: NewCall) -> None:
    threads = set()

    def mask(text: str) -> str:
        threads.add(threading.current_thread().name)
        return text.replace("secret", "***")

    memory = MemoryTransport()
    client = new_client(memory, content=True, mask=mask, mask_policy="words")
    client.emit(new_call(content=Content(input="a secret", output="fine", bytes=0), error_message="secret"))
    assert client.flush(5)
    (call,) = records(memory, LLMCall)
    assert (call.content.input, call.content.output, call.error_message) == ("a ***", "fine", "***")
    assert (call.content.bytes, call.content.masked_count, call.content.mask_policy) == (12, 1, "words")
    assert threads == {"tidegate"}


@pytest.mark.parametrize("failure", [ValueError, SystemExit, KeyError])
def test_a_mask_that_raises_costs_the_bodies_and_not_the_event(
    new_client: NewClient, new_call: NewCall, failure: type[BaseException]
) -> None:
    def mask(text: str) -> str:
        raise failure(text)

    memory = MemoryTransport()
    client = new_client(memory, content=True, mask=mask)
    client.emit(new_call(content=Content(input="secret", bytes=0), error_message="secret"))
    client.emit(new_call())
    assert client.flush(5)
    marked, plain = records(memory, LLMCall)
    assert (marked.content.input, marked.error_message, marked.tags) == (None, None, ["mask_failed"])
    assert (marked.content.bytes, marked.content.truncated) == (6, True)
    assert plain.tags == []


def test_an_event_too_large_for_kafka_loses_its_bodies_first(
    new_client: NewClient, new_call: NewCall
) -> None:
    memory = MemoryTransport()
    client = new_client(memory, content=True)
    client.emit(new_call(content=Content(input="x" * 2_000_000, bytes=0), input_tokens=7))
    client.emit(new_call(usage_raw="x" * 2_000_000))
    assert client.flush(5)
    (call,) = records(memory, LLMCall)
    assert (call.input_tokens, call.content.input, call.content.bytes, call.content.truncated) == (
        7, None, 2_000_000, True,
    )  # fmt: skip
    assert client.counts.dropped == {"too_large": 1}


def test_an_error_message_is_cut_to_a_kilobyte(new_client: NewClient, new_call: NewCall) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    client.emit(new_call(error_message="é" * 5_000))
    assert client.flush(5)
    assert records(memory, LLMCall)[0].error_message == "é" * 500


def test_flush_says_false_when_time_runs_out(
    new_client: NewClient, new_call: NewCall, silent: MemoryTransport
) -> None:
    client = new_client(silent)
    client.emit(new_call())
    started = time.monotonic()
    assert not client.flush(0.2)
    assert time.monotonic() - started < 2


def test_shutdown_says_how_many_were_lost_and_reports_them(
    new_client: NewClient, new_call: NewCall, silent: MemoryTransport
) -> None:
    client = new_client(silent)
    for _ in range(3):
        client.emit(new_call())
    assert client.shutdown(0.4) == 3
    last = records(silent, ProducerReport)[-1]
    assert [(r.from_seq, r.to_seq) for r in last.failed] == [(1, 3)]
    assert client.emit(new_call()) is None
    assert client.counts.dropped == {"closed": 1}


def test_feedback_knows_whether_it_is_good(new_client: NewClient) -> None:
    memory = MemoryTransport()
    client = new_client(memory)
    for kind, value in [("thumbs", 1.0), ("thumbs", 0.0), ("stars", 4.0), ("stars", 3.0), ("stars", 2.0)]:
        client.emit(Feedback(name="n", kind=kind, value=value, given_by="user", target_event_id="x"))
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


def test_settings_come_from_the_environment_and_all_faults_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIDEGATE_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("TIDEGATE_QUEUE_EVENTS", "many")
    monkeypatch.setenv("TIDEGATE_CONTENT", "perhaps")
    with pytest.raises(ConfigError) as caught:
        tidegate.configure(app="", report_seconds=-1, tenant="t" * 257)
    said = str(caught.value)
    for part in (
        "app: must not be empty",
        "environment is missing: pass configure(environment=...) or set TIDEGATE_ENVIRONMENT",
        "kafka is missing",
        "queue_events: must be a number (got 'many')",
        "content: must be 1 or 0 (got 'perhaps')",
        "report_seconds must be above 0 (got -1)",
        "tenant must be at most 256 bytes long (got 257)",
    ):
        assert part in said
    assert "hunter2" not in said


def test_settings_that_kafka_refuses_are_told_without_secrets() -> None:
    with pytest.raises(ConfigError, match=r"Kafka's settings are refused: .*SASL") as caught:
        tidegate.configure(
            app="a", environment="t", kafka="127.0.0.1:1", kafka_security_protocol="sasl_plaintext",
            kafka_sasl_mechanism="NONE", kafka_username="u", kafka_password="hunter2",
        )  # fmt: skip
    assert "hunter2" not in str(caught.value)


def test_secrets_are_in_no_representation() -> None:
    from tidegate.client.configuration import read

    given = {
        "app": "a",
        "environment": "t",
        "kafka": "k",
        "kafka_password": "hunter2",
        "handle_key": "hunter3",
    }
    assert "hunter" not in repr(read(given, environ={}))


def test_an_unconfigured_client_warns_once_and_does_nothing(
    new_call: NewCall, caplog: pytest.LogCaptureFixture
) -> None:
    previous = current.install(Off(Notices()))
    try:
        assert tidegate.emit(new_call()) is None
        assert tidegate.emit(new_call()) is None
        assert tidegate.flush()
        assert tidegate.handle(new_call()) == ""
    finally:
        current.install(previous)
    assert [r.getMessage() for r in caplog.records] == [
        "events go nowhere: call tidegate.configure(...) first"
    ]


def test_a_client_that_is_switched_off_needs_no_settings_and_is_silent(
    new_call: NewCall, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = current.current()
    try:
        monkeypatch.setenv("TIDEGATE_DISABLED", "1")
        tidegate.configure()
        with tidegate.call(provider="p", request_model="m") as c:
            assert c.event_id
        assert tidegate.emit(new_call()) is None
        monkeypatch.delenv("TIDEGATE_DISABLED")
        tidegate.configure(enabled=False)
        assert tidegate.emit(new_call()) is None
    finally:
        current.install(previous)
    assert caplog.records == []


def test_a_second_configuration_delivers_what_the_first_had(new_client: NewClient, new_call: NewCall) -> None:
    memory = MemoryTransport()
    first = new_client(memory)
    previous = current.install(first)
    try:
        tidegate.emit(new_call())
        tidegate.configure(enabled=False)
    finally:
        current.install(previous)
    assert len(records(memory, LLMCall)) == 1
    assert records(memory, ProducerReport)[-1].final


def test_a_notice_is_not_repeated_within_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    class Clock:
        now = 0

        def now_us(self) -> int:
            return self.now

        def monotonic_us(self) -> int:
            return self.now

    clock = Clock()
    notices = Notices(clock)
    with caplog.at_level(logging.WARNING, "tidegate"):
        for second in range(25):
            clock.now = second * 1_000_000
            notices.warn("kind", "it is %d s", second)
    assert [r.getMessage() for r in caplog.records] == [
        "it is 0 s",
        "it is 10 s (and 9 more of this kind)",
        "it is 20 s (and 9 more of this kind)",
    ]


def test_capture_gives_back_the_client_before(new_call: NewCall) -> None:
    before = current.current()
    with capture() as events:
        tidegate.emit(new_call())
        assert len(events.calls) == 1
    assert current.current() is before


def test_importing_the_client_loads_nothing_heavy() -> None:
    script = (
        "import sys, tidegate; "
        "print({'confluent_kafka', 'fastavro', 'pydantic', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_the_public_names_are_those_that_are_documented() -> None:
    public = {name for name, value in vars(tidegate).items() if name[0] != "_" and not ismodule(value)}
    assert public == set(tidegate.__all__)
    assert all(getattr(tidegate, name).__doc__ for name in public)


def test_a_message_that_the_kafka_client_refuses_outright_counts_as_failed() -> None:
    from tidegate.client.configuration import read
    from tidegate.client.transport import KafkaTransport

    transport = KafkaTransport(read({"app": "a", "environment": "t", "kafka": "127.0.0.1:1"}, {}), Notices())
    told: list[bool] = []
    assert transport.send("topic", "key", b"x" * 2_000_000, told.append)
    assert told == [False]
    assert not transport.broken


def test_a_fault_in_the_background_does_not_end_it(new_client: NewClient, new_call: NewCall) -> None:
    class Faulty(MemoryTransport):
        faults = 1

        def poll(self, timeout_seconds: float) -> None:
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError
            super().poll(timeout_seconds)

    memory = Faulty()
    client = new_client(memory)
    client.emit(new_call())
    client.emit(new_call())
    assert client.flush(10)
    assert len(records(memory, LLMCall)) == 2


def test_a_broken_transport_is_replaced_and_what_it_held_has_failed(new_call: NewCall) -> None:
    from tidegate.client.configuration import read

    class Breaking(MemoryTransport):
        def send(self, topic: str, key: str, value: bytes, settled: Settled) -> bool:
            self.broken = True
            return super().send(topic, key, value, lambda _: settled(False))

    used: list[MemoryTransport] = []

    def make() -> MemoryTransport:
        used.append(MemoryTransport() if used else Breaking())
        return used[-1]

    client = Client(read({"app": "a", "environment": "t", "kafka": "memory:0"}, {}), make)
    client.emit(new_call())
    assert not client.flush(5)
    client.emit(new_call())
    assert client.flush(5)
    assert (client.counts.failed, client.counts.delivered) == (1, 1)
    assert [len(records(transport, LLMCall)) for transport in used] == [1, 1]
    client.shutdown(2)


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
