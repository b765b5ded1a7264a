"""The store process: opens the engine, serves it on loopback, closes it in order."""

import asyncio
import logging
import socket
import threading
from urllib.parse import urlsplit

import uvicorn

from tidegate.errors import ConfigError, InvariantBroken, Refused
from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_infra.store.accounts import Account
from tidegate_infra.store.directory import StoreDirectory
from tidegate_infra.store.engine import Engine
from tidegate_infra.store.server import Server, is_loopback
from tidegate_infra.store.stream import BrokenStreamError

READER = "reader"
_DEFAULT_PORT = 8123
_LONGEST_URL_BYTES = 1 << 20
_FINISH_SECONDS = 2


def main(process: Process) -> None:
    """Serve the engine in ``DATA_DIR/store`` at the address of `settings.clickhouse` until stopped.

    Port 0 takes a free one; the file ``DATA_DIR/store/port`` says which while the store runs.

    Raises
    ------
    ConfigError
        The port is in use, or the directory is not whole.
    Refused
        The directory is open elsewhere, or the address is a remote one and no password is set.
    """
    directory = StoreDirectory(process.settings.data_dir / "store")
    listener = listen(process.settings)
    host, port = listener.getsockname()[:2]
    with listener:
        directory.prepare()
        engine = Engine(directory.engine, directory.config)
        try:
            server = Server(engine, accounts(process.settings), is_local=is_loopback(host))
            directory.port.write_text(f"{port}\n")
            process.log.info(
                "serving", host=host, port=port, engine=engine.version, directory=str(directory.engine)
            )
            try:
                _serve(process, server, listener)
            finally:
                directory.port.unlink()
                server.close()
        finally:
            engine.close()


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


def _serve(process: Process, server: Server, listener: socket.socket) -> None:
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
        while not process.stopping.wait(0.2):
            if not thread.is_alive():
                raise InvariantBroken("the store's HTTP server ended by itself: see the log above")
            if web.started:
                process.ready()
                # The beat comes from the loop that answers: a stuck one is not alive.
                loop.call_soon_threadsafe(process.beat)
    finally:
        web.should_exit = True
        while thread.is_alive():
            # Who waits for an answer gets an error now rather than after the grace period.
            server.cancel()
            thread.join(0.5)
        loop.close()


def _is_news(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, BrokenStreamError)
