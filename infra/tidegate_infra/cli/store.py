"""The store as commands use it: connected, and with its errors said in a line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from tidegate.errors import ConfigError, DependencyUnavailable, Refused, TidegateError
from tidegate_infra.clickhouse import client, migrations
from tidegate_infra.settings import Settings


@contextmanager
def connected(settings: Settings, *, readonly: bool = True) -> Iterator[Client]:
    """Connect to the store for the time of a command.

    Raises
    ------
    ConfigError
        The tables are not there.
    DependencyUnavailable
        The store does not answer.
    Refused
        A statement would change something.
    TidegateError
        A statement is wrong, or failed; in the store's own words.
    """
    with client.connect(settings, readonly=readonly) as store:
        try:
            yield store
        except Error as error:
            raise _explained(store, error) from None


class Code:
    """Codes of ClickHouse's errors."""

    UNKNOWN_FUNCTION = 46
    """Also a view with parameters that is not there."""
    UNKNOWN_TABLE = 60
    READONLY = 164


def _explained(store: Client, error: Error) -> TidegateError:
    words = said_by_store(str(error))
    match error.code:
        case None:
            return DependencyUnavailable(f"the store did not answer: {words}")
        case Code.UNKNOWN_TABLE | Code.UNKNOWN_FUNCTION if any(
            one.state != "applied" for one in migrations.status(store)
        ):
            return ConfigError(f"{words}; `tidegate migration up` makes the tables of Tidegate")
        case Code.READONLY:
            return Refused(f"only reading is allowed, unless you say --write: {words}")
        case _:
            return TidegateError(words)


_GRAMMAR = re.compile(r" Expected one of: .{200,}")


def said_by_store(message: str) -> str:
    """Return the server's message alone, in one line: without the driver's words and the server's version."""
    words = message.partition("DB::Exception: ")[2] or message
    words = words.rpartition(" (version ")[0] or words
    # The grammar's two hundred alternatives, which hide what is wrong.
    return _GRAMMAR.sub("", " ".join(words.split()))
