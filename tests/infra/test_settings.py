import json
from pathlib import Path

import pytest

from tidegate.errors import ConfigError
from tidegate_infra.settings import Settings


@pytest.fixture(autouse=True)
def _no_variables_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        monkeypatch.delenv(name)


def write_stack_file(directory: Path, **settings: str) -> None:
    (directory / "stack.json").write_text(json.dumps({"settings": settings}))


def test_a_flag_beats_a_variable_beats_the_stack_file_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack_file(tmp_path, kafka="file:1", topic_prefix="file.", log_level="debug")
    monkeypatch.setenv("TIDEGATE_KAFKA", "env:2")
    monkeypatch.setenv("TIDEGATE_TOPIC_PREFIX", "env.")

    settings = Settings.load(data_dir=tmp_path, kafka="flag:3", range_ms=None)

    assert (settings.kafka, settings.topic_prefix, settings.log_level, settings.range_ms) == (
        "flag:3",
        "env.",
        "debug",
        500,
    )
    assert [settings.origin(name) for name in ("kafka", "topic_prefix", "log_level", "range_ms")] == [
        "flag --kafka",
        "env TIDEGATE_TOPIC_PREFIX",
        f"stack file {tmp_path / 'stack.json'}",
        "default",
    ]


def test_the_data_directory_may_come_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack_file(tmp_path, kafka="file:1")
    monkeypatch.setenv("TIDEGATE_DATA_DIR", str(tmp_path))
    assert Settings.load().kafka == "file:1"


def test_every_wrong_setting_is_named_at_once_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack_file(tmp_path, watermark="cloak", kafak="a:1")
    monkeypatch.setenv("TIDEGATE_KAFKA_SECURTY_PROTOCOL", "ssl")
    monkeypatch.setenv("TIDEGATE_RANGE_MS", "soon")
    monkeypatch.setenv("TIDEGATE_HEALTH_PORT", "70000")

    with pytest.raises(ConfigError) as caught:
        Settings.load(data_dir=tmp_path, kafka="nowhere")

    message = str(caught.value)
    assert message.startswith("6 settings are wrong:")
    assert (
        "TIDEGATE_KAFKA_SECURTY_PROTOCOL is unknown: did you mean TIDEGATE_KAFKA_SECURITY_PROTOCOL?"
        in message
    )
    assert "env TIDEGATE_RANGE_MS: 'soon' should be a valid integer" in message
    assert "env TIDEGATE_HEALTH_PORT: '70000' should be less than or equal to 65535" in message
    assert "flag --kafka: should be host:port" in message
    assert f"stack file {tmp_path / 'stack.json'}: 'cloak' should be 'clock' or 'data'" in message
    assert "kafak (stack file" in message
    assert "did you mean kafka?" in message


