"""The process's one client, and the functions that use it."""

import atexit
import os
import sys
import weakref
from typing import Literal

from tidegate.assignment import Assignment
from tidegate.client import configuration as configurations
from tidegate.client.client import Client
from tidegate.client.configuration import Mask
from tidegate.client.notices import Notices
from tidegate.client.off import Off
from tidegate.client.rules import Event
from tidegate.client.transport import check_kafka_settings
from tidegate.records import LLMCall

EXIT_SECONDS = 2.0
"""How long the end of the process may be held up."""


_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()
_current: Client | Off = Off(Notices())


def current() -> Client | Off:
    """Return the process's client; one that does nothing until `configure` is called."""
    return _current


def install(client: Client | Off) -> Client | Off:
    """Make a client the process's one; return the one before, which is left as it is."""
    global _current
    if isinstance(client, Client):
        _clients.add(client)
    previous, _current = _current, client
    return previous


def configure(
    *,
    app: str | None = None,
    environment: str | None = None,
    tenant: str | None = None,
    kafka: str | None = None,
    app_version: str | None = None,
    topic_prefix: str | None = None,
    kafka_security_protocol: str | None = None,
    kafka_sasl_mechanism: str | None = None,
    kafka_username: str | None = None,
    kafka_password: str | None = None,
    kafka_ca: str | None = None,
    schema_registry_url: str | None = None,
    content: bool | None = None,
    mask: Mask | None = None,
    mask_policy: str | None = None,
    handle_key: str | None = None,
    queue_events: int | None = None,
    queue_bytes: int | None = None,
    when_full: Literal["drop", "wait"] | None = None,
    report_seconds: float | None = None,
    delivery_seconds: float | None = None,
    enabled: bool | None = None,
) -> None:
    """Say once, at the start of the process, who emits and where Kafka is.

    What is not given is read from the environment (``TIDEGATE_APP``, ``TIDEGATE_KAFKA``, ...: the
    parameter's name in capitals). A second call flushes the first client, at most 2 s, and replaces it.
    Kafka need not be up: events wait, within the bounds below.

    Parameters
    ----------
    app
        Name of the service; required.
    environment
        Where it runs, such as ``prod`` or ``staging``; required, because events of a developer's machine
        must not decide over production.
    tenant
        Owner of the events; ``default`` unless given.
    kafka
        Brokers, ``host:port`` with commas between; required.
    app_version
        Release of the service.
    topic_prefix
        What the installation puts in front of topic names.
    kafka_security_protocol, kafka_sasl_mechanism, kafka_username, kafka_password, kafka_ca
        How to reach a broker that is not open, in librdkafka's words; `kafka_ca` is a file.
    schema_registry_url
        Frames events for a Confluent-compatible schema registry, where one is required.
    content
        Send prompts, answers, comments and explanations too. Off unless asked for: they are then dropped
        on the app's own thread.
    mask
        Called in the background thread with each body and each error message; returns what may leave the
        app. If it raises, the bodies are dropped and the event is kept with the tag ``mask_failed``.
    mask_policy
        Name of the mask, recorded with the content.
    handle_key
        Secret of at least 16 bytes that signs handles, the same in all processes of an app. Without it
        whoever holds a handle can write another one, for any deployment of the tenant.
    queue_events, queue_bytes
        How many events, and about how many bytes, may wait for Kafka's confirmation: 20,000 and 64 MB.
    when_full
        ``drop`` new events and count them, or ``wait`` for room, which is for batch tools and never for
        an app that serves.
    report_seconds
        How often the producer's account is sent, when it has changed; 10 s.
    delivery_seconds
        How long Kafka is tried before an event counts as failed; 300 s.
    enabled
        False switches everything off, as ``TIDEGATE_DISABLED=1`` does; nothing else is then required.

    Raises
    ------
    ConfigError
        With everything that is missing or wrong. No other function of the client raises.
    """
    given = {name: value for name, value in locals().items() if name != "enabled"}
    client: Client | Off = Off()
    if not configurations.disabled(enabled):
        configuration = configurations.read(given)
        check_kafka_settings(configuration)
        client = Client(configuration)
    _register_exit()
    previous = install(client)
    lost = previous.shutdown(EXIT_SECONDS)
    if lost and isinstance(previous, Client):
        previous.notices.warn("replaced", "%d events of the client before were not delivered", lost)


def emit(
    record: Event, assignment: Assignment | None = None, *, target: str | LLMCall | None = None
) -> str | None:
    """Send a call, feedback or an evaluation; takes microseconds, never waits and never raises.

    The record belongs to the client from then on: fields that are empty are filled in (event_id, tenant,
    app, environment, deployment, variant), and it must not be changed any more.

    Parameters
    ----------
    record
        What happened.
    assignment
        What a `Router` said, for a call that it routed.
    target
        What feedback or an evaluation is about: the call, or its handle as it came back from a front end.
        Where only the call's id is left, the record itself names it (``target_event_id``): its series is then
        looked up in the store, and it counts some seconds later.

    Returns
    -------
    str or None
        The event's id; None when it was refused, dropped or the client is off. Why is logged under
        ``tidegate``, at most once in ten seconds for each kind, and counted in the ledger.
    """
    return _current.emit(record, assignment, target)


def handle(call: LLMCall) -> str:
    """Return a string that stands for a call, to give to a front end and get back with feedback.

    It holds the call's series and no content; see `configure` for ``handle_key``. Empty when the client
    is off.
    """
    try:
        return _current.handle(call)
    except Exception as error:  # noqa: BLE001 - a fault of ours must never reach the app
        Notices().warn("handle", "no handle: %s: %s", type(error).__name__, error)
        return ""


def flush(timeout: float = 5.0) -> bool:
    """Wait until Kafka has confirmed everything emitted before.

    For serverless functions, which are frozen between requests, and for the children of ``multiprocessing``,
    which end without the clean-up that the end of a process does otherwise.

    Parameters
    ----------
    timeout
        In seconds.

    Returns
    -------
    bool
        False when time ran out, or when Kafka refused an event.
    """
    return _current.flush(timeout)


def shutdown(timeout: float = EXIT_SECONDS) -> bool:
    """Deliver what waits, send the last report and end; later events are dropped and counted.

    The end of the process does the same by itself.

    Parameters
    ----------
    timeout
        In seconds.

    Returns
    -------
    bool
        Whether nothing was lost.
    """
    return _current.shutdown(timeout) == 0


_exit_registered = False


def _register_exit() -> None:
    global _exit_registered
    if not _exit_registered:
        _exit_registered = True
        atexit.register(_at_exit)


def _at_exit() -> None:
    client = _current
    lost = client.shutdown(EXIT_SECONDS)
    if lost and client.configuration is not None:
        sys.stderr.write(
            f"tidegate: {lost} events were not confirmed within {EXIT_SECONDS:.0f} s, and may be lost; "
            f"is Kafka at {client.configuration.kafka} up?\n"
        )


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
