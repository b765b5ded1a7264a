"""A store that demands TLS and a password: every client of ours gets both from the settings."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from tidegate.errors import ConfigError
from tidegate.topics import CALLS
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.kafka.outgoing import Outgoing, send
from tidegate_infra.settings import WHERE, Settings
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup
from tidegate_infra.stack.program import Program
from tidegate_streams.resolve.calls import Calls

USER, PASSWORD = "writer", "s3cret-of-the-store"


def certificate(directory: Path) -> Path:
    """Write a key and a certificate of it for 127.0.0.1 into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = directory / "store.pem"
    file.write_bytes(
        signed.public_bytes(encoding) + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    )
    return file


class Tls:
    """Ends TLS before a port of this machine, as a load balancer does."""

    def __init__(self, pem: Path, target: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._target = target
        self._listener = context.wrap_socket(
            socket.create_server(("127.0.0.1", 0)), server_side=True, do_handshake_on_connect=False
        )
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                store = socket.create_connection(("127.0.0.1", self._target))
                for pair in ((client, store), (store, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        # Who does not trust the certificate hangs up in the middle of the handshake.
        with suppress(OSError, ValueError):
            while piece := source.recv(65_536):
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, process_group: ProcessGroup) -> Iterator[Settings]:
    """Settings of a store with a password, reached over TLS."""
    directory = tmp_path_factory.mktemp("secured")
    port, pem = ports.free_port(), certificate(directory)
    inside = Settings(
        clickhouse=f"http://127.0.0.1:{port}/secured",
        clickhouse_user=USER,
        clickhouse_password=SecretStr(PASSWORD),
        data_dir=directory,
        health_port=ports.free_port(),
    )
    store = program.start("store", inside, group=process_group, log=directory / "store.log")
    store.wait_until_ready()
    with closing(Tls(pem, port)) as tls:
        yield inside.model_copy(
            update={"clickhouse": f"https://127.0.0.1:{tls.port}/secured", "clickhouse_ca": pem}
        )
    store.stop()
    assert PASSWORD not in store.log.read_text()


@pytest.mark.long
@pytest.mark.usefixtures("kafka", "topics")
def test_commands_and_processes_reach_the_store_over_tls_with_a_password(
    secured: Settings, settings: Settings, cli: Callable[..., Any], start_process: Callable[..., Program]
) -> None:
    variables = {
        "TIDEGATE_CLICKHOUSE": secured.clickhouse,
        "TIDEGATE_CLICKHOUSE_USER": USER,
        "TIDEGATE_CLICKHOUSE_PASSWORD": PASSWORD,
        "TIDEGATE_CLICKHOUSE_CA": str(secured.clickhouse_ca),
    }
    for command in (["migration", "up", "--yes"], ["sql", "SELECT count() FROM calls"], ["ledger"]):
        done = cli(*command, **variables)
        assert done.code == 0, (command, done.err)
        assert PASSWORD not in done.out + done.err
    # What asks, as the process that does, with settings from the same variables.
    Calls(secured).close()
    place = {name: getattr(secured, name) for name in WHERE if name.startswith("clickhouse")}
    sink = start_process("sink", **place, clickhouse_password=secured.clickhouse_password, sink_range_ms=50)
    send(settings, [Outgoing(topic=CALLS, key="k", value=b"no call")])
    until_s = time.monotonic() + 30
    with closing(connect(secured)) as store:
        while not store.command("SELECT count() FROM dead_letters"):
            assert time.monotonic() < until_s, sink.log.read_text()
            time.sleep(0.02)
    assert PASSWORD not in sink.log.read_text()


def test_who_is_not_let_in_or_does_not_trust_is_told_which_setting_to_check(secured: Settings) -> None:
    connect(secured).close()
    elsewhere = secured.clickhouse.replace("127.0.0.1", "localhost")
    wrong: list[tuple[dict[str, object], str]] = [
        ({"clickhouse_password": "wrong"}, "TIDEGATE_CLICKHOUSE_PASSWORD"),
        ({"clickhouse_ca": None}, "TIDEGATE_CLICKHOUSE_CA"),
        ({"clickhouse": elsewhere}, "TIDEGATE_CLICKHOUSE its own name"),
        ({"clickhouse_ca": "/nowhere/ca.pem"}, "TIDEGATE_CLICKHOUSE_CA names /nowhere/ca.pem"),
    ]
    for change, remedy in wrong:
        settings = Settings.model_validate(secured.model_dump() | change)
        with pytest.raises(ConfigError, match=remedy) as caught:
            connect(settings)
        assert PASSWORD not in str(caught.value)


def test_tls_where_none_is_spoken_is_said_so(store: str) -> None:
    with pytest.raises(ConfigError, match="if it speaks none, let TIDEGATE_CLICKHOUSE begin with http://"):
        connect(Settings(clickhouse=store.replace("http:", "https:")))