def test_half_a_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
    monkeypatch.setenv("TIDEGATE_WEBHOOK_URL", "https://hooks.example/x")
    with pytest.raises(ConfigError, match=r"(?s)TIDEGATE_KAFKA_PASSWORD.*TIDEGATE_WEBHOOK_SECRET"):
        Settings.load()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TIDEGATE_KAFKA", "svc:hunter2hunter2@broker:9092"),
        ("TIDEGATE_KAFKA", "broker:9092,svc:hunter2hunter2@broker:9092"),
        ("TIDEGATE_KAFKA", "kafka://svc:hunter2hunter2@broker:9092"),
        ("TIDEGATE_KAFKA", "kafka://hunter2hunter2"),
        ("TIDEGATE_CLICKHOUSE", "http://me:hunter2hunter2@host:8123/db"),
        ("TIDEGATE_CLICKHOUSE", "http://host/db?password=hunter2hunter2"),
        ("TIDEGATE_WEBHOOK_URL", "ftp://host/hunter2hunter2"),
        ("TIDEGATE_SCHEMA_REGISTRY_URL", "http://me:hunter2hunter2@host"),
        ("TIDEGATE_SCHEMA_REGISTRY_URL", "http://host/a/b?apikey=hunter2hunter2"),
        ("TIDEGATE_SCHEMA_REGISTRY_URL", "http://host#hunter2hunter2"),
    ],
)
def test_an_error_never_quotes_what_may_hold_a_secret(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert variable in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_addresses_without_a_secret_are_taken() -> None:
    addresses = {"kafka": "[::1]:9092,b-2.x:1", "schema_registry_url": "https://host:8081/apis/ccompat/v7"}
    assert Settings.load(**addresses).public().items() >= addresses.items()


SECRETS = {
    "kafka_username": "me",
    "kafka_password": 'hunter2"kafka',
    "clickhouse_password": "hunter2-clickhouse",
    "webhook_secret": "hunter2-webhook",
    "webhook_old_secret": "hunter2-older",
    "webhook_url": "https://hooks.example/services/hunter2",
}


def test_no_way_of_showing_settings_shows_a_secret() -> None:
    settings = Settings.load(**SECRETS)
    shown = [settings.shown(name) for name in Settings.model_fields]
    everything = "\n".join(
        [*shown, repr(settings), str(settings), settings.model_dump_json(exclude={"webhook_url"})]
    )
    assert "hunter2" not in everything.replace(repr(settings.webhook_url), "")
    assert settings.shown("webhook_url") == "https://hooks.example/…"
    port = Settings.load(**SECRETS | {"webhook_url": "http://hooks.example:8080/x"})
    assert port.shown("webhook_url") == "http://hooks.example:8080/…"


def test_secrets_are_cut_out_of_any_text() -> None:
    settings = Settings.load(**SECRETS)
    password, secret = SECRETS["kafka_password"], SECRETS["webhook_secret"]
    text = f"sasl {password} {json.dumps(password)} {secret}"
    assert settings.hide(text) == 'sasl *** "***" ***'


def test_a_child_process_gets_equal_settings_and_a_file_gets_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = Settings.load(**SECRETS, allow_private_webhooks=True, kafka_ca="/etc/ca.pem", range_ms=7)
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load().model_dump() == parent.model_dump()
    assert not {"kafka_password", "clickhouse_password", "webhook_secret"} & set(parent.public())


def test_variables_that_kubernetes_adds_for_services_are_not_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        "TIDEGATE_CONSOLE_SERVICE_HOST",
        "TIDEGATE_CONSOLE_PORT_8080_TCP_ADDR",
        "TIDEGATE_PORT",
        "TIDEGATE_SERVICE_PORT_HTTP",
    ):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8080")
    assert Settings.load().kafka == "127.0.0.1:9092"


def test_variables_of_the_client_in_the_same_shell_are_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_APP", "support")
    monkeypatch.setenv("TIDEGATE_DISABLED", "1")
    assert Settings.load().origin("kafka") == "default"


def test_a_stack_that_is_named_is_not_mixed_with_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack_file(tmp_path, kafka="file:1", range_ms="5")
    for name, value in {"TOPIC_PREFIX": "x.", "CLICKHOUSE_PASSWORD": "p", "RANGE_MS": "9"}.items():
        monkeypatch.setenv(f"TIDEGATE_{name}", value)
    settings = Settings.for_data_dir(tmp_path)
    assert (settings.kafka, settings.topic_prefix, settings.range_ms) == ("file:1", "", 5)
    assert settings.clickhouse_password.get_secret_value() == "p"
    assert settings.origin("clickhouse_password") == "env TIDEGATE_CLICKHOUSE_PASSWORD"


def test_a_directory_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no stack runs in .*: start it with `tidegate up --data-dir"):
        Settings.for_data_dir(tmp_path)


def test_a_damaged_stack_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"settings": {')
    with pytest.raises(ConfigError, match=rf"stack\.json is damaged .*`tidegate down --data-dir {tmp_path}`"):
        Settings.for_data_dir(tmp_path)
