"""How the client is configured, switched off and replaced, and what it says."""

import logging
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import ismodule
from typing import Any

import pytest

import tidegate
from tidegate.client import current
from tidegate.client.client import Client
from tidegate.client.notices import Notices
from tidegate.client.off import Off
from tidegate.client.transport import MemoryTransport
from tidegate.errors import ConfigError
from tidegate.records import LLMCall, ProducerReport
from tidegate.testing import capture

NewCall = Callable[..., LLMCall]
NewClient = Callable[..., Client]
Records = Callable[[MemoryTransport, type], list[Any]]


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
        "handle_key": "hunter3-hunter3-",
    }
    assert "hunter" not in repr(read(given, environ={}))


def test_every_public_name_has_one_home_that_has_it() -> None:
    homes = [(each, home) for home, names in tidegate._HOMES.items() for each in names]
    assert sorted(name for name, _ in homes) == tidegate.__all__
    for name, home in homes:
        assert getattr(tidegate, name) is getattr(import_module(f"tidegate.{home}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'emitt'"):
        _ = tidegate.emitt


def test_a_key_of_handles_that_could_be_guessed_is_refused_and_not_quoted() -> None:
    from tidegate.client.configuration import read

    given = {"app": "a", "environment": "t", "kafka": "k"}
    with pytest.raises(ConfigError, match="handle_key must be at least 16 bytes long: make one") as caught:
        read(given, environ={"TIDEGATE_HANDLE_KEY": "hunter2hunter2h"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="handle_key must be at least 16 bytes long"):
        read(given | {"handle_key": ""}, environ={})
    assert read(given | {"handle_key": "ü" * 8}, environ={}).handle_key == "ü" * 8


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


def test_a_second_configuration_delivers_what_the_first_had(
    new_client: NewClient, new_call: NewCall, records: Records
) -> None:
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
    public = {name for name in dir(tidegate) if name[0] != "_" and not ismodule(getattr(tidegate, name))}
    assert public == set(tidegate.__all__)
    assert all(getattr(tidegate, name).__doc__ for name in public)
