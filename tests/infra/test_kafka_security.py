"""A broker that demands TLS and a password: every client of ours gets both from the settings."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import tidegate
from tidegate.errors import ConfigError
from tidegate.topics import CALLS
from tidegate_infra.clickhouse import client as clickhouse
from tidegate_infra.clickhouse import migrations
from tidegate_infra.kafka import scan, topics
from tidegate_infra.settings import Settings
from tidegate_infra.stack import kafka as broker
from tidegate_infra.stack import ports, program
from tidegate_infra.stack.group import ProcessGroup

USER, PASSWORD, STORE_PASSWORD = "tidegate", "s3cret-of-the-broker", "of-the-key-store"
PROCESSES = ("aggregate", "stream", "sink", "resolve", "notify")

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory,
    process_group: ProcessGroup,
    installed: Callable[[str, str], str],
) -> Iterator[Settings]:
    """Settings of a broker with one listener for clients, by SASL over TLS."""

    def keytool(*words: str) -> None:
        command = [installed("keytool", "openjdk-17-jre-headless"), *words, "-storepass", STORE_PASSWORD]
        subprocess.run(command, check=True, capture_output=True)

    directory = tmp_path_factory.mktemp("secured")
    keys, certificate = directory / "keys.p12", directory / "ca.pem"
    keytool(
        "-genkeypair", "-alias", "broker", "-keyalg", "EC", "-dname", "CN=127.0.0.1",
        "-ext", "san=ip:127.0.0.1", "-keystore", str(keys), "-storetype", "PKCS12",
    )  # fmt: skip
    keytool("-exportcert", "-rfc", "-alias", "broker", "-keystore", str(keys), "-file", str(certificate))
    # Its own traffic goes over a listener that clients are not told of.
    port, inner, controller = (ports.free_port() for _ in range(3))
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    running = broker.launch(
        directory / "kafka",
        inner,
        group=process_group,
        properties={
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{controller},"
            f"SASL_SSL://127.0.0.1:{port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{inner},SASL_SSL://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{login} required user_{USER}="{PASSWORD}";',
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": str(keys),
            "ssl.keystore.password": STORE_PASSWORD,
        },
    )
    running.wait_until_ready()
    yield Settings(
        kafka=f"127.0.0.1:{port}",
        kafka_security_protocol="sasl_ssl",
        kafka_sasl_mechanism="PLAIN",
        kafka_username=USER,
        kafka_password=PASSWORD,
        kafka_ca=certificate,
    )
    running.stop()


def test_every_process_and_the_client_work_over_tls_with_a_password(
    secured: Settings, store: str, tmp_path: Path, process_group: ProcessGroup
) -> None:
    address = store.removesuffix("default") + "secured"
    settings = secured.model_copy(update={"clickhouse": address, "data_dir": tmp_path})
    topics.apply(settings)
    with closing(clickhouse.connect(settings)) as client:
        migrations.up(client)
    programs = [
        program.start(
            name,
            settings.model_copy(update={"health_port": ports.free_port()}),
            group=process_group,
            log=tmp_path / f"{name}.log",
            wait_seconds=30,
        )
        for name in PROCESSES
    ]
    for running in programs:
        running.wait_until_ready()
    tidegate.configure(
        app="a",
        environment="test",
        kafka=settings.kafka,
        kafka_security_protocol="sasl_ssl",
        kafka_sasl_mechanism="PLAIN",
        kafka_username=USER,
        kafka_password=PASSWORD,
        kafka_ca=str(settings.kafka_ca),
    )
    tidegate.emit(
        tidegate.LLMCall(ts_start=1, ts_end=2, operation="chat", provider="p", request_model="m", status="ok")
    )
    assert tidegate.flush(20)
    tidegate.shutdown()
    assert sum(1 for _ in scan.messages(settings, CALLS)) == 1
    for running in programs:
        running.stop()
        assert PASSWORD not in running.log.read_text()


@pytest.mark.parametrize(
    ("change", "remedy"),
    [({"kafka_password": "wrong"}, "TIDEGATE_KAFKA_PASSWORD"), ({"kafka_ca": None}, "TIDEGATE_KAFKA_CA")],
)
def test_who_is_not_let_in_is_told_which_setting_to_check(
    secured: Settings, change: dict[str, str | None], remedy: str
) -> None:
    settings = Settings.model_validate(secured.model_dump() | change)
    with pytest.raises(ConfigError, match=remedy) as caught:
        scan.check_answers(settings)
    assert PASSWORD not in str(caught.value)
