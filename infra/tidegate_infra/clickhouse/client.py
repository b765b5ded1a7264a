"""Clients for the store that `Settings.clickhouse` names."""

import logging
from typing import cast
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from clickhouse_connect.driver.httpclient import HttpClient
from urllib3 import Timeout

from tidegate.errors import ConfigError, DependencyUnavailable
from tidegate_infra.settings import Settings

# They warn of what is raised as well.
for _name in ("urllib3.connectionpool", "clickhouse_connect"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_CONNECT_SECONDS = 10
_FIRST_ANSWER_SECONDS = 15
"""How long the store may take to say who it is, which costs it nothing: longer, and it is frozen."""

_UNKNOWN_DATABASE = 81
_REFUSED_USER = frozenset({192, 193, 194, 497, 516})


def connect(settings: Settings, readonly: bool = False, answer_seconds: float = 300) -> Client:
    """Connect to ClickHouse; the database is made if it is not there.

    The client may be used by several threads, and keeps connections of its own.

    Parameters
    ----------
    settings
        `clickhouse`, `clickhouse_user`, `clickhouse_password`, `clickhouse_ca`.
    readonly
        For questions only: the store refuses every change, and no database is made.
    answer_seconds
        How long an answer is waited for; afterwards it is not known what the store has done.

    Raises
    ------
    DependencyUnavailable
        ClickHouse does not answer.
    ConfigError
        It refuses the user, or has no such database.
    """
    database = urlsplit(settings.clickhouse).path.strip("/")
    try:
        return _client(settings, database, readonly=readonly, answer_seconds=answer_seconds)
    except DatabaseError as error:
        if error.code != _UNKNOWN_DATABASE or readonly:
            raise _explained(settings, error) from None
    except OSError as error:
        raise _unavailable(settings, error) from None
    try:
        first = _client(settings, "", readonly=False, answer_seconds=answer_seconds)
        first.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        first.close()
        return _client(settings, database, readonly=False, answer_seconds=answer_seconds)
    except DatabaseError as error:
        raise _explained(settings, error) from None


def _client(settings: Settings, database: str, *, readonly: bool, answer_seconds: float) -> Client:
    url, ca = urlsplit(settings.clickhouse), settings.clickhouse_ca
    if ca is not None and not ca.is_file():
        raise ConfigError(f"TIDEGATE_CLICKHOUSE_CA names {ca}, which is no file")
    try:
        client = clickhouse_connect.get_client(
            interface=url.scheme,
            host=url.hostname,
            port=url.port or (8443 if url.scheme == "https" else 8123),
            username=settings.clickhouse_user,
            password=settings.clickhouse_password.get_secret_value(),
            database=database or None,
            # 1 would also refuse a question that carries settings of its own.
            settings={"readonly": "2"} if readonly else None,
            ca_cert=None if ca is None else str(ca),
            client_name="tidegate",
            connect_timeout=_CONNECT_SECONDS,
            send_receive_timeout=min(answer_seconds, _FIRST_ANSWER_SECONDS),
            # Sessions would forbid a client to threads, and the sinks need none.
            autogenerate_session_id=False,
            dedicated_pool=True,
        )
    except OperationalError as error:
        raise _unavailable(settings, error) from None
    cast("HttpClient", client).timeout = Timeout(connect=_CONNECT_SECONDS, read=answer_seconds)
    return client


def _unavailable(settings: Settings, error: Exception) -> ConfigError | DependencyUnavailable:
    words = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return ConfigError(
            f"ClickHouse at {settings.clickhouse} shows a certificate that is not trusted: let "
            "TIDEGATE_CLICKHOUSE_CA name the file of who signed it, and TIDEGATE_CLICKHOUSE its own name"
        )
    if "SSLError" in words:
        return ConfigError(
            f"TLS with {settings.clickhouse} fails: if it speaks none, let "
            "TIDEGATE_CLICKHOUSE begin with http://, or name the port that does"
        )
    return DependencyUnavailable(
        f"ClickHouse at {settings.clickhouse} does not answer ({reason(error)}): start it (`tidegate up` "
        "for a local one), or set TIDEGATE_CLICKHOUSE"
    )


def _explained(settings: Settings, error: DatabaseError) -> ConfigError | DependencyUnavailable:
    if error.code in _REFUSED_USER:
        return ConfigError(
            f"ClickHouse at {settings.clickhouse} refuses user {settings.clickhouse_user!r}: check "
            "TIDEGATE_CLICKHOUSE_USER and TIDEGATE_CLICKHOUSE_PASSWORD"
        )
    if error.code == _UNKNOWN_DATABASE:
        return ConfigError(
            f"ClickHouse at {settings.clickhouse} has no such database: `tidegate migration up` makes it"
        )
    # Too many queries, no memory, no space: mostly what passes.
    return DependencyUnavailable(f"ClickHouse at {settings.clickhouse} does not serve: {reason(error)}")


def reason(error: Exception) -> str:
    """Return why ClickHouse was not reached, or what it refused, in words for a person."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    words = str(cause)
    if "ConnectionPool(" in words:
        # The first words name the object that failed; the last ones say why.
        words = words.rpartition(": ")[2]
    return words or type(cause).__name__
