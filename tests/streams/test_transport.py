import asyncio
import ssl

import certifi
import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from tidegate_infra.settings import Settings
from tidegate_streams import transport

USER = {"kafka_username": "stream", "kafka_password": "hunter2"}


def configured(**settings):
    async def build():
        return transport.build("app", Settings(**settings), positions=None)

    return asyncio.run(build())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kafka_security_protocol": "plaintext"}, {"security_protocol": "PLAINTEXT"}),
        ({"kafka_security_protocol": "ssl"}, {"security_protocol": "SSL"}),
        (
            {"kafka_security_protocol": "sasl_plaintext", "kafka_sasl_mechanism": "PLAIN", **USER},
            {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"},
        ),
        (
            {"kafka_security_protocol": "sasl_ssl", "kafka_ca": certifi.where(), **USER},
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"},
        ),
    ],
)
def test_the_security_settings_of_kafka_reach_producer_and_consumer(settings, expected):
    app = configured(**settings)
    auth = credentials_to_aiokafka_auth(app.conf.broker_credentials, app.conf.ssl_context)
    assert app.producer._settings_auth() == auth
    assert expected.items() <= auth.items()
    if "sasl_mechanism" in expected:
        assert (auth["sasl_plain_username"], auth["sasl_plain_password"]) == ("stream", "hunter2")
        assert "hunter2" not in repr(app.conf.broker_credentials)
    if expected["security_protocol"].endswith("SSL"):
        assert isinstance(auth["ssl_context"], ssl.SSLContext)
        assert auth["ssl_context"].verify_mode == ssl.CERT_REQUIRED


def test_all_servers_are_known_to_the_client():
    app = configured(kafka="a:1,b:2")
    assert [(url.host, url.port) for url in app.conf.broker] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("session_ms", [6_000, 45_000])
def test_a_session_is_what_the_settings_say_and_no_longer_than_requests_may_take(session_ms):
    conf = configured(kafka_session_ms=session_ms).conf
    assert conf.broker_session_timeout == session_ms / 1_000
    assert conf.broker_heartbeat_interval < conf.broker_session_timeout / 2
    assert conf.broker_request_timeout >= conf.broker_session_timeout, "Faust refuses to start"


def test_the_producer_may_neither_lose_nor_repeat():
    extra = configured().producer._settings_extra()
    assert extra["enable_idempotence"] is True
    assert extra["acks"] == "all"
