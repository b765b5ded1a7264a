"""What the client does with its transport, whatever that does."""

import gc
import os
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tidegate.client.client import Client
from tidegate.client.configuration import read
from tidegate.client.notices import Notices
from tidegate.client.transport import (
    KafkaTransport,
    MemoryTransport,
    Settled,
    check_kafka_settings,
    kafka_transport,
)
from tidegate.records import LLMCall

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]
Records = Callable[[MemoryTransport, type], list[Any]]


def test_a_fault_in_the_background_does_not_end_it(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
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


def test_a_broken_transport_is_replaced_and_what_it_held_has_failed(
    new_call: NewCall, records: Records
) -> None:
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


def test_a_message_that_the_kafka_client_refuses_outright_counts_as_failed() -> None:
    transport = KafkaTransport(read({"app": "a", "environment": "t", "kafka": "127.0.0.1:1"}, {}), Notices())
    told: list[bool] = []
    assert transport.send("topic", "key", b"x" * 2_000_000, told.append)
    assert told == [False]
    assert not transport.broken


def test_the_garbage_collector_never_has_to_wait_for_the_kafka_client() -> None:
    transport = KafkaTransport(read({"app": "a", "environment": "t", "kafka": "127.0.0.1:1"}, {}), Notices())
    transport.send("topic", "key", b"value", lambda _confirmed: None)
    transport.give_up()
    gone = weakref.ref(transport)
    gc.disable()
    try:
        del transport
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("made", ["client", "check"])
def test_a_fork_waits_until_a_kafka_client_has_had_time_to_connect(made: str) -> None:
    configuration = read({"app": "a", "environment": "t", "kafka": "127.0.0.1:1"}, {})
    time.sleep(0.3)
    assert forked_in_seconds() < 0.15
    if made == "client":
        kafka_transport(configuration, Notices())()
    else:
        check_kafka_settings(configuration)
    assert 0.1 < forked_in_seconds() < 1
    assert forked_in_seconds() < 0.15


def forked_in_seconds() -> float:
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    took = time.monotonic() - started
    os.waitpid(pid, 0)
    return took
