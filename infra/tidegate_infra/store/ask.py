"""What a request asks for, read from its method, URL and headers."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate_infra.store import codings
from tidegate_infra.store.accounts import Account
from tidegate_infra.store.errors import Code, StatementError

# Words of the HTTP interface itself; every other parameter of a URL is a setting of the engine.
_INTERFACE = frozenset(
    (
        *("query", "query_id", "user", "password", "role", "quota_key", "database", "default_format"),
        *("session_id", "session_timeout", "session_check", "close_session", "stacktrace", "buffer_size"),
        *(
            "wait_end_of_query",
            "client_protocol_version",
            "compress",
            "decompress",
            "enable_http_compression",
        ),
        *(
            "http_zlib_compression_level",
            "send_progress_in_http_headers",
            "http_headers_progress_interval_ms",
        ),
        "cancel_http_readonly_queries_on_client_close",
    )
)
_LIMITS = {"max_execution_time": "60", "max_memory_usage": "2000000000"}
_READERS_MAY_SET = ("output_format_", "format_", "date_time_output_format")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for.

    Parameters
    ----------
    sql
        The statement, or its beginning, from the URL.
    query_id
        Given or made.
    mark
        Of this request alone, for a client may use its query_id again.
    database
        Current database; empty means `default`.
    settings
        Of the engine; `readonly` among them says whether the statement may change anything.
    parameters
        Values of ``{name:Type}`` in the statement.
    default_format
        Of the output, unless the statement names one.
    waits
        Whether the answer may only begin when it is complete.
    request_coding, answer_coding
        Content codings of the body and of the answer; empty for none.
    """

    sql: bytes
    query_id: str
    mark: str
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    default_format: str = "TabSeparated"
    waits: bool = False
    request_coding: str = ""
    answer_coding: str = ""

    @property
    def may_write(self) -> bool:
        """Whether the statement may change anything."""
        return self.settings.get("readonly", "0") == "0"


def read(method: str, url: Mapping[str, str], headers: Mapping[str, str], account: Account) -> Ask:
    """Read a request.

    Parameters
    ----------
    method
        ``GET`` and ``HEAD`` may only read, as with a server.
    url
        Parameters of the URL, and of a form.
    headers
        With lower-case names.
    account
        Who asks.

    Raises
    ------
    StatementError
        Something is asked for that the store does not do, or that the account must not.
    """
    for name in ("compress", "decompress"):
        if _is_on(url.get(name, "")):
            raise StatementError(
                Code.NOT_IMPLEMENTED, f"{name}=1 is not supported: use Content-Encoding and Accept-Encoding"
            )
    query_id = url.get("query_id") or headers.get("x-clickhouse-query-id") or str(uuid.uuid4())
    if not query_id.isprintable() or not query_id.isascii() or len(query_id) > 200:
        raise StatementError(Code.SYNTAX_ERROR, "a query_id has up to 200 printable ASCII characters")
    mark = f"{query_id}#{uuid.uuid4().hex}"
    settings = {
        name: value for name, value in url.items() if name not in _INTERFACE and not name.startswith("param_")
    }
    settings["log_comment"] = f"{mark} {settings.get('log_comment', '')}".rstrip()
    packs = _is_on(url.get("enable_http_compression", ""))
    return Ask(
        sql=url.get("query", "").encode(errors="surrogateescape"),
        query_id=query_id,
        mark=mark,
        database=url.get("database") or headers.get("x-clickhouse-database", ""),
        settings=_restricted(settings, method, account),
        parameters={name[6:]: value for name, value in url.items() if name.startswith("param_")},
        default_format=url.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated",
        waits=_is_on(url.get("wait_end_of_query", "")),
        request_coding=headers.get("content-encoding", "").strip().lower(),
        answer_coding=codings.accepted(headers.get("accept-encoding", "")) if packs else "",
    )


def _restricted(settings: dict[str, str], method: str, account: Account) -> dict[str, str]:
    asked = settings.pop("readonly", "0")
    if account.writes:
        readonly = asked if asked != "0" else "0" if method == "POST" else "2"
        # Last: what is set after it is refused.
        return {**settings, "readonly": readonly}
    limits = dict(_LIMITS)
    for name, value in settings.items():
        if name == "max_execution_time" and value.isdigit() and 0 < int(value) < int(_LIMITS[name]):
            limits[name] = value
        elif name != "log_comment" and not name.startswith(_READERS_MAY_SET):
            raise StatementError(Code.READONLY, f"Cannot modify {name!r} setting in readonly mode")
    return {**settings, **limits, "readonly": "1"}


def _is_on(value: str) -> bool:
    return value.lower() in {"1", "true"}
