"""Secrets that are planted in every setting that may hold one, and hunted in all that is shown."""

import base64
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from tidegate_infra.settings import PREFIX, Settings
from tidegate_infra.stack import ports
from tidegate_infra.stack.program import Program

# With characters that every kind of quoting changes.
PLANTED = {
    name: f"pl4nted {name}&\"'\\ü-{secrets.token_hex(8)}"
    for name, field in Settings.model_fields.items()
    if field.annotation is SecretStr
}
WEBHOOK_PATH = "pl4nted-in-the-path-of-a-webhook"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"pl4nted secret of a webhook 0123").decode()
WEBHOOK_OLD_SECRET = "whsec_" + base64.b64encode(b"pl4nted secret of a webhook 9876").decode()

READ = (
    *(["config", "show", "-o", how] for how in ("table", "wide", "json", "yaml")),
    ["doctor"],
    ["doctor", "--json"],
    ["ledger"],
    ["migration", "status"],
    ["sql", "SELECT nothing"],
    ["topic", "plan"],
    ["dlq", "list"],
    ["rollout", "list"],
    ["deployment", "log"],
)


def forms(planted: str) -> set[str]:
    """As it would stand somewhere: plain, quoted, or in a header."""
    coded = {base64.b64encode(f"{user}{planted}".encode()).decode() for user in ("", "default:", "reader:")}
    return {planted, quote(planted), quote(planted, safe=""), repr(planted)[1:-1], *coded}


SIGNS = {sign for planted in PLANTED.values() for sign in forms(planted)} | {
    WEBHOOK_PATH,
    WEBHOOK_SECRET,
    WEBHOOK_OLD_SECRET,
}


def found_in(text: str) -> set[str]:
    return {sign for sign in SIGNS if sign in text} | ({"pl4nted"} if "pl4nted" in text else set())


@pytest.fixture
def planted() -> dict[str, Any]:
    """Settings with a secret wherever one may be."""
    return {
        **{name: SecretStr(value) for name, value in PLANTED.items()},
        "webhook_secret": SecretStr(WEBHOOK_SECRET),
        "webhook_old_secret": SecretStr(WEBHOOK_OLD_SECRET),
        "webhook_url": f"http://127.0.0.1:{ports.free_port()}/{WEBHOOK_PATH}",
        "allow_private_webhooks": True,
        "kafka_username": "somebody",
    }


@pytest.mark.long
def test_no_command_shows_a_secret_whether_it_works_or_fails(
    cli: Callable[..., Any], settings: Settings, topics: None, store: str, planted: dict[str, Any]
) -> None:
    # The store refuses the planted password, so that some of them fail.
    variables = settings.model_copy(update=planted).environment()
    codes = set()
    for command in READ:
        done = cli(*command, **variables)
        codes.add(done.code)
        assert found_in(done.out + done.err) == set(), command
    assert codes == {0, 1, 3}


@pytest.mark.long
def test_no_process_logs_or_serves_a_secret(
    store: str,
    topics: None,
    planted: dict[str, Any],
    start_process: Callable[..., Program],
    tmp_path: Path,
) -> None:
    notify = start_process("notify", **planted | {"log_level": "debug"})
    notify.wait_until_ready(60)
    said = notify.health()[1]
    notify.stop()
    refused = start_process("sink", **planted | {"log_level": "debug", "log_json": True})
    assert refused.process.wait(60) == 3
    logs = [path.read_text() for path in tmp_path.glob("*.log")]
    assert len(logs) == 2
    assert found_in("\n".join([said, *logs])) == set()


def test_the_hunt_finds_what_it_looks_for() -> None:
    password = PLANTED["clickhouse_password"]
    header = base64.b64encode(f"default:{password}".encode()).decode()
    for text in (password, quote(password), header, f"to http://127.0.0.1/{WEBHOOK_PATH}"):
        assert found_in(f"said {text}.")


def test_a_setting_that_is_wrong_beside_a_secret_quotes_none(
    cli: Callable[..., Any], planted: dict[str, Any]
) -> None:
    variables = {PREFIX + name.upper(): value for name, value in PLANTED.items()}
    wrong = {"TIDEGATE_RANGE_MS": "many", "TIDEGATE_WEBHOOK_URL": f"x{WEBHOOK_PATH}"} | {
        "TIDEGATE_KAFKA": "me:pl4nted@broker:9092",
        "TIDEGATE_CLICKHOUSE": "https://me:pl4nted@store/tidegate",
        "TIDEGATE_SCHEMA_REGISTRY_URL": "https://registry/?apikey=pl4nted",
    }
    done = cli("config", "show", **variables | wrong)
    assert done.code == 3
    assert {name for name in wrong if name in done.err} == wrong.keys()
    assert found_in(done.out + done.err) == set()
