"""The store process: opens the engine, serves it on loopback, closes it in order."""

import asyncio
import logging
import socket
import threading
from contextlib import closing
from dataclasses import asdict
from urllib.parse import urlsplit

import uvicorn
from prometheus_client import Gauge

from tidegate.errors import ConfigError, DependencyUnavailable, InvariantBroken, Refused
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_infra.store.accounts import Account
from tidegate_infra.store.directory import StoreDirectory
from tidegate_infra.store.engine import Engine, SetAside
from tidegate_infra.store.errors import StatementError
from tidegate_infra.store.server import Server, is_loopback
from tidegate_infra.store.stream import BrokenStreamError

READER = "reader"
_DEFAULT_PORT = 8123
_LONGEST_URL_BYTES = 1 << 20
_FINISH_SECONDS = 2
_TURN_SECONDS = 1.0
_FIRST_TURNS_SECONDS = 0.2


def main(process: Process) -> None:
    """Serve the engine in ``DATA_DIR/store`` at the address of `settings.clickhouse` until stopped.

    Port 0 takes a free one; the file ``DATA_DIR/store/port`` says which while the store runs.

    Raises
    ------
    ConfigError
        The port is in use, or the directory is not whole.
    Refused
        The directory is open elsewhere, or the address is a remote one and no password is set.
    DependencyUnavailable
        The disk is full, or the engine could not write: it has to be opened anew.
    """
    directory = StoreDirectory(process.settings.data_dir / "store")
    listener = listen(process.settings)
    with listener:
        directory.prepare(listener.getsockname()[1])
        try:
            _open(process, directory, listener)
        finally:
            directory.port.unlink()


def _open(process: Process, directory: StoreDirectory, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    with closing(Engine(directory.engine, directory.config)) as engine:
        _tell(process, engine.set_aside())
        local = is_loopback(host)
        with closing(Server(engine, accounts(process.settings), is_local=local)) as server:
            process.log.info(
                "serving", host=host, port=port, engine=engine.version, directory=str(directory.engine)
            )
            _serve(process, server, engine, listener)


def listen(settings: Settings) -> socket.socket:
    """Bind the address that clients are told.

    Raises
    ------
    ConfigError
        It cannot be bound.
    Refused
        It can be reached from other machines, and no password is set.
    """
    url = urlsplit(settings.clickhouse)
    if url.scheme != "http":
        raise ConfigError(
            f"the store speaks plain HTTP only, not {url.scheme}: let TIDEGATE_CLICKHOUSE begin with http://"
        )
    host = url.hostname or "127.0.0.1"
    port = _DEFAULT_PORT if url.port is None else url.port
    if not is_loopback(host) and not settings.clickhouse_password.get_secret_value():
        raise Refused(
            f"the store does not listen on {host} without a password: set TIDEGATE_CLICKHOUSE_PASSWORD, "
            "or let TIDEGATE_CLICKHOUSE name 127.0.0.1"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"the store cannot listen on {host}:{port} ({error.strerror}): stop what listens there, or let "
            "TIDEGATE_CLICKHOUSE name another port"
        ) from None
    return listener


def accounts(settings: Settings) -> tuple[Account, ...]:
    """Who may use the store: the user of the settings, and unless only a password is missing, a reader."""
    password = settings.clickhouse_password.get_secret_value()
    readers = settings.clickhouse_reader_password.get_secret_value()
    writer = Account(settings.clickhouse_user, password, writes=True)
    return (writer,) if password and not readers else (writer, Account(READER, readers, writes=False))


def _tell(process: Process, parts: list[SetAside]) -> None:
    aside = Gauge(
        "tidegate_store_parts_set_aside",
        "Parts that could not be read when the store was opened, by table.",
        ["table"],
        registry=process.metrics,
    )
    for part in parts:
        aside.labels(f"{part.database}.{part.table}").inc()
        process.log.warning("part_set_aside", **asdict(part))


def _serve(process: Process, server: Server, engine: Engine, listener: socket.socket) -> None:
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        server.application,
        log_config=None,
        access_log=False,
        lifespan="off",
        h11_max_incomplete_event_size=_LONGEST_URL_BYTES,
        timeout_graceful_shutdown=_FINISH_SECONDS,
        server_header=False,
    )
    web = uvicorn.Server(config)
    loop = asyncio.new_event_loop()
    # Signals belong to the process; on a thread of its own uvicorn leaves them alone.
    thread = threading.Thread(
        target=loop.run_until_complete, args=(web.serve(sockets=[listener]),), name="http"
    )
    thread.start()
    try:
        while not process.stopping.wait(_TURN_SECONDS if process.health.is_ready else _FIRST_TURNS_SECONDS):
            if not thread.is_alive():
                raise InvariantBroken("the store's HTTP server ended by itself: see the log above")
            if web.started:
                process.ready()
                # The beat comes from the loop that answers: a stuck one is not alive.
                loop.call_soon_threadsafe(process.beat)
                _end_after_lost_writes(process, engine)
    finally:
        web.should_exit = True
        while thread.is_alive():
            # Who waits for an answer gets an error now rather than after the grace period.
            server.cancel()
            thread.join(0.5)
        loop.close()


def _end_after_lost_writes(process: Process, engine: Engine) -> None:
    try:
        lost = engine.lost_writes()
    except StatementError as error:
        process.log.warning("writes_not_checked", reason=error.message)
        return
    if lost:
        raise DependencyUnavailable(
            f"the engine could not write {lost} times under {process.settings.data_dir}: make room there. "
            "The next start sets aside what is not whole, and takes the parts that it was merged from"
        )


def _is_news(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, BrokenStreamError)
