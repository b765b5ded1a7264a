"""Who may do what: one account that writes, and one that only reads."""

import hmac
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate_infra.store.errors import Code, StatementError


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the store.

    Parameters
    ----------
    name, password
        As in requests; an empty password means none.
    writes
        Whether the account may change anything.
    """

    name: str
    password: str
    writes: bool


def authenticate(
    accounts: tuple[Account, ...], headers: Mapping[str, str], url: Mapping[str, str]
) -> Account:
    """Find the account that a request comes from.

    Parameters
    ----------
    accounts
        Those that exist.
    headers
        Of the request, with lower-case names: ``authorization`` or ``x-clickhouse-user`` and ``-key``.
    url
        Its parameters: ``user`` and ``password``.

    Raises
    ------
    StatementError
        There is no such account, or the password is wrong.
    """
    name, password = _credentials(headers, url)
    found = None
    for account in accounts:
        # Every account is compared, so that the time taken tells nothing.
        same_name = hmac.compare_digest(account.name.encode(), name.encode())
        if hmac.compare_digest(account.password.encode(), password.encode()) and same_name:
            found = account
    if found is not None:
        return found
    if not password:
        raise StatementError(Code.REQUIRED_PASSWORD, f"user {name!r} is unknown here or needs a password")
    raise StatementError(Code.AUTHENTICATION_FAILED, f"user {name!r} is unknown here or has another password")


def _credentials(headers: Mapping[str, str], url: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, colon, password = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:  # no base64, or no text of ASCII or UTF-8
            colon = ""
        if not colon:
            raise StatementError(Code.AUTHENTICATION_FAILED, "the Authorization header is no Basic header")
        return name or "default", password
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
    return url.get("user", "default"), url.get("password", "")
