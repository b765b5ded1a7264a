"""The store as commands use it: connected, and with its errors said in a line."""

from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from tidegate.errors import ConfigError, DependencyUnavailable, Refused, TidegateError
from tidegate_infra.clickhouse import client
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
        The store refuses a statement for another reason, in its own words.
    """
    with client.connect(settings, readonly=readonly) as store:
        try:
            yield store
        except Error as error:
            raise _explained(error) from None


class Code:
    """Codes of ClickHouse's errors."""

    UNKNOWN_TABLE = 60
    READONLY = 164


def _explained(error: Error) -> TidegateError:
    match error.code:
        case None:
            return DependencyUnavailable(f"the store did not answer: {error}")
        case Code.UNKNOWN_TABLE:
            return ConfigError(f"{error}; `tidegate migration up` makes the tables of Tidegate")
        case Code.READONLY:
            return Refused(f"only reading is allowed, unless you say --write: {error}")
        case _:
            return TidegateError(str(error))
